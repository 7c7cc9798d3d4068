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
  run 0 "$ranks" "${train[@]}" "$@" --output_dir "$out"
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
  [ "$saved" -gt 0 ]
  [ "$saved" = $(($(operations "$out" 2) - $(operations "$out.full" 2))) ]
}

# Ranks with all features beside ranks with none: at stage 3 they gather the same. What is damaged is noticed, made again and found then.
damage() {
  local out=$work/damage line files
  line=("${train[@]}" --zero_stage 3 --stage3_param_persistence_threshold 0)
  rm -rf "$cache"
  run 0 2 "${line[@]}" --output_dir "$out"
  run 0 2 "$facet" cache-features "${model[@]}" "${data[@]}" --feature_cache "$cache"
  once 'FEATURES images=24 hits=0 computed=24'
  files=("$cache"/*/*.data)
  printf 'x' | dd of="${files[0]}" bs=1 seek=20000 conv=notrunc status=none
  rm "${files[1]}"
  run 0 2 "${line[@]}" --feature_cache "$cache" --output_dir "$out.cache"
  grep -q 'the record at byte 18944 is damaged; it is made again' "$output"
  grep -q ' found damaged' "$output"
  [ "$(grep -c ' images given, 0 computed' "$output")" = 1 ] || fail 'images of the second epoch are computed'
  same_run "$out" "$out.cache"
}

# With all images given the ranks send less than without a cache: the vision encoder is not gathered.
at_rest() {
  local line sent planned
  line=("${train[@]}" --zero_stage 3 --stage3_param_persistence_threshold 0 --max_steps 1 --feature_cache "$cache")
  rm -rf "$cache"
  run 0 2 "$facet" cache-features "${model[@]}" "${data[@]}" --feature_cache "$cache"
  run 0 2 "${line[@]}" --output_dir "$work/at_rest"
  read -r sent planned < <(sed -n -E 's/.*a rank sent ([0-9]+) elements at most; planned: ([0-9]+).*/\1 \2/p' "$output")
  if [ "$sent" = 0 ] || [ "$sent" -ge "$planned" ]; then fail "sent $sent elements, planned $planned"; fi
}

# Killed in the first epoch, then the same command; and a step of that run, repeated without the cache, has the numbers of the log.
killed() {
  local out=$work/killed
  rm -rf "$cache"
  run 0 1 "${train[@]}" --output_dir "$out"
  run 137 1 "${train[@]}" --feature_cache "$cache" --output_dir "$out.cache" --save_interval 2 --inject 'kill@compute:rank=0,step=4'
  run 0 1 "${train[@]}" --feature_cache "$cache" --output_dir "$out.cache"
  grep -qE 'feature cache: [1-9][0-9]* images given, [1-9][0-9]* computed' "$output"
  same_run "$out" "$out.cache"
  run 0 1 "${train[@]}" --feature_cache "$cache" --output_dir "$out.cache" --replay_step 8
  once 'REPLAY step=8 equal=yes'
}

# A signal when the first features are stored, then the same command.
interrupted() {
  local fill=("$facet" cache-features "${model[@]}" "${data[@]}" --num_workers 1 --feature_cache "$cache") computed pid code=0
  rm -rf "$cache"
  (exec timeout -k 5 "$time_limit" "${fill[@]}" --inject 'slow@data.read:ms=500') >"$output" 2>&1 </dev/null &
  pid=$!
  until_true 60 has_features
  kill -TERM "$(pgrep -P "$pid")"
  wait "$pid" || code=$?
  [ "$code" = 85 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  once 'stopping for a signal'
  computed=$(sed -n -E 's/^FEATURES images=[0-9]+ hits=0 computed=([0-9]+) bytes=[0-9]+ complete=no/\1/p' "$output")
  if [ "$computed" = 0 ] || [ "$computed" -ge 24 ]; then fail "$computed images are computed"; fi
  run 0 0 "${fill[@]}"
  once "FEATURES images=24 hits=$computed computed=$((24 - computed)) "
  once ' complete=yes'
}
has_features() { [ -n "$(find "$cache" -name '*.data' -size +0 2>/dev/null)" ]; }

# A trained encoder is told, and a directory that cannot be used; a full one ends storing and nothing else.
refusals() {
  local short=("${train[@]}" --max_steps 1 --output_dir "$work/short") limit=100000
  rm -rf "$cache"
  run 0 1 "${short[@]}" --feature_cache "$cache" --unfreeze vis_encoder.
  once 'warning: --feature_cache is left out: the vision encoder is trained'
  [ ! -e "$cache" ]
  refused 78 0 '--feature_cache is missing: the directory to fill' "$facet" cache-features "${model[@]}" "${data[@]}"
  refused 78 0 'leaves out their pixels' "${short[@]}" --feature_cache "$cache" --dump_batches 2
  refused 78 0 'the vision encoder is trained' "$facet" cache-features "${model[@]}" "${data[@]}" --feature_cache "$cache" --unfreeze vis_encoder.
  refused 78 0 'cache-features computes, and --dry_run does not' "$facet" cache-features "${model[@]}" "${data[@]}" --feature_cache "$cache" --dry_run
  run 0 2 "$facet" cache-features "${model[@]}" "${data[@]}" --feature_cache "$cache" --feature_cache_gib 1e-9
  once 'FEATURES images=2 hits=0 computed=2 bytes=0 complete=no'
  rm -rf "$work/short" "$cache"
  refused 74 2 'give a directory that can be written, or leave it out' "${short[@]}" --feature_cache "$tiny/lm/config.json"
  rm -rf "$work/short"
  mkdir -p "$cache/other" && touch "$cache/other/identity.txt"
  run 0 2 "${short[@]}" --feature_cache "$cache" --feature_cache_gib "$(awk "BEGIN { print $limit / 2^30 }")"
  once "$cache holds features that were made in other ways (1), and none in this run's"
  grep -q "$cache is full: nothing more is stored there" "$output"
  [ "$(cat "$cache"/*/* | wc -c)" -gt $((limit / 2)) ]
  [ "$(cat "$cache"/*/* | wc -c)" -le "$limit" ]
}

check FeatureCache.EqualBits equal_bits 1
check FeatureCache.EqualBitsOnTwoRanks equal_bits 2 --precision bf16 --zero_stage 3 --stage3_param_persistence_threshold 0 --vis_proj perceiver \
  --tokens_per_micro_batch 600 --max_seq_len 600
check FeatureCache.DamageIsMended damage
check FeatureCache.AtRestNothingIsGathered at_rest
check FeatureCache.KilledAndContinued killed
check FeatureCache.FillingIsInterrupted interrupted
check FeatureCache.RefusedAndFull refusals
finish
