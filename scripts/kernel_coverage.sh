#!/usr/bin/env bash
# Runs the kernels' tests in the sanitized program, which also has gcov's counters in the kernels, and prints how many lines of
# kernels/cuda were executed and which were not; fails where a test fails or below 98 %.
set -euo pipefail
cd "$(dirname "$0")/.."
least=98
emulated=${BUILD:-build}/emulated
objects=$emulated/sanitized/obj/kernels/cuda
find "$objects" -name '*.gcda' -delete
"$emulated/test_kernels_sanitized"

# A line of a template is listed once for each instantiation and counts as executed if one of them was.
find "$objects" -name '*.gcda' -exec "${GCOV:-gcov}" --stdout {} + 2>/dev/null |
  awk -F: -v least=$least '
    $2 + 0 == 0 && $3 == "Source" { file = $4; next }
    file !~ /^kernels\/cuda\/.*\.(cu|h)$/ || $2 !~ /^ *[0-9]+$/ { next }
    { count = $1; gsub(/[ *]/, "", count) }
    count == "-" { next }
    {
      place = file ":" ($2 + 0)
      if (!(place in lines)) { lines[place] = 0; order[++total] = place }
      if (count ~ /^[0-9]/ && count != "0") lines[place] = 1
    }
    END {
      for (i = 1; i <= total; ++i)
        if (lines[order[i]]) ++executed; else print "not executed: " order[i]
      share = total ? 100 * executed / total : 0
      printf "kernel lines executed: %d of %d, %.2f %% (at least %d %%)\n", executed, total, share, least
      exit share < least
    }' | tee "$emulated/coverage.txt"
