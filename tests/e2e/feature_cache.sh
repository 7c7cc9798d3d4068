#!/usr/bin/env bash
# Features of the frozen vision encoder that are kept: the same bits as without, and no image is computed twice.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# Instructions with which oneDNN rounds a row of a product by where it lies among the others: equal bits then say that features do not
# depend on the rest of a micro-batch.
export DNNL_MAX_CPU_ISA=AVX2

train=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --seed 7 --num_train_epochs 2 --per_device_train_batch_size 4)
bits=(step epoch samples tokens labelled_tokens loss grad_norm loss_llava loss_llava_dial loss_coco_caption)
cache=$work/cache

same_run() { # DIRECTORY DIRECTORY
  same_columns "$1/loss_log.csv" "$2/loss_log.csv" "${bits[@]}"
  same_columns "$1/eval_log.csv" "$2/eval_log.csv" step loss
  equal_models "$1/epoch-1" "$2/epoch-1"
  equal_models "$1/epoch-2" "$2/epoch-2"
}
# Operations of all steps of an epoch.
operations() { # DIRECTORY EPOCH
  paste <(column "$1/loss_log.csv" epoch) <(column "$1/loss_log.csv" model_flops) | awk -v epoch="$2" '$1 == epoch { sum += $2 } END { printf "%.0f\n", sum }'
}

# equal_bits RANKS option...: without a cache, with an empty one, with a full one.
equal_bits() {
  local ranks=$1 out=$work/equal held planned saved
  shift
  rm -rf "$cache" "$out"*
  run 0 "$ranks" "${train[@]}" "$@" --vision_image_by_image --output_dir "$out"
  run 0 "$ranks" "${train[@]}" "$@" --feature_cache "$cache" --output_dir "$out.first"
  grep -F 'feature cache: ' "$output"
  [ "$(grep -c ' images given, 0 computed' "$output")" = 1 ] || fail 'images of the second epoch are computed'
  same_run "$out" "$out.first"
  run 0 "$ranks" "${train[@]}" "$@" --feature_cache "$cache" --output_dir "$out.full"
  [ "$(grep -c ' images given, 0 computed, 0.00 KiB stored' "$output")" = 2 ] || fail 'an image is computed again'
  read -r held planned < <(sed -n -E 's/.*a rank held ([0-9]+) bytes at most; planned: ([0-9]+).*/\1 \2/p' "$output")
  [ "$held" -le "$planned" ] || fail "held $held, planned $planned"
  same_run "$out" "$out.full"
  # What is saved is the vision encoder: as much in either epoch, whose texts differ.
  [ "$(operations "$out.first" 1)" = "$(operations "$out" 1)" ]
  [ "$(operations "$out.first" 2)" = "$(operations "$out.full" 2)" ]
  saved=$(($(operations "$out" 1) - $(operations "$out.full" 1)))
  [ "$saved" -gt 0 ] && [ "$saved" = $(($(operations "$out" 2) - $(operations "$out.full" 2))) ]
}

check FeatureCache.EqualBits equal_bits 1
check FeatureCache.EqualBitsOnTwoRanks equal_bits 2 --precision bf16 --zero_stage 3 --stage3_param_persistence_threshold 0 --vis_proj perceiver
finish
