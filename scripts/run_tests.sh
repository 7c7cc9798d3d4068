#!/usr/bin/env bash
# Runs the tests that are built and sums them up: passed, failed, skipped, the ten slowest, and what each room took to build and
# to run. usage: run_tests.sh quick|all
#
# Every test program, every tests/e2e/*.sh and tests/analysis/run.sh print GoogleTest's result lines, "[       OK ] Suite.Name (12 ms)".
# A test may skip itself only for a reason that is in tests/skip_reasons.txt.
#
# Jobs run side by side as far as there are cores: a job says how much of one it keeps busy, in percent. Those that take longest
# come first, so that no core is idle at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
mode=${1:?usage: run_tests.sh quick|all}
export GTEST_COLOR=no
export BUILD=${BUILD:-build}
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
# Ranks of jobs that run side by side must not all be bound to the first cores.
export OMPI_MCA_hwloc_base_binding_policy=none
# A rank that waits for another leaves its core to the jobs beside it.
export OMPI_MCA_mpi_yield_when_idle=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
TIMEFORMAT='%R %U %S'

cores=$(nproc)
free=$((cores * 100))
declare -A share_of # of the jobs that run, by process
started=$SECONDS

names=() shares=() kinds=() commands=()
# job SHARE ROOM NAME command...: a program that prints result lines
job() { add lines "$@"; }
# one SHARE ROOM NAME command...: a script that checks one thing: exit 0 passes, 77 skips, anything else fails
one() { add verdict "$@"; }
add() {
  kinds+=("$1") shares+=("$2") names+=("$3/$4")
  shift 4
  commands+=("$(printf '%q ' "$@")")
}

# Runs job $1; its result lines go into a file of its own. A crash, or a non-zero exit without a failed line, is a failure.
run_job() {
  local name=${names[$1]} log=$logs/$1 code=0 ms
  mkdir "$log.tmp" # the same test of another build may run beside it
  { time TEST_TMPDIR=$log.tmp eval "timeout 1500 ${commands[$1]}" >"$log.out" 2>&1; } 2>"$log.time" || code=$?
  ms=$(awk '{ printf "%d", $1 * 1000 }' "$log.time")
  echo "${name%%/*} $(cat "$log.time")" >>"$logs/times"
  if [ "${kinds[$1]}" = verdict ]; then
    case $code in
      0) echo "[       OK ] $name ($ms ms)" ;;
      77) echo "[  SKIPPED ] $name ($ms ms)" ;;
      *) echo "[  FAILED  ] $name ($ms ms)" ;;
    esac >"$log.results"
    [ "$code" != 77 ] || code=0
  else
    sed -n -E "s#^(\[ +(OK|FAILED|SKIPPED) +\]) (.*\([0-9]+ ms\))\$#\1 $name/\3#p" "$log.out" >"$log.results"
    if [ "$code" != 0 ] && ! grep -q '^\[  FAILED  \]' "$log.results"; then
      echo "[  FAILED  ] $name/exit-code-$code (0 ms)" >>"$log.results"
    fi
  fi
  grep -h '^facet-skip: ' "$log.out" >>"$log.results"
  echo "== $name: $(grep -c '^\[       OK \]' "$log.results") passed, $(awk '{ print $1 }' "$log.time") s"
  if [ "$code" != 0 ]; then tail -n 60 "$log.out"; fi
}

