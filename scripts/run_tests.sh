#!/usr/bin/env bash
# Runs the tests that are built and sums them up: passed, failed, skipped, the ten slowest. usage: run_tests.sh quick|all
#
# Every test program and every tests/e2e/*.sh prints GoogleTest's result lines, "[       OK ] Suite.Name (12 ms)". A test
# may skip itself only for a reason that stands in tests/skip_reasons.txt.
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:?usage: run_tests.sh quick|all}
export GTEST_COLOR=no
export BUILD=${BUILD:-build}
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs one command as the test group $1; a crash or a non-zero exit without a failed line counts as a failure.
group() {
  local name=$1 before after code
  shift
  before=$(grep -c '^\[  FAILED  \].*(.*ms)$' "$log")
  echo "== $name"
  timeout 1500 "$@" >"$log.part" 2>&1
  code=$?
  sed -n -E "s#^(\[ +(OK|FAILED|SKIPPED) +\]) (.*\([0-9]+ ms\))\$#\1 $name/\3#p" "$log.part" >>"$log"
  after=$(grep -c '^\[  FAILED  \].*(.*ms)$' "$log")
  if [ "$code" != 0 ] && [ "$after" = "$before" ]; then echo "[  FAILED  ] $name/exit-code-$code (0 ms)" >>"$log"; fi
  if [ "$code" != 0 ]; then tail -n 60 "$log.part"; fi
  grep -h '^facet-skip: ' "$log.part" >>"$log"
  rm -f "$log.part"
}

# Runs a script that checks one thing: exit 0 passes, 77 skips, anything else fails.
check() {
  local name=$1 started code
  shift
  started=$(date +%s%3N)
  "$@" >"$log.part" 2>&1
  code=$?
  local took="($(($(date +%s%3N) - started)) ms)"
  case $code in
    0) echo "[       OK ] $name $took" >>"$log" ;;
    77) echo "[  SKIPPED ] $name $took" >>"$log" ;;
    *) echo "[  FAILED  ] $name $took" >>"$log"; tail -n 40 "$log.part" ;;
  esac
  grep -h '^facet-skip: ' "$log.part" >>"$log"
  rm -f "$log.part"
}

check layers scripts/check_layers.sh
check format scripts/check_format.sh
for program in "$BUILD"/tests/test_*; do
  [ -x "$program" ] || continue
  room=${program##*/test_}
  if [ "$room" = comm ] || [ "$room" = zero ] || [ "$room" = checkpoint ]; then
    for ranks in 1 2 3 4; do group "$room-$ranks" mpirun -n "$ranks" --oversubscribe "$program"; done
  else
    group "$room" "$program"
  fi
done
for script in tests/e2e/*.sh; do
  [ -e "$script" ] || continue
  [ "$script" != tests/e2e/lib.sh ] || continue
  if [ "$mode" = quick ] && ! grep -q '^# quick' "$script"; then continue; fi
  group "e2e" bash "$script"
done
group kernels "$BUILD"/emulated/test_kernels
for ranks in 1 2 3 4; do group "device-comm-$ranks" mpirun -n "$ranks" --oversubscribe "$BUILD"/emulated/test_comm; done
if [ "$mode" = all ]; then
  group curves "$BUILD"/emulated/test_curves --gtest_filter='-*TwoRanks*'
  group curves-2 mpirun -n 2 --oversubscribe "$BUILD"/emulated/test_curves --gtest_filter='*TwoRanks*'
  group kernels-sanitized "$BUILD"/emulated/test_kernels_sanitized
  group kernels-race "$BUILD"/emulated/test_kernels_race
  check kernel-coverage scripts/kernel_coverage.sh
  for ranks in 1 2; do group "device-comm-race-$ranks" mpirun -n "$ranks" --oversubscribe "$BUILD"/emulated/test_comm_race; done
  for program in "$BUILD"/sanitized/tests/test_*; do
    [ -x "$program" ] || continue
    room=${program##*/test_}
    group "sanitized-$room" env ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=2 "$program"
  done
fi

passed=$(grep -c '^\[       OK \]' "$log")
failed=$(grep -c '^\[  FAILED  \]' "$log")
skipped=$(grep -c '^\[  SKIPPED \]' "$log")
echo
echo "the ten slowest:"
sed -n -E 's/^\[       OK \] (.*) \(([0-9]+) ms\)$/\2 ms  \1/p' "$log" | sort -rn | head -10
if [ "$mode" = all ]; then tail -n 1 "$BUILD"/emulated/coverage/lines.txt; fi
grep '^\[  FAILED  \]' "$log"
while read -r line; do
  reason=${line#facet-skip: }
  if ! grep -qxF "$reason" tests/skip_reasons.txt 2>/dev/null; then
    echo "skipped for a reason that is not in tests/skip_reasons.txt: $reason"
    failed=$((failed + 1))
  fi
done < <(grep '^facet-skip: ' "$log")
if [ "$skipped" != "$(grep -c '^facet-skip: ' "$log")" ]; then
  echo "a skipped test printed no line 'facet-skip: REASON'"
  failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
