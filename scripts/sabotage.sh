#!/usr/bin/env bash
# Tests the tests: breaks one promise at a time by a one-line patch in a copy of the tree and shows that the named test fails.
# usage: sabotage.sh [WORD]    (only rows whose promise contains WORD)
#
# tests/sabotage.txt holds one block per promise, with fields in this order:
#   promise: what is promised
#   file: the file to break
#   old: the text to replace (must occur exactly once in the file)
#   new: the replacement
#   test: NAME of build/tests/test_NAME (kernels, kernels_sanitized, kernels_race: of build/emulated; device_comm:
#         build/emulated/test_comm; curves, curves_2: build/emulated/test_curves on 1 and 2 ranks) and a --gtest_filter, or a script under tests/e2e and a pattern of its cases
set -uo pipefail
cd "$(dirname "$0")/.."
only=${1:-}
copy=build/sabotage/tree
mkdir -p "$copy"
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
export OMPI_MCA_rmaps_base_oversubscribe=1
export FACET_CUDA=none  # nvcc would compile what no test runs

# Copies changed files only, so that make rebuilds only what differs.
git ls-files --cached --others --exclude-standard | while read -r path; do
  [ -e "$path" ] || continue
  cmp -s "$path" "$copy/$path" && continue
  mkdir -p "$copy/$(dirname "$path")"
  cp -p "$path" "$copy/$path"
  touch "$copy/$path"
done

# Removes files from the copy that are no longer in the tree.
(cd "$copy" && find . -path ./build -prune -o -type f -print) | while read -r path; do
  [ -e "$path" ] || rm -f "$copy/$path"
done

# Prints the file with the one occurrence of $old replaced by $new; fails unless there is exactly one.
replace_once() {
  OLD=$2 NEW=$3 awk '
    { text = text $0 "\n" }
    END {
      old = ENVIRON["OLD"]; at = index(text, old)
      if (!at || index(substr(text, at + length(old)), old)) exit 1
      printf "%s%s%s", substr(text, 1, at - 1), ENVIRON["NEW"], substr(text, at + length(old))
    }' "$1"
}

# Builds and runs one test in the copy; its exit status is the verdict, 99 if it does not build.
run_test() {
  local name=$1 filter=${2:-*}
  case $name in
    *.sh)
      local programs=(all build/make_tiny)
      case $name in */cuda.sh) programs+=(build/emulated/facet) ;; esac
      make -C "$copy" -j"$(nproc)" "${programs[@]}" >"$copy/make.log" 2>&1 || return 99
      (cd "$copy" && ONLY=$filter BUILD=build timeout 600 bash "$name" >test.log 2>&1)
      local code=$?
      grep -q '^\[ RUN ' "$copy/test.log" || { echo "  no case of $name matches $filter"; return 98; }
      return $code
      ;;
    *)
      local program=build/tests/test_$name
      case $name in kernels | kernels_sanitized | kernels_race) program=build/emulated/test_$name ;; device_comm) program=build/emulated/test_comm ;; curves | curves_2) program=build/emulated/test_curves ;; esac
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

red=0
wrong=0
judge() {
  case $promise in *"$only"*) ;; *) return ;; esac
  printf '%-64s ' "$promise"
  if ! replace_once "$file" "$old" "$new" >"$copy/$file.new"; then
    rm -f "$copy/$file.new"
    echo "BROKEN ROW: the text does not occur exactly once in $file"
    wrong=$((wrong + 1))
    return
  fi
  mv "$copy/$file.new" "$copy/$file"
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

promise=
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    'promise: '*) promise=${line#promise: } ;;
    'file: '*) file=${line#file: } ;;
    'old: '*) old=${line#old: } ;;
    'new: '*) new=${line#new: } ;;
    'new:') new= ;;
    'test: '*) test=${line#test: }; judge ;;
    '' | '#'*) ;;
    *) echo "tests/sabotage.txt: cannot read '$line'"; exit 1 ;;
  esac
done <tests/sabotage.txt
echo "$red promises turn their test red, $wrong do not"
[ "$wrong" = 0 ] && [ "$red" -gt 0 ]