# Starts every job, each as soon as its share of the cores is free; smaller ones overtake.
run_all() {
  local waiting=("${!names[@]}") i started_one ended
  while [ ${#waiting[@]} -gt 0 ] || [ ${#share_of[@]} -gt 0 ]; do
    started_one=0
    for i in "${!waiting[@]}"; do
      local index=${waiting[$i]}
      [ "${shares[$index]}" -le "$free" ] || continue
      run_job "$index" &
      share_of[$!]=${shares[$index]}
      free=$((free - ${shares[$index]}))
      unset "waiting[$i]"
      started_one=1
      break
    done
    [ "$started_one" = 1 ] && continue
    wait -n -p ended
    free=$((free + ${share_of[$ended]}))
    unset "share_of[$ended]"
  done
}

# What each room took of the cores, in seconds: compiles since `make check` began (scripts/timed.sh notes them), and tests.
account() {
  echo
  cat "$BUILD"/times.log "$BUILD"/sanitized/times.log 2>/dev/null |
    awk '
      function room_of(path,   parts, n) {
        n = split(path, parts, "/")
        if (parts[1] == "kernels" || parts[1] == "data") return parts[1]
        return n == 2 ? "other" : parts[2]
      }
      NR == FNR { run[$1] += $3 + $4; rooms[$1]; next }
      { room = room_of($1); rooms[room]; files[room]++; build[room] += $2 + $3 }
      END {
        printf "%-12s %9s %10s %8s\n", "room", "compiles", "build s", "tests s"
        for (room in rooms) {
          printf "%-12s %9d %10.0f %8.0f\n", room, files[room], build[room], run[room] | "sort -k3,3nr"
          n += files[room]; b += build[room]; r += run[room]
        }
        close("sort -k3,3nr")
        printf "%-12s %9d %10.0f %8.0f\n", "all", n, b, r
      }' "$logs/times" -
  echo "seconds of one core; the tests took $(((SECONDS - started) / 60)) min on $cores cores. Budget of make check, built without ccache: 40 min on 2 cores"
}

on_ranks() { echo mpirun -n "$1" --oversubscribe; }

# end_to_end SHARE NAME...: scripts of tests/e2e
end_to_end() {
  local share=$1 name
  shift
  for name in "$@"; do
    [ "$mode" = all ] || grep -q '^# quick' "tests/e2e/$name.sh" || continue
    job "$share" e2e "$name" bash "tests/e2e/$name.sh"
  done
}

one 100 scripts layers scripts/check_layers.sh
one 100 scripts gates scripts/check_gates.sh
one 100 scripts format scripts/check_format.sh
one 100 scripts sabotage-rows env CHECK=1 scripts/sabotage.sh
# Ranks of end-to-end tests wait most of the time, for the disk, for each other and for what a test lets happen: two scripts run
# beside a program that computes. So one such program goes before the longest scripts, and the next ones before the other scripts.
slow=(slurm saves watchdog resume train_export matrix zero generate soak)
others=$(cd tests/e2e && printf '%s\n' *.sh | sed 's/\.sh$//' | grep -vxF -e lib -e cuda "${slow[@]/#/-e}")
if [ "$mode" = all ]; then job 100 kernels sanitized scripts/kernel_coverage.sh; fi
end_to_end 50 "${slow[@]}"
if [ "$mode" = all ]; then job 100 kernels race "$BUILD"/emulated/test_kernels_race; fi
end_to_end 100 cuda # its ranks compute
job 100 kernels plain "$BUILD"/emulated/test_kernels
end_to_end 50 $others
if [ "$mode" = all ]; then
  job 100 golden curves "$BUILD"/emulated/test_curves --gtest_filter='-*TwoRanks*'
  job 100 golden curves-2 $(on_ranks 2) "$BUILD"/emulated/test_curves --gtest_filter='*TwoRanks*'
fi
job 100 analysis unit bash tests/analysis/run.sh
job 100 to_tar unit bash tests/to_tar/run.sh
for program in "$BUILD"/tests/test_*; do
  room=${program##*/test_}
  share=100
  if [ "$room" = checkpoint ]; then share=50; fi # it waits for the disk
  case $room in
    comm | zero | checkpoint) for ranks in 1 2 3 4; do job $share "$room" "$ranks" $(on_ranks "$ranks") "$program"; done ;;
    *) job 100 "$room" unit env OMP_WAIT_POLICY=passive "$program" ;;
  esac
done
for ranks in 1 2 3 4; do job 100 comm "device-$ranks" $(on_ranks "$ranks") "$BUILD"/emulated/test_comm; done
if [ "$mode" = all ]; then
  for ranks in 1 2; do job 100 comm "device-race-$ranks" $(on_ranks "$ranks") "$BUILD"/emulated/test_comm_race; done
  for program in "$BUILD"/sanitized/tests/test_*; do
    job 100 "${program##*/test_}" sanitized env ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive "$program"
  done
fi
run_all
results=$logs/all
find "$logs" -name '*.results' -exec cat {} + >"$results"
passed=$(grep -c '^\[       OK \]' "$results")
failed=$(grep -c '^\[  FAILED  \]' "$results")
skipped=$(grep -c '^\[  SKIPPED \]' "$results")
echo
echo "the ten slowest:"
sed -n -E 's/^\[       OK \] (.*) \(([0-9]+) ms\)$/\2 ms  \1/p' "$results" | sort -rn | head -10
if [ "$mode" = all ]; then tail -n 1 "$BUILD"/emulated/coverage.txt; fi
grep '^\[  FAILED  \]' "$results"
while read -r line; do
  reason=${line#facet-skip: }
  if ! grep -qxF "$reason" tests/skip_reasons.txt 2>/dev/null; then
    echo "skipped for a reason that is not in tests/skip_reasons.txt: $reason"
    failed=$((failed + 1))
  fi
done < <(grep '^facet-skip: ' "$results")
if [ "$skipped" != "$(grep -c '^facet-skip: ' "$results")" ]; then
  echo "a skipped test printed no line 'facet-skip: REASON'"
  failed=$((failed + 1))
fi
account
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
