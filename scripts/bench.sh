#!/usr/bin/env bash
# Speed of a full fine-tuning step (tests/bench/step_bench.cpp) alternating with the same model in eager PyTorch, if a Python
# with PyTorch is found (or given by PYTHON=/path/to/python); the same for images (tests/bench/preprocess_bench.cpp), beside
# Pillow and Transformers. usage: bench.sh [steps] [threads]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
steps=${1:-10}
threads=${2:-2}
python=${PYTHON:-python3}
export OMP_NUM_THREADS=$threads
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

with_torch=0
if "$python" -c 'import torch' 2>/dev/null; then with_torch=1; fi
for round in 1 2 3; do
  echo "round $round"
  "$build/bench/step_bench" "$steps" "$threads" | tee -a "$log"
  if [ "$with_torch" = 1 ]; then "$python" scripts/bench_torch.py "$steps" "$threads" | tee -a "$log"; fi
done

median() { awk -v name="$1" '$1 == name {print $2}' "$log" | sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
echo
for kind in causal mmca; do
  ours=$(median ${kind}_ms)
  if [ "$with_torch" = 1 ]; then
    theirs=$(median torch_${kind}_ms)
    awk -v k=$kind -v a="$ours" -v b="$theirs" \
      'BEGIN {printf "%s: %.0f ms a step, eager PyTorch %.0f ms, ratio %.2f\n", k, a, b, b / a}'
  else
    echo "$kind: $ours ms a step (no Python with PyTorch found: set PYTHON to compare)"
  fi
done

echo
images=$(mktemp -d)
trap 'rm -rf "$log" "$images"' EXIT
with_pillow=0
if reference=$(scripts/find_python.sh PIL transformers numpy); then with_pillow=1; fi
# By turns on one core, so that what else the machine does weighs on both alike.
core=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
"$build/bench/preprocess_bench" "$images" 0 >/dev/null # draws the files
: >"$log"
for round in 1 2 3 4 5; do
  taskset -c "$core" "$build/bench/preprocess_bench" "$images" 1 >>"$log"
  if [ "$with_pillow" = 1 ]; then taskset -c "$core" "$reference" scripts/bench_pillow.py "$images" 1 >>"$log"; fi
done
for size in 640x480 2048x1536; do
  ours=$(median preprocess_$size)
  if [ "$with_pillow" = 1 ]; then
    ratio=$(awk -v s=$size '$1 == "preprocess_" s {ours = $2} $1 == "pillow_" s {print ours / $2}' "$log" |
      sort -g | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}')
    awk -v s=$size -v a="$ours" -v b="$(median pillow_$size)" -v r="$ratio" \
      'BEGIN {printf "JPEG %s: %.0f images/s a core, Pillow and Transformers %.0f, ratio %.1f\n", s, a, b, r}'
  else
    echo "JPEG $size: $ours images/s a core (no Python with Pillow and Transformers found: set PYTHON to compare)"
  fi
done

echo
for ranks in 2 4; do "${MPIRUN:-mpirun}" -n "$ranks" --oversubscribe "$build/bench/comm_bench"; done
