#!/usr/bin/env bash
# Tests the tests: breaks one promise at a time by a one-line patch in a copy of the tree and shows that the named test fails.
# usage: sabotage.sh [WORD]    only rows with WORD in the promise, the file or the test
#        CHECK=1 sabotage.sh   only looks whether every row finds its text and its end-to-end case
#
# tests/sabotage/ROOM.txt holds one block per promise, with fields in this order:
#   promise: what is promised
#   file: the file to break, in that room
#   old: the text to replace. It must occur exactly once in the file, however its lines are broken and indented
#   new: the replacement
#   test: NAME of build/tests/test_NAME (kernels, kernels_sanitized, kernels_race: of build/emulated; device_comm:
#         build/emulated/test_comm; curves, curves_2: build/emulated/test_curves on 1 and 2 ranks; fuzz: build/sanitized/tests/test_fuzz,
#         whose tests are All/Corpus.IsRefusedOrRead/TARGET) and a --gtest_filter, or
#         a script under tests/e2e, tests/analysis/run.sh or tests/to_tar/run.sh, and a pattern of its cases, or a script under scripts
set -uo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
copy=build/sabotage/tree

# The tree as it is: copies changed files only, so that make rebuilds only what differs, and removes what is gone.
make_copy() {
  mkdir -p "$copy"
  git ls-files --cached --others --exclude-standard | while read -r path; do
    [ -e "$path" ] || continue
    cmp -s "$path" "$copy/$path" && continue
    mkdir -p "$copy/$(dirname "$path")"
    cp -p "$path" "$copy/$path"
    touch "$copy/$path"
  done
  (cd "$copy" && find . -path ./build -prune -o -type f -print) | while read -r path; do
    [ -e "$path" ] || rm -f "$copy/$path"
  done
}

# Prints the file with the one occurrence of $old replaced by $new; fails unless there is exactly one.
replace_once() {
  OLD=$2 NEW=$3 perl -0777 -ne '
    $old = join("\\s+", map { quotemeta } split(" ", $ENV{OLD}));
    $count = () = /$old/g;
    exit 1 if $count != 1;
    s/$old/$ENV{NEW}/;
    print;' "$1"
}

# Builds and runs one test in the copy; its exit status is the verdict, 99 if it does not build.
run_test() {
  local name=$1 filter=${2:-*}
  case $name in
    scripts/*.sh) (cd "$copy" && timeout 120 bash "$name" >test.log 2>&1) ;;
    *.sh)
      local programs=(all build/make_tiny)
      case $name in */cuda.sh) programs+=(build/emulated/facet) ;; */gpu_bench.sh) programs+=(build/emulated/gpu_bench) ;; esac
      make -C "$copy" -j"$(nproc)" "${programs[@]}" >"$copy/make.log" 2>&1 || return 99
      (cd "$copy" && ONLY=$filter BUILD=build timeout 600 bash "$name" >test.log 2>&1)
      local code=$?
      grep -q '^\[ RUN ' "$copy/test.log" || { echo "  no case of $name matches $filter"; return 98; }
      return $code
      ;;
    *)
      local program=build/tests/test_$name
      case $name in kernels | kernels_sanitized | kernels_race) program=build/emulated/test_$name ;; device_comm) program=build/emulated/test_comm ;; curves | curves_2) program=build/emulated/test_curves ;; fuzz) program=build/sanitized/tests/test_fuzz ;; esac
      make -C "$copy" -j"$(nproc)" "$program" >"$copy/make.log" 2>&1 || return 99
      local launch=()
      case $name in comm | zero | checkpoint | device_comm) launch=(mpirun -n 3 --oversubscribe) ;; curves_2) launch=(mpirun -n 2 --oversubscribe) ;; esac
      (cd "$copy" && timeout 120 "${launch[@]}" "$program" "--gtest_filter=$filter" >test.log 2>&1)
      local code=$?
      grep -q '^\[==========\] 0 tests' "$copy/test.log" && { echo "  no test matches $filter"; return 98; }
      return $code
      ;;
  esac
}

# As far as can be told without running it: is there an end-to-end case of that name?
names_a_case() {
  case $1 in
    tests/e2e/*) grep -qF -- "${2%%\**}" "$1" ;;
    tests/analysis/* | tests/to_tar/*) names_a_python_test "${2%%\**}" ;;
  esac
}

# "Suite.AFact", or its beginning, is test_a_fact of class SuiteTest.
names_a_python_test() {
  local method
  method=$(sed 's/\([A-Z]\)/_\l\1/g' <<<"${1#*.}")
  grep -qE "^class ${1%%.*}Test\\(" tests/{analysis,to_tar}/*_test.py && grep -qF "def test$method" tests/{analysis,to_tar}/*_test.py
}

red=0
wrong=0
judge() {
  local broken
  case "$promise $file $test" in *"$only"*) ;; *) return ;; esac
  if ! broken=$(replace_once "$file" "$old" "$new" && echo .); then
    echo "$promise: BROKEN ROW: its text does not occur exactly once in $file"
    wrong=$((wrong + 1))
    return
  fi
  if [ -n "${CHECK:-}" ]; then
    # shellcheck disable=SC2086
    if names_a_case $test; then
      red=$((red + 1))
    else
      echo "$promise: BROKEN ROW: no such case: $test"
      wrong=$((wrong + 1))
    fi
    return
  fi
  printf '%-64s ' "$promise"
  printf '%s' "${broken%.}" >"$copy/$file"
  # shellcheck disable=SC2086
  run_test $test </dev/null
  local code=$?
  cp "$file" "$copy/$file"
  touch "$copy/$file"
  case $code in
    0) echo "STAYS GREEN: $test"; wrong=$((wrong + 1)) ;;
    98) wrong=$((wrong + 1)) ;;
    99) echo "DOES NOT BUILD: see $copy/make.log"; wrong=$((wrong + 1)) ;;
    124 | 137) echo "red, timed out: $test"; red=$((red + 1)) ;;
    *) echo "red: $test"; red=$((red + 1)) ;;
  esac
}

judge_rows() {
  local line
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      'promise: '*) promise=${line#promise: } ;;
      'file: '*) file=${line#file: } ;;
      'old: '*) old=${line#old: } ;;
      'new: '*) new=${line#new: } ;;
      'new:') new= ;;
      'test: '*) test=${line#test: }; judge ;;
      '' | '#'*) ;;
      *) echo "$1: cannot read '$line'"; exit 1 ;;
    esac
  done <"$1"
}

if [ -z "${CHECK:-}" ]; then
  if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  export OMPI_MCA_rmaps_base_oversubscribe=1
  export FACET_CUDA=none # nvcc would compile what no test runs
  make_copy
fi
for rows in tests/sabotage/*.txt; do judge_rows "$rows"; done
if [ -n "${CHECK:-}" ]; then
  echo "$red rows find their text, $wrong do not"
else
  echo "$red promises turn their test red, $wrong do not"
fi
[ "$wrong" = 0 ] && [ "$red" -gt 0 ]
