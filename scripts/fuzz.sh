#!/usr/bin/env bash
# usage: fuzz.sh check CLANG           can fuzzers be built? Says what is missing
#        fuzz.sh run SECONDS TARGET... runs $BUILD/fuzzers/TARGET, each for so long, $JOBS side by side
#
# One line for each target: executions, executions a second, and "ok" or the file that reproduces a finding; the total last. What
# libFuzzer keeps lies in $BUILD/corpus/TARGET and serves the next run. Exit status 1 if there is a finding.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/fuzz}
# A reader that takes more memory, or more seconds of a core, than this for an input of a few kB is a finding. libFuzzer's own clock
# is that of the wall: what it calls slow may have waited for a core.
slow=${FUZZ_SLOW_SECONDS:-5}
limits=(-timeout=60 -report_slow_units="$slow" -rss_limit_mb=512 -malloc_limit_mb=512)

check() {
  local clang=$1 reason
  command -v "$clang" >/dev/null || {
    echo "make fuzz needs clang with libFuzzer, and there is no $clang; on Debian: apt-get install clang libclang-rt-14-dev." >&2
    echo "Another one: make fuzz CLANG=..." >&2
    return 1
  }
  reason=$(echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
    "$clang" -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>&1) || {
    echo "make fuzz: $clang can't link a fuzzer; on Debian its runtime is in libclang-rt-14-dev. It says:" >&2
    echo "$reason" >&2
    return 1
  }
}

stat_of() { sed -n "s/^stat::$2: *//p" "$1" | tail -n 1; }

# The first input in directory $2 that is slow by itself too; the others are forgotten.
slow_input() {
  local input spent
  for input in "$2"/slow-unit-*; do
    [ -e "$input" ] || continue
    spent=$({ TIMEFORMAT=%U; time "$build/fuzzers/$1" "$input" >/dev/null 2>&1 </dev/null; } 2>&1)
    if awk -v spent="$spent" -v most="$slow" 'BEGIN { exit !(spent > most) }'; then
      echo "$input"
      return
    fi
    rm "$input"
  done
}

run_target() {
  local target=$1 found=$build/findings/$1 corpus=$build/corpus/$1 log=$build/logs/$1.txt code=0 verdict=ok slowest
  mkdir -p "$found" "$corpus" "$build/logs"
  ASAN_OPTIONS=quarantine_size_mb=16:malloc_context_size=3:detect_leaks=1 "$build/fuzzers/$target" -max_total_time="$seconds" -print_final_stats=1 \
    "${limits[@]}" -artifact_prefix="$found/" "$corpus" "tests/fuzz/corpus/$target" >"$log" 2>&1 </dev/null || code=$?
  if [ "$code" != 0 ]; then
    verdict=$(sed -n 's/.*Test unit written to //p' "$log" | grep -v /slow-unit- | tail -n 1)
    verdict="FINDING ${verdict:-exit code $code} (see $log)"
  else
    slowest=$(slow_input "$target" "$found")
    if [ -n "$slowest" ]; then verdict="FINDING $slowest (slower than $slow s)"; fi
  fi
  printf '%-22s %10s executions %8s/s  %s\n' "$target" "$(stat_of "$log" number_of_executed_units)" \
    "$(stat_of "$log" average_exec_per_sec)" "$verdict"
}

# Never more than $JOBS at a time.
run_all() {
  local target
  for target in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do wait -n; done
    run_target "$target" &
  done
  wait
}

case ${1:-} in
  check) check "${2:?the compiler}" ;;
  run)
    seconds=${2:?seconds}
    shift 2
    TMPDIR=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" fuzz-facet-XXXXXX)
    export TMPDIR
    trap 'rm -rf "$TMPDIR"' EXIT
    results=$TMPDIR/results
    run_all "$@" | tee "$results"
    findings=$(grep -c ' FINDING ' "$results")
    echo "total: $# targets, $(awk '{ n += $2 } END { printf "%.0f", n }' "$results") executions, $findings findings"
    [ "$findings" = 0 ]
    ;;
  *)
    echo 'usage: fuzz.sh check CLANG | run SECONDS TARGET...' >&2
    exit 2
    ;;
esac
