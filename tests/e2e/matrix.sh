#!/usr/bin/env bash
# All stages on 1, 2, 3 and 4 ranks, three micro-batches a step, clipped: losses, weights and moments equal to the last digit at all stages of
# as many ranks, and within 1e-5 of one rank's; in 16 bits, where a value on the edge between two numbers may fall to the other side, within
# what that makes. The checkpoints are compared by HDF5's tools; with FACET_H5PY, a Python that has h5py, by that
# (make check-h5py).
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

if [ -n "${FACET_H5PY:-}" ]; then compare=("$FACET_H5PY" scripts/check_checkpoint.py); else compare=(scripts/compare_checkpoints.sh); fi
steps=3
train=("$facet" train "${model[@]}" --dataset_names llava llava_dial coco_caption --learning_rate 2e-3 --seed 7 --max_steps "$steps"
  --gradient_accumulation_steps 3 --gradient_clipping 0.3 --stage3_param_persistence_threshold 1000)
bits=(step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor skipped loss_llava loss_llava_dial loss_coco_caption)
full=(--unfreeze vis_encoder. lang_decoder.)
lora=(--lang_lora_dim 4 --vis_lora_dim 4 --enable_mmca_attention)

# 36 samples a step, which 1, 2, 3 and 4 ranks share in three micro-batches; the third step ends the epoch and has fewer.
scenes=$work/scenes
[ -d "$scenes" ] || "$BUILD/make_tiny" --output "$scenes" --scenes 72 --seed 2 >"$work/scenes.log"

checkpoint_of() { printf '%s/checkpoints/step_%08d' "$work/$1" "$steps"; }

# train_into NAME RANKS option...: a run, unless it is there.
train_into() {
  local name=$1 ranks=$2
  shift 2
  [ ! -d "$work/$name" ] || return 0
  run 0 "$ranks" "${train[@]}" --data_path "$scenes/data" --per_device_train_batch_size $((12 / ranks)) --output_dir "$work/$name" "$@"
  [ "$(column "$work/$name/loss_log.csv" clip_factor | sort -u | grep -vcx 1)" = "$steps" ] || fail "not every step of $name was clipped"
}

same_state() { # NAME NAME
  same_columns "$work/$1/loss_log.csv" "$work/$2/loss_log.csv" "${bits[@]}"
  "${compare[@]}" "$(checkpoint_of "$1")" "$(checkpoint_of "$2")" || fail "the states of $1 and $2 differ"
}

close_state() { # NAME NAME TOLERANCE
  close_columns "$work/$1/loss_log.csv" "$work/$2/loss_log.csv" loss "$3"
  close_columns "$work/$1/loss_log.csv" "$work/$2/loss_log.csv" grad_norm "$3"
  "${compare[@]}" "$(checkpoint_of "$1")" "$(checkpoint_of "$2")" "$3" || fail "the states of $1 and $2 are not close"
}

# stages KIND RANKS TOLERANCE option...: the stages agree, with recompute at every second one, and are close to one rank's run.
stages() {
  local kind=$1 ranks=$2 tolerance=$3 stage recompute
  shift 3
  for stage in 0 1 2 3; do
    recompute=()
    [ $((stage % 2)) = 0 ] || recompute=(--gradient_checkpointing)
    train_into "$kind-$ranks-$stage" "$ranks" --zero_stage "$stage" --reduce_every_micro_batch "${recompute[@]}" "$@"
  done
  train_into "$kind-$ranks-recomputed" "$ranks" --reduce_every_micro_batch --gradient_checkpointing "$@"
  for stage in 1 2 3 recomputed; do same_state "$kind-$ranks-0" "$kind-$ranks-$stage"; done
  # Summed once a step the same up to rounding, and the same at stages 0 and 1.
  train_into "$kind-$ranks-once" "$ranks" "$@"
  train_into "$kind-$ranks-once-1" "$ranks" --zero_stage 1 --gradient_checkpointing "$@"
  same_state "$kind-$ranks-once" "$kind-$ranks-once-1"
  train_into "$kind-1-0" 1 --reduce_every_micro_batch "$@"
  close_state "$kind-$ranks-0" "$kind-1-0" "$tolerance"
  close_state "$kind-$ranks-once" "$kind-1-0" "$tolerance"
}

for ranks in 1 2 3 4; do
  check "Matrix.Lora$ranks" stages lora "$ranks" 1e-5 "${lora[@]}"
done
check Matrix.FullFineTuning3 stages full 3 1e-5 "${full[@]}"
check Matrix.LoraBf16 stages bf16 4 2e-2 "${lora[@]}" --precision bf16
check Matrix.LoraFp16 stages fp16 2 5e-3 "${lora[@]}" --precision fp16
finish
