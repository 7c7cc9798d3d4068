#!/usr/bin/env bash
# ZeRO's stages compute the same bits: losses, gradient norms and exported weights; and the ranks send and hold what the plan says.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

train=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --seed 7 --max_steps 4 --gradient_clipping 0.5)
bits=(step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor skipped loss_llava loss_llava_dial loss_coco_caption)

# Of "step 1: a rank sent A elements at most; planned: B": A and B.
sent_and_planned() { sed -n -E 's/.*a rank sent ([0-9]+) elements at most; planned: ([0-9]+).*/\1 \2/p' "$output"; }

# Of "the arenas of a rank held A bytes at most; planned: B": A and B.
held_and_planned() { sed -n -E 's/.*the arenas of a rank held ([0-9]+) bytes at most; planned: ([0-9]+).*/\1 \2/p' "$output"; }

# Not more than planned, and the plan is no more than 2 % too high.
memory_is_planned() {
  held_and_planned | awk '
    { print "held " $1 ", planned " $2; lines += 1; if (!($1 <= $2 && $1 >= 0.98 * $2)) wrong = 1 }
    END { exit wrong || lines != 1 }'
}

# stages RANKS option...: one run at each stage.
stages() {
  local ranks=$1 stage sent planned
  shift
  for stage in 0 1 2 3; do
    rm -rf "${work:?}/stage_$stage"
    run 0 "$ranks" "${train[@]}" --output_dir "$work/stage_$stage" --zero_stage "$stage" "$@"
    read -r sent planned <<<"$(sent_and_planned)"
    [ "$sent" = "$planned" ] || fail "stage $stage: sent $sent elements, planned $planned"
    [ "$sent" -gt 0 ] || fail "nothing is sent at stage $stage"
    memory_is_planned || fail "stage $stage: memory is not what was planned"
  done
  [ "$(column "$work/stage_0/loss_log.csv" clip_factor | head -1)" != 1 ] || fail 'nothing was clipped'
  for stage in 1 2 3; do
    same_columns "$work/stage_0/loss_log.csv" "$work/stage_$stage/loss_log.csv" "${bits[@]}"
    same_columns "$work/stage_0/eval_log.csv" "$work/stage_$stage/eval_log.csv" loss loss_llava
    equal_models "$work/stage_0/epoch-1" "$work/stage_$stage/epoch-1"
  done
}

# Buckets and overlap, from a DeepSpeed file, change no bit; communicating in 16 bits does, equally at every stage.
buckets() {
  local stage
  echo '{"zero_optimization": {"reduce_bucket_size": 3e4, "overlap_comm": true}}' >"$work/overlap.json"
  for stage in 0 2; do
    run 0 2 "${train[@]}" "$@" --zero_stage "$stage" --output_dir "$work/plain_$stage"
    run 0 2 "${train[@]}" "$@" --zero_stage "$stage" --output_dir "$work/overlap_$stage" --deepspeed_config "$work/overlap.json"
    same_columns "$work/plain_$stage/loss_log.csv" "$work/overlap_$stage/loss_log.csv" "${bits[@]}"
    equal_models "$work/plain_$stage/epoch-1" "$work/overlap_$stage/epoch-1"
    run 0 2 "${train[@]}" "$@" --zero_stage "$stage" --output_dir "$work/bf16_$stage" --communication_data_type bf16
    [ "$(column "$work/plain_$stage/loss_log.csv" grad_norm)" != "$(column "$work/bf16_$stage/loss_log.csv" grad_norm)" ]
  done
  same_columns "$work/bf16_0/loss_log.csv" "$work/bf16_2/loss_log.csv" "${bits[@]}"
}

# Recorded micro-batches are planned as they are, those of the rank whose are longest: with seed 3 that is not rank 0.
replayed_memory() {
  local out=$work/replay.$1.$3 record
  record=$work/record.$1
  [ -d "$record" ] || run 0 "$1" "$facet" train "${model[@]}" "${data[@]}" --seed 3 --per_device_train_batch_size 1 --max_steps 3 \
    --dump_batches 3 --output_dir "$record"
  run 0 "$1" "$facet" train "${model[@]}" --replay "$record/batches.h5" --zero_stage "$2" --precision "$3" --max_steps 3 \
    --per_device_train_batch_size 1 --stage3_param_persistence_threshold 0 --output_dir "$out"
  read -r held planned <<<"$(held_and_planned)"
  [ "$held" -gt 0 ] && [ "$held" -le "$planned" ] || fail "stage $2, $3, $1 ranks: held $held bytes, planned $planned"
}
memory_of_replays() {
  local held planned
  replayed_memory 2 0 fp32
  replayed_memory 2 1 fp16
  replayed_memory 2 2 bf16
  replayed_memory 3 3 bf16
}

full=(--unfreeze vis_encoder. lang_decoder. --max_seq_len 200) # so that activations are not most of the memory
check Zero.EqualBitsOnTwoRanks stages 2 "${full[@]}" --per_device_train_batch_size 2 --stage3_param_persistence_threshold 0 \
  --stage3_prefetch_bucket_size 1000000
check Zero.EqualBitsWithAccumulation stages 2 "${full[@]}" --per_device_train_batch_size 1 --gradient_accumulation_steps 3 \
  --reduce_every_micro_batch --gradient_checkpointing
check Zero.EqualBitsWithFrozenParts stages 3 --vis_proj perceiver --lang_lora_dim 4 --lang_lora_dora --vis_lora_dim 4 --lora_plus_ratio 4 \
  --enable_mmca_attention   --gradient_accumulation_steps 2 --reduce_every_micro_batch --stage3_param_persistence_threshold 1000
check Zero.EqualBitsInBf16 stages 2 "${full[@]}" --per_device_train_batch_size 2 --precision bf16 --async_checkpoint
check Zero.MemoryOfReplays memory_of_replays
check Zero.BucketsAndOverlapChangeNoBit buckets "${full[@]}" --per_device_train_batch_size 1 --gradient_accumulation_steps 2 \
  --reduce_every_micro_batch
finish
