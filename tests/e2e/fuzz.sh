#!/usr/bin/env bash
# scripts/fuzz.sh says what can't be built, counts executions, and fails with the file that reproduces a finding.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# fuzzer NAME EXIT-CODE LINE...: a program that ends like that, as libFuzzer does.
fuzzer() {
  local path=$work/fuzzers/$1 code=$2
  shift 2
  mkdir -p "$work/fuzzers"
  { echo '#!/bin/sh' && printf 'echo "%s"\n' "$@" && echo "exit $code"; } >"$path"
  chmod +x "$path"
}
fuzz() { BUILD=$work JOBS=2 timeout 60 scripts/fuzz.sh "$@" >"$output" 2>&1; }

sound_targets() {
  fuzzer first 0 'stat::number_of_executed_units: 1200' 'stat::average_exec_per_sec: 600'
  fuzzer second 0 'stat::number_of_executed_units: 34' 'stat::average_exec_per_sec: 17'
  fuzz run 1 first second
  grep -qE '^first +1200 executions +600/s +ok$' "$output"
  grep -qE '^second +34 executions +17/s +ok$' "$output"
  once 'total: 2 targets, 1234 executions, 0 findings'
}

a_finding() {
  fuzzer first 0 'stat::number_of_executed_units: 5' 'stat::average_exec_per_sec: 5'
  fuzzer broken 77 'SUMMARY: AddressSanitizer' "Test unit written to $work/findings/broken/crash-1" 'stat::number_of_executed_units: 3'
  if fuzz run 1 broken first; then fail 'a finding is no failure'; fi
  grep -qE "^broken +3 executions .* FINDING $work/findings/broken/crash-1 " "$output"
  once 'total: 2 targets, 8 executions, 1 findings'
}

# One that ended for another reason must not count as sound.
an_end_without_a_file() {
  fuzzer broken 127 'error while loading shared libraries'
  if fuzz run 1 broken; then fail 'no failure'; fi
  grep -q 'FINDING exit code 127' "$output"
}

# slow_fuzzer NAME SECONDS: one that reports an input as slow, which takes a core for so long.
slow_fuzzer() {
  fuzzer "$1" 0 'stat::number_of_executed_units: 3' 'stat::average_exec_per_sec: 1'
  mkdir -p "$work/findings/$1"
  echo "case \"\$1\" in */slow-unit-1) timeout $2 sh -c 'while :; do :; done' ;; *) : >$work/findings/$1/slow-unit-1 ;; esac" >"$work/busy"
  sed -i "1r $work/busy" "$work/fuzzers/$1"
}
# Slow on a machine that does other things is not slow.
a_slow_reader() {
  export FUZZ_SLOW_SECONDS=0.3
  slow_fuzzer waits 0.01
  fuzz run 1 waits
  grep -qE '^waits .* ok$' "$output"
  [ ! -e "$work/findings/waits/slow-unit-1" ]
  slow_fuzzer works 2
  if fuzz run 1 works; then fail 'a slow reader is no failure'; fi
  grep -qE "^works .* FINDING $work/findings/works/slow-unit-1 " "$output"
}

no_compiler() {
  if fuzz check no-such-clang; then fail 'no failure'; fi
  once 'there is no no-such-clang'
  fuzzer old-clang 1 'cannot find libclang_rt.fuzzer'
  if fuzz check "$work/fuzzers/old-clang"; then fail 'no failure'; fi
  once 'cannot find libclang_rt.fuzzer'
}

check Fuzz.SoundTargets sound_targets
check Fuzz.AFinding a_finding
check Fuzz.AnEndWithoutAFile an_end_without_a_file
check Fuzz.ASlowReader a_slow_reader
check Fuzz.NoCompiler no_compiler
finish
