#!/usr/bin/env bash
# How long training stalls for background checkpoints: 2 ranks, more than 500 MB of state, on the disk that holds $TMPDIR (or the build
# directory). Prints seconds without training / (seconds of a step x steps between two saves). usage: bench_saves.sh [steps between saves]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
interval=${1:-10}
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_rmaps_base_oversubscribe=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
work=$(mktemp -d "${TMPDIR:-$build}/bench_saves.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$build/make_tiny" --output "$work/tiny" --scenes 60 --seed 1 >"$work/log"

# A tiny model with very wide LoRA: 43 M trained elements, and steps of a corresponding cost.
train() { # OUT option...
  local out=$1
  shift
  mpirun -n 2 --oversubscribe "$build/facet" train --lm_model_name_or_path "$work/tiny/lm" --vision_model_name_or_path "$work/tiny/clip" --threads 1 \
    --data_path "$work/tiny/data" --dataset_names llava llava_dial coco_caption --lang_lora_dim 6144 --learning_rate 1e-4 --zero_stage 1 \
    --per_device_train_batch_size 1 --max_steps $((2 * interval + interval / 2)) --num_train_epochs 99 --save_interval "$interval" --keep_last 1 \
    --output_dir "$out" "$@" >"$work/log" 2>&1 </dev/null || { tail -n 20 "$work/log"; exit 1; }
}
report() { # OUT PATTERN: the pattern matches the seconds without training in a line about a save between two steps
  local step bytes
  step=$(awk -F, '/^step,/ { for (i = 1; i <= NF; ++i) if ($i == "seconds") at = i } /^[0-9]/ { print $at }' "$1/loss_log.csv" | sort -g |
    awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
  bytes=$(stat -c %s "$1"/checkpoints/step_*/state.h5 | head -n 1)
  sed -nE "s#^[-0-9: ]*checkpoint .*/step_0*([0-9]+) in $2.*#\1 \3#p" "$work/log" |
    awk -v step="$step" -v interval="$interval" -v bytes="$bytes" -v kind="$3" '
      $1 % interval == 0 { sum += $2; ++count; if ($2 > most) most = $2 }
      END {
        if (!count) { print "no save was seen"; exit 1 }
        printf "%s: %.0f MB of state, a step %.2f s, a save every %d steps: %.3f s without training (at most %.3f), %.2f %% of the time\n",
          kind, bytes / 1e6, step, interval, sum / count, most, 100 * sum / count / (step * interval) }'
}
train "$work/plain"
report "$work/plain" '(([0-9.]+)) s' plain
train "$work/beside" --async_checkpoint
report "$work/beside" '([0-9.]+) s, ([0-9.]+) s of them' beside
