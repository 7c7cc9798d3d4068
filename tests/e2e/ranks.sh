#!/usr/bin/env bash
# The number of ranks changes neither the batches nor, beyond rounding, the losses; equal runs give equal bits; recompute and replay too.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# 36 samples, 6 or 12 a step; the last step of an epoch is short where the batch does not divide them. LoRA starts at zero and MMCA needs
# images and text, so both are trained for some steps.
train=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --seed 7)
counts=(step epoch samples tokens labelled_tokens labelled_tokens_llava labelled_tokens_llava_dial labelled_tokens_coco_caption)
bits=(step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor loss_scale skipped loss_llava loss_llava_dial loss_coco_caption)

# train_into NAME RANKS B K option...: one run with B samples a micro-batch and K micro-batches a step.
train_into() {
  local name=$1 ranks=$2 samples=$3 accumulation=$4
  shift 4
  rm -rf "${work:?}/$name"
  run 0 "$ranks" "${train[@]}" --output_dir "$work/$name" --per_device_train_batch_size "$samples" \
    --gradient_accumulation_steps "$accumulation" "$@"
}

same_batches_and_losses() {
  local a=$work/$1 b=$work/$2
  same_columns "$a/loss_log.csv" "$b/loss_log.csv" "${counts[@]}"
  close_columns "$a/loss_log.csv" "$b/loss_log.csv" loss 1e-5
  close_columns "$a/loss_log.csv" "$b/loss_log.csv" loss_llava 1e-5
  close_columns "$a/eval_log.csv" "$b/eval_log.csv" loss 1e-5
  same_columns "$a/eval_log.csv" "$b/eval_log.csv" samples labelled_tokens
}

same_bits() {
  local a=$work/$1 b=$work/$2
  same_columns "$a/loss_log.csv" "$b/loss_log.csv" "${bits[@]}"
  same_columns "$a/eval_log.csv" "$b/eval_log.csv" loss loss_llava
  equal_models "$a/epoch-1" "$b/epoch-1"
}

# Full fine-tuning, two epochs: 33 training samples are 6 steps an epoch, the last of 3 samples.
rank_counts() {
  local options=(--num_train_epochs 2 --unfreeze vis_encoder. lang_decoder. --data_train_split_ratio 0.92)
  train_into one 1 6 1 "${options[@]}"
  [ "$(rows "$work/one/loss_log.csv")" = 12 ]
  [ "$(column "$work/one/loss_log.csv" samples | sort -u | tr '\n' ' ')" = '3 6 ' ]
  train_into two 2 3 1 "${options[@]}"
  train_into three 3 2 1 "${options[@]}"
  # (A perceiver's queries are projected once a pass, so there the number of passes counts.)
  same_columns "$work/one/loss_log.csv" "$work/three/loss_log.csv" model_flops
  same_batches_and_losses one two
  same_batches_and_losses one three
}

# The same global batches cut into micro-batches; 33 samples in windows of 6 leave a short window of an epoch.
accumulation() {
  local options=(--num_train_epochs 2 --unfreeze vis_encoder. lang_decoder. --data_train_split_ratio 0.92)
  train_into one_by_three 1 2 3 "${options[@]}"
  train_into two_by_three 2 1 3 "${options[@]}"
  train_into three_by_two 3 1 2 "${options[@]}"
  [ "$(column "$work/two_by_three/loss_log.csv" micro_batches | sort -u | tr '\n' ' ')" = '2 3 ' ]
  same_batches_and_losses one one_by_three
  same_batches_and_losses one two_by_three
  same_batches_and_losses one three_by_two
}

perceiver_lora_mmca=(--vis_proj perceiver --lang_lora_dim 4 --vis_lora_dim 4 --only_optimize_lora --enable_mmca_attention --max_steps 4)
rank_counts_perceiver() {
  train_into perceiver_1 1 6 1 "${perceiver_lora_mmca[@]}"
  train_into perceiver_3 3 2 1 "${perceiver_lora_mmca[@]}"
  same_batches_and_losses perceiver_1 perceiver_3
}

# Packed by tokens and dealt by length: the same steps, also where a run is cut; rank 0 of three has other samples than without.
by_tokens() {
  local options=(--num_train_epochs 1 --unfreeze vis_encoder. lang_decoder. --data_train_split_ratio 0.92 --lr_scheduler_type constant)
  local three=("${options[@]}" --tokens_per_micro_batch 256 --zero_stage 3) name
  train_into by_samples 1 6 1 "${options[@]}"
  train_into tokens_1 1 3 2 "${options[@]}" --tokens_per_micro_batch 256
  train_into tokens_3 3 2 1 "${three[@]}"
  for name in tokens_1 tokens_3; do
    same_batches_and_losses by_samples "$name"
    close_columns "$work/by_samples/loss_log.csv" "$work/$name/loss_log.csv" grad_norm 1e-4
  done
  [ "$(column "$work/tokens_1/loss_log.csv" micro_batches | sort -u | tail -n 1)" -ge 2 ]
  train_into tokens_cut 3 2 1 "${three[@]}" --max_steps 3
  run 0 3 "${train[@]}" --output_dir "$work/tokens_cut" --per_device_train_batch_size 2 "${three[@]}"
  same_columns "$work/tokens_3/loss_log.csv" "$work/tokens_cut/loss_log.csv" "${bits[@]}"
  equal_models "$work/tokens_3/epoch-1" "$work/tokens_cut/epoch-1"
}

