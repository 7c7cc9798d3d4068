#!/usr/bin/env bash
# Runs the kernels' tests with gcov's counters in the kernels and prints how many lines of kernels/cuda were executed and which
# were not; fails below 98 %. The sizes left out execute no other lines.
set -euo pipefail
cd "$(dirname "$0")/.."
least=98
coverage=${BUILD:-build}/emulated/coverage
find "$coverage" -name '*.gcda' -delete
"$coverage"/test_kernels --gtest_brief=1 \
  --gtest_filter='-*_97x*:*_257x*:*97_*:*257_*:*1025*:Bugs/*:Compile.*' >"$coverage/tests.log" ||
  { tail -n 40 "$coverage/tests.log"; exit 1; }

# A line of a template is listed once for each instantiation and counts as executed if one of them was.
find "$coverage" -name '*.gcda' -exec "${GCOV:-gcov}" --stdout {} + 2>/dev/null |
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
    }' | tee "$coverage/lines.txt"
