#!/usr/bin/env bash
# Tokens a second of greedy decoding (tests/bench/batch_decode_bench.cpp), one sequence and eight at the same time, alternating with
# the same model in Transformers if a Python with it is found (or given by PYTHON=/path/to/python); medians of the rounds and
# of their ratios. usage: bench_decode.sh [rounds] [threads]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
rounds=${1:-3}
threads=${2:-2}
export OMP_NUM_THREADS=$threads
log=$(mktemp)
trap 'rm -f "$log"' EXIT

with_reference=0
if reference=$(scripts/find_python.sh torch transformers); then with_reference=1; fi
for ((round = 1; round <= rounds; ++round)); do
  "$build/bench/batch_decode_bench" "$threads" >>"$log"
  if [ "$with_reference" = 1 ]; then "$reference" scripts/bench_decode.py "$threads" >>"$log"; fi
done

# Of the lines of standard input.
median() { sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
for count in 1 8; do
  ours=$(awk -v n="decode_$count" '$1 == n {print $2}' "$log" | median)
  if [ "$with_reference" = 1 ]; then
    theirs=$(awk -v n="transformers_$count" '$1 == n {print $2}' "$log" | median)
    ratio=$(awk -v c="$count" '$1 == "decode_" c {ours = $2} $1 == "transformers_" c {print ours / $2}' "$log" | median)
    printf '%d sequences: %.1f tokens/s, Transformers %.1f, ratio %.2f\n' "$count" "$ours" "$theirs" "$ratio"
  else
    echo "$count sequences: $ours tokens/s (no Python with PyTorch and Transformers found: set PYTHON to compare)"
  fi
done