# The gradient of the first step, by its first moment, whose norm is 0.1 after clipping: elements differ by rounding, at most 3e-9 in trials.
by_tokens_gradient() {
  local options=(--max_steps 1 --unfreeze vis_encoder. lang_decoder.) most
  train_into gradient_1 1 12 1 "${options[@]}"
  train_into gradient_3 3 4 1 "${options[@]}" --tokens_per_micro_batch 256
  run 1 0 "$facet" inspect "$work/gradient_1" "$work/gradient_3" # they differ
  most=$(sed -nE 's#.*/exp_avg: .* by at most ([^ ]+) .*#\1#p' "$output" | sort -g | tail -n 1)
  awk -v most="$most" 'BEGIN { exit !(most > 0 && most < 1e-8) }' || fail "first moments differ by $most"
}

# A rank that fails while it measures lengths ends all, with its message; 30 samples are tried before.
by_tokens_failing() {
  refused 74 2 'rank 1 ' "${train[@]}" --tokens_per_micro_batch 256 --output_dir "$work/failing" --inject fail@data.read:rank=1,step=32
  grep -qE '^EXIT code=74 reason=io step=0 ' "$output"
}

equal_runs() {
  train_into again_1 2 3 1 --max_steps 4 --unfreeze vis_encoder. lang_decoder.
  train_into again_2 2 3 1 --max_steps 4 --unfreeze vis_encoder. lang_decoder.
  same_bits again_1 again_2
  train_into again_perceiver 3 2 1 "${perceiver_lora_mmca[@]}"
  same_bits perceiver_3 again_perceiver
}

# Threads of one rank that share the work, and readers that race each other.
equal_threaded_runs() {
  local attempt
  for attempt in 1 2; do
    run 0 0 "$facet" train --lm_model_name_or_path "$tiny/lm" --vision_model_name_or_path "$tiny/clip" --threads 2 --num_workers 3 "${data[@]}" \
      --dataset_concatenate_samples 3 1 2 --unfreeze lang_decoder. --max_steps 6 --output_dir "$work/threaded_$attempt"
  done
  same_bits threaded_1 threaded_2
}

other_seed() {
  train_into other_seed 2 3 1 --max_steps 4 --unfreeze vis_encoder. lang_decoder. --dataset_samples 9
  train_into same_seed 2 3 1 --max_steps 4 --unfreeze vis_encoder. lang_decoder. --dataset_samples 9
  same_bits other_seed same_seed
  rm -r "$work/other_seed/checkpoints"
  run 0 2 "$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --seed 8 --output_dir "$work/other_seed" \
    --per_device_train_batch_size 3 --max_steps 4 --unfreeze vis_encoder. lang_decoder. --dataset_samples 9
  different_columns "$work/other_seed/loss_log.csv" "$work/same_seed/loss_log.csv" loss
}

recompute() {
  local name=$1
  shift
  train_into "kept_$name" 1 4 2 --max_steps 3 "$@"
  train_into "recomputed_$name" 1 4 2 --max_steps 3 "$@" --gradient_checkpointing
  same_bits "kept_$name" "recomputed_$name"
}

# The steps recorded by one run, played by another: the same bits, though order and draws are left out.
replay() {
  local ranks=$1
  shift
  train_into "recorded_$ranks" "$ranks" 3 2 --num_train_epochs 1 --data_train_split_ratio 1 --dump_batches 100 --lr_scheduler_type constant "$@"
  run 0 "$ranks" "$facet" train "${model[@]}" --learning_rate 2e-3 --lr_scheduler_type constant --seed 7 --num_train_epochs 1 \
    --replay "$work/recorded_$ranks/batches.h5" --output_dir "$work/replayed_$ranks" "$@"
  same_columns "$work/recorded_$ranks/loss_log.csv" "$work/replayed_$ranks/loss_log.csv" step micro_batches samples tokens labelled_tokens loss \
    grad_norm clip_factor
  equal_models "$work/recorded_$ranks/epoch-1" "$work/replayed_$ranks/epoch-1"
}

replay_on_other_ranks() {
  refused 78 3 "$work/recorded_2/batches.h5" "$facet" train "${model[@]}" --replay "$work/recorded_2/batches.h5" --output_dir "$work/out"
}

check Ranks.SameBatchesAndLosses rank_counts
check Ranks.SameBatchesAndLossesWithAccumulation accumulation
check Ranks.SameBatchesAndLossesPerceiverLoraMmca rank_counts_perceiver
check Ranks.MicroBatchesByTokens by_tokens
check Ranks.GradientByTokens by_tokens_gradient
check Ranks.FailureByTokens by_tokens_failing
check Ranks.EqualRunsEqualBits equal_runs
check Ranks.EqualThreadedRunsEqualBits equal_threaded_runs
check Ranks.SeedDecides other_seed
check Ranks.RecomputeEqualBits recompute full --unfreeze vis_encoder. lang_decoder.
check Ranks.RecomputeEqualBitsVit recompute vit --vis_proj vit --lang_lora_dim 4 --enable_mmca_attention
check Ranks.RecomputeEqualBitsPerceiver recompute perceiver --vis_proj perceiver --vis_lora_dim 4 --vis_lora_dora --lang_lora_dim 2 --lang_lora_dora --compat visualchat --enable_mmca_attention
check Ranks.RecomputeEqualBitsMlp recompute mlp --vis_proj mlp2x_gelu --drop_class_token --vision_feature_layer -2 --vis_lora_dim 4
check Ranks.ReplayEqualBits replay 1
check Ranks.ReplayEqualBitsOnTwoRanks replay 2 --unfreeze lang_decoder.
check Ranks.ReplayOnOtherRanks replay_on_other_ranks
finish
