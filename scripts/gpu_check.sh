#!/usr/bin/env bash
# On a machine with a GPU: the kernels' tests, the training curves, the program, and the tests under compute-sanitizer's tools; prints a table
# of steps. usage: gpu_check.sh DIRECTORY
#
# DIRECTORY gets one STEP.txt of each step's output. All together take LIMIT=560 seconds at most: steps come by what they are worth, and one
# that gets no time any more has not passed. STEPS="kernels curves": only these.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
logs=${1:?usage: gpu_check.sh DIRECTORY}
mkdir -p "$logs" && logs=$(cd "$logs" && pwd) || exit 1
BUILD=$(cd "${BUILD:-build}" && pwd) || exit 1
export BUILD GTEST_COLOR=no
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
tests=$BUILD/gpu/test_kernels
wanted() { case " ${STEPS:-$1} " in *" $1 "*) ;; *) return 1 ;; esac; }
needed=("$tests")
if wanted curves; then needed+=("$BUILD/gpu/test_curves"); fi
if wanted program && [ ! -e bundle_launch.sh ]; then needed+=("$BUILD/facet" "$BUILD/make_tiny"); fi
for program in "${needed[@]}"; do
  [ -x "$program" ] || { echo "$program is missing: make gpu-tests cuda $BUILD/make_tiny" >&2; exit 1; }
done

# A test program reports itself why it cannot run here.
if ! "$tests" --gtest_filter=Warp.VotesAndMatches >"$logs/gpu.txt" 2>&1; then
  tail -n 20 "$logs/gpu.txt" >&2
  exit 1
fi
grep '^GPU ' "$logs/gpu.txt"

# ---- the steps; the output of each goes to $log

# Most of the time is spent computing the expected values on one core.
kernels() {
  local limit=$1 shards=$(($(nproc) < 8 ? $(nproc) : 8)) i failed=0 pids=()
  shift
  for ((i = 0; i < shards; ++i)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$i timeout -k 5 "$limit" "$tests" "$@" >"$log.$i" 2>&1 &
    pids+=($!)
  done
  for i in "${!pids[@]}"; do wait "${pids[i]}" || failed=$?; done
  for ((i = 0; i < shards; ++i)); do cat "$log.$i" && rm "$log.$i"; done
  return "$failed"
}

# The same in every size, type and mode.
matrix() { FACET_WHOLE_MATRIX=1 kernels "$1" --gtest_filter='-RealSizes/*'; }
# At the sizes of the reference configuration.
real_sizes() { FACET_WHOLE_MATRIX=1 kernels "$1" --gtest_filter='RealSizes/*'; }

curves() { timeout -k 5 "$1" "$BUILD/gpu/test_curves" --gtest_filter='-*TwoRanks*'; }

# The cases of `make check`, with the program on a GPU instead of the emulation.
program() {
  ln -sf ../facet "$BUILD/gpu/facet"
  GPU_PROGRAM=$BUILD/gpu/facet timeout -k 5 "$1" bash tests/e2e/cuda.sh
}

sanitizer=
for path in "$(command -v compute-sanitizer)" "${CUDA_HOME:-/usr/local/cuda}"/{bin,compute-sanitizer}/compute-sanitizer; do
  if [ -z "$sanitizer" ] && [ -x "$path" ]; then sanitizer=$path; fi
done
readonly found=9 # the exit status where a tool reports something

# tool NAME SECONDS gtest-options...
tool() {
  local name=$1 limit=$2
  shift 2
  FACET_COMPUTE_SANITIZER=1 timeout -k 5 "$limit" "$sanitizer" --tool "$name" --error-exitcode "$found" --kernel-name kns=facet --target-processes all \
    "$tests" "$@"
}

# First a kernel with a bug that the tool must report, then the tests of our kernels (linear layers run cuBLASLt's).
sanitize() {
  local name=$1 limit=$2 code=0 began=$SECONDS
  [ -n "$sanitizer" ] || { echo "compute-sanitizer is not installed"; return 1; }
  tool "$name" "$limit" --gtest_also_run_disabled_tests --gtest_filter="DISABLED_PlantedFor.$name" >"$logs/$name.planted.txt" 2>&1 || code=$?
  [ "$code" = "$found" ] || { echo "$name ended with $code for a kernel with a bug, not with $found"; return 1; }
  limit=$((limit - SECONDS + began))
  [ "$limit" -gt 0 ] || return 124
  tool "$name" "$limit" --gtest_filter='-LinearProducts.*:*LinearParity*'
}

readonly all=${LIMIT:-560}
printf '%-10s %-8s %s\n' step verdict seconds
failed=0 ran=0
# step NAME SECONDS function argument...: one line of the table.
step() {
  local name=$1 limit=$2 started=$SECONDS verdict=passed code=0
  shift 2
  wanted "$name" || return
  log=$logs/$name.txt
  if [ "$limit" -gt $((all - SECONDS)) ]; then limit=$((all - SECONDS)); fi
  if [ "$limit" -le 0 ]; then code=124; else "$@" "$limit" >"$log" 2>&1 || code=$?; fi
  # A program that ran no test proves nothing.
  if [ "$code" != 0 ] || ! grep -q '^\[       OK \]' "$log"; then verdict=FAILED; fi
  if [ "$code" = 124 ] || [ "$code" = 137 ]; then verdict="TOO LONG"; fi
  printf '%-10s %-8s %s\n' "$name" "$verdict" $((SECONDS - started))
  ran=$((ran + 1))
  if [ "$verdict" = passed ]; then return; fi
  failed=$((failed + 1))
  grep -E '^\[  FAILED  \].*ms\)$|^=========|is not installed|for a kernel with a bug' "$log" | sed 's/^/  /' | head -n 10
}

step kernels 150 kernels
step curves 60 curves
step real 180 real_sizes
step memcheck 120 sanitize memcheck
step racecheck 120 sanitize racecheck
if wanted program && [ -e bundle_launch.sh ]; then
  echo 'program    not run: it takes 2 ranks, and programs of a bundle are one each'
else
  step program 150 program
fi
for name in synccheck initcheck; do step "$name" 60 sanitize "$name"; done
step matrix 420 matrix
echo "$((ran - failed)) of $ran steps passed; their output is in $logs"
[ "$failed" = 0 ] && [ "$ran" -gt 0 ]
