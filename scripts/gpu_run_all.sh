#!/usr/bin/env bash
# All that a machine with a GPU is needed for, in one go, what is worth most first: a few training steps beside the CPU's, the benchmark,
# the kernels' tests, PyTorch's speed, the tests under compute-sanitizer. usage: gpu_run_all.sh DIRECTORY
#
# It works in a bundle (scripts/gpu_bundle.sh), and in the tree after `make gpu-bundle`. DIRECTORY gets one STEP.txt of each step's output
# and bench.json, all of it as it comes. LIMIT=560: seconds in all; a step that gets no time any more is named.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
logs=${1:?usage: gpu_run_all.sh DIRECTORY}
mkdir -p "$logs" && logs=$(cd "$logs" && pwd) || exit 1
if [ ! -e bundle_launch.sh ]; then
  cd "${BUILD:-build}/facet-gpu" || { echo "make gpu-bundle first" >&2; exit 1; }
fi
export BUILD=build
readonly all=${LIMIT:-560}
failed=0

# train DEVICE: the first steps of a tiny model; losses into $logs/DEVICE.losses
train() {
  local device=$1 out
  out=$(mktemp -d)
  build/facet train --lm_model_name_or_path tiny/lm --vision_model_name_or_path tiny/clip --data_path tiny/data --dataset_names llava \
    --unfreeze vis_encoder. lang_decoder. --max_seq_len 512 --learning_rate 1e-3 --per_device_train_batch_size 4 --num_train_epochs 1 \
    --max_steps 4 --seed 1 --precision fp32 --device "$device" --output_dir "$out" || return
  awk -F, '/^step,/ { for (i = 1; i <= NF; ++i) if ($i == "loss") at = i } /^[0-9]/ { print $at }' "$out/loss_log.csv" >"$logs/$device.losses"
  rm -r "$out"
}
# On the emulation the losses of fp32 agree to seven digits here; a GPU adds in another order.
trains() {
  train cpu && train cuda || return
  paste -d ' ' "$logs/cpu.losses" "$logs/cuda.losses" | awk '
    { d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1e-4 * $1)) bad = 1; print "loss on the CPU", $1, "and on the GPU", $2 }
    END { exit bad || NR != 4 }'
}

# step NAME SECONDS command...: with at most so many of the seconds that are left; its output goes to NAME.txt, and its end is shown.
step() {
  local name=$1 limit=$2 began=$SECONDS code=0 verdict=done
  shift 2
  if [ "$limit" -gt $((all - SECONDS)) ]; then limit=$((all - SECONDS)); fi
  if [ "$limit" -gt 0 ]; then
    LIMIT=$limit timeout -k 5 "$limit" "$@" >"$logs/$name.txt" 2>&1 || code=$?
  else
    code=124
    : >"$logs/$name.txt"
  fi
  if [ "$code" != 0 ]; then verdict=FAILED; fi
  if [ "$code" = 124 ] || [ "$code" = 137 ]; then verdict="TOO LONG"; fi
  [ "$verdict" = done ] || failed=$((failed + 1))
  printf '== %-12s %-8s %d s\n' "$name" "$verdict" $((SECONDS - began))
  tail -n "${SHOWN:-12}" "$logs/$name.txt"
}
export -f train trains
export logs

step trains 60 bash -c trains
for section in step_mmca operators lora attention step_causal; do
  step "$section" 110 build/gpu/gpu_bench --json "$logs/bench.json" "$section"
done
step tests 150 env STEPS='kernels curves' scripts/gpu_check.sh "$logs/tests"
step torch 90 python3 scripts/bench_torch_gpu.py
step sanitizers 420 env STEPS='real memcheck racecheck synccheck initcheck matrix' scripts/gpu_check.sh "$logs/sanitizers"
echo "$failed steps failed or got no time; their output is in $logs"
[ "$failed" = 0 ]
