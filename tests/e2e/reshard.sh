#!/usr/bin/env bash
# A run is continued on other ranks at another stage: what is loaded is to the bit what was saved, and the losses that follow are those of the
# run that went on where it was, within rounding; also in the middle of an epoch.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# 12 samples a step; 32 training samples are three steps an epoch, the last of them short.
recipe=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --num_warmup_steps 0.2 --lang_lora_dim 4 --vis_lora_dim 2
  --enable_mmca_attention --seed 7 --num_train_epochs 2 --stage3_param_persistence_threshold 1000 --save_interval 1 --keep_last 9)
counts=(step epoch samples tokens labelled_tokens labelled_tokens_llava labelled_tokens_llava_dial labelled_tokens_coco_caption)

# on CODE RANKS STAGE OUTPUT option...: 12 samples a step on so many ranks.
on() {
  local code=$1 ranks=$2 stage=$3 output_dir=$4 share
  shift 4
  case $ranks in
    1) share=(--per_device_train_batch_size 4 --gradient_accumulation_steps 3) ;;
    2) share=(--per_device_train_batch_size 2 --gradient_accumulation_steps 3) ;;
    3) share=(--per_device_train_batch_size 2 --gradient_accumulation_steps 2) ;;
    4) share=(--per_device_train_batch_size 1 --gradient_accumulation_steps 3) ;;
  esac
  run "$code" "$ranks" "${recipe[@]}" "${share[@]}" --zero_stage "$stage" --output_dir "$output_dir" "$@"
}

step() { printf '%s/checkpoints/step_%08d' "$1" "$2"; }

# cut_back FROM TO STEP: a copy of a run that ended after that step.
cut_back() {
  cp -r "$1" "$2"
  local later
  for later in "$2"/checkpoints/step_*; do [ "$later" = "$(step "$2" "$3")" ] || rm -r "$later"; done
}

continued() { once "continuing from $(step "$1" "$2"): step $2"; }

# pair RANKS STAGE RANKS STAGE: saved by the first, continued by the second.
pair() {
  local from=$work/from-$1-$2 to=$work/to-$3-$4 again=$work/again-$3-$4
  on 0 "$1" "$2" "$from" --max_steps 4
  # Nothing to compute, only to save once more. Counts differ, as this run ends here.
  cut_back "$from" "$again" 2
  on 0 "$3" "$4" "$again" --max_steps 2
  continued "$again" 2
  run 1 0 "$facet" inspect "$(step "$from" 2)" "$(step "$again" 2)"
  grep -qE '^0 of [1-9][0-9]* arrays and [0-9]+ fields differ$' "$output"
  scripts/compare_checkpoints.sh "$(step "$from" 2)" "$(step "$again" 2)"
  cut_back "$from" "$to" 2
  on 0 "$3" "$4" "$to" --max_steps 4
  continued "$to" 2
  same_columns "$from/loss_log.csv" "$to/loss_log.csv" "${counts[@]}"
  close_columns "$from/loss_log.csv" "$to/loss_log.csv" loss 1e-5
  scripts/compare_checkpoints.sh "$(step "$from" 4)" "$(step "$to" 4)" 1e-5
}

# Masters and moments of a bf16 run, taken over in the other precisions.
other_precisions() {
  local precision from=$work/bf16
  on 0 2 2 "$from" --precision bf16 --max_steps 2
  for precision in fp16 fp32; do
    cut_back "$from" "$work/as-$precision" 2
    on 0 3 3 "$work/as-$precision" --precision "$precision" --max_steps 2
    scripts/compare_checkpoints.sh "$(step "$from" 2)" "$(step "$work/as-$precision" 2)"
  done
}

# Each step of the first epoch on other ranks.
within_an_epoch() {
  local out=$work/epoch whole=$work/whole
  on 0 2 1 "$whole"
  on 85 1 0 "$out" --max_hours 1e-9
  on 85 2 2 "$out" --max_hours 1e-9
  continued "$out" 1
  on 0 4 3 "$out"
  continued "$out" 2
  [ "$(column "$whole/loss_log.csv" epoch | tr '\n' ' ')" = '1 1 1 2 2 2 ' ]
  same_columns "$whole/loss_log.csv" "$out/loss_log.csv" "${counts[@]}"
  close_columns "$whole/loss_log.csv" "$out/loss_log.csv" loss 1e-5
  scripts/compare_checkpoints.sh "$(step "$whole" 6)" "$(step "$out" 6)" 1e-5
  run 1 0 "$facet" inspect "$whole" "$out"
  if grep -E '^(step|epoch|samples_seen|epoch_labelled_tokens|optimizer_steps|data_fingerprint|frozen_hash):' "$output"; then fail 'counts differ'; fi
}

# The numbers of one array, a line each.
numbers() { h5dump -A 0 -m '%.9g' -w 1 -y -d "/$2" "$1/state.h5" | sed -n -E 's/^ *(-?[0-9][-+.e0-9]*),?$/\1/p'; }

inspect_says_how_much() {
  local out=$work/inspected array=param/projection.1.bias/fp32 expected
  on 0 1 0 "$out" --max_steps 2
  run 1 0 "$facet" inspect "$(step "$out" 1)" "$(step "$out" 2)"
  grep -qx 'step: 1 and 2' "$output"
  expected=$(paste -d ' ' <(numbers "$(step "$out" 1)" $array) <(numbers "$(step "$out" 2)" $array) | awk '
    { difference = $1 - $2; if (difference < 0) difference = -difference; count += $1 != $2; if (difference > most) most = difference }
    END { printf "%d of %d elements differ, by at most %.6g", count, NR, most }')
  grep -F "$array: " "$output" | sed -E 's/(by at most [0-9.e-]+) .*/\1/' | awk '{ $NF = sprintf("%.6g", $NF); $1 = ""; print substr($0, 2) }' >"$work/said.txt"
  [ "$(cat "$work/said.txt")" = "$expected" ] || fail "inspect says '$(cat "$work/said.txt")', h5dump '$expected'"
  run 0 0 "$facet" inspect "$(step "$out" 2)" "$(step "$out" 2)"
  once '0 of 249 arrays and 0 fields differ'
}

check Reshard.OneRankStage0OnFourStage3 pair 1 0 4 3
check Reshard.FourRanksStage3OnOneStage0 pair 4 3 1 0
check Reshard.TwoRanksStage2OnThreeStage1 pair 2 2 3 1
check Reshard.ThreeRanksStage1OnTwoStage3 pair 3 1 2 3
check Reshard.TwoRanksStage3OnFourStage2 pair 2 3 4 2
check Reshard.FourRanksStage1OnTwoStage0 pair 4 1 2 0
check Reshard.OtherPrecisions other_precisions
check Reshard.OtherRanksAtEachStepOfAnEpoch within_an_epoch
check Inspect.SaysWhatDiffersAndByHowMuch inspect_says_how_much
finish
