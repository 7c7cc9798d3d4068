#!/usr/bin/env bash
# Training in bf16 and fp16: it learns, overflows skip the same steps on all ranks and change nothing, the scale follows its table also
# through a cut and a resume, and what is not finite is found.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

train=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --seed 7)
bits=(step epoch samples tokens labelled_tokens loss grad_norm clip_factor loss_scale skipped loss_llava loss_llava_dial loss_coco_caption)
poison() { # "nan@grad:rank=R,step=S" of every step named, separated by ';'
  local rank=$1 step faults=
  shift
  for step in "$@"; do faults+="${faults:+;}nan@grad:rank=$rank,step=$step"; done
  echo "$faults"
}
list() { column "$@" | tr '\n' ' '; }

# The loss falls as in fp32, at two stages with the same bits.
learns() {
  local precision=$1 stage
  [ -d "$work/fp32" ] || run 0 2 "${train[@]}" --num_train_epochs 6 --unfreeze vis_encoder. lang_decoder. --output_dir "$work/fp32"
  for stage in 0 3; do
    run 0 2 "${train[@]}" --num_train_epochs 6 --unfreeze vis_encoder. lang_decoder. --precision "$precision" --zero_stage "$stage" \
      --output_dir "$work/$precision.$stage"
    never skipped\ on
  done
  same_columns "$work/$precision.0/loss_log.csv" "$work/$precision.3/loss_log.csv" "${bits[@]}"
  equal_models "$work/$precision.0/epoch-6" "$work/$precision.3/epoch-6"
  awk -v a="$(column "$work/$precision.0/eval_log.csv" loss | head -n 1)" -v b="$(column "$work/$precision.0/eval_log.csv" loss | tail -n 1)" \
    'BEGIN { exit !(b < a / 2) }' || fail "$precision does not learn"
  different_columns "$work/fp32/loss_log.csv" "$work/$precision.0/loss_log.csv" loss
  close_columns "$work/fp32/loss_log.csv" "$work/$precision.0/loss_log.csv" loss "$2"
}

# Steps 3, 4, 6 and 12 overflow on one rank. Window 3, hysteresis 2, from 2^10: by the rules of docs/computes.md, "Loss scale".
storm=(--precision fp16 --initial_scale_power 10 --loss_scale_window 3 --num_train_epochs 2)
scales='1024 1024 1024 1024 512 512 256 256 256 512 512 512 512 512 512 1024 '
skips='0 0 1 1 0 1 0 0 0 0 0 1 0 0 0 0 '
make_storm() {
  [ -d "$work/storm" ] || run 0 2 "${train[@]}" "${storm[@]}" --output_dir "$work/storm" --inject "$(poison 1 3 4 6 12)"
}
scale_follows_its_table() {
  make_storm
  once 'warning: faults are planted in this run: --inject nan@grad:rank=1,step=3;'
  grep -q '^# planted faults: --inject nan@grad:rank=1,step=3;' "$work/storm/options.cfg"
  [ "$(list "$work/storm/loss_log.csv" loss_scale)" = "$scales" ]
  [ "$(list "$work/storm/loss_log.csv" skipped)" = "$skips" ]
  [ "$(grep -c 'skipped on all ranks$' "$output")" = 4 ]
  [ "$(grep -c ': first number that is not finite: rank 1, micro-batch 1 of 1, layer lang_embed: gradient of lang_embed.weight' "$output")" = 4 ]
  # Whichever rank it hits, at whatever stage, all do the same.
  run 0 2 "${train[@]}" "${storm[@]}" --zero_stage 3 --output_dir "$work/storm_0" --inject "$(poison 0 3 4 6 12)"
  same_columns "$work/storm/loss_log.csv" "$work/storm_0/loss_log.csv" step loss loss_scale skipped
  equal_models "$work/storm/epoch-2" "$work/storm_0/epoch-2"
}

# A skipped step leaves weights, moments and rates as they were: the evaluation after it equals the one before.
skipped_steps_change_nothing() {
  run 0 2 "${train[@]}" --precision "$1" --max_steps 4 --eval_interval 1 --output_dir "$work/skip.$1" --inject "$(poison 0 2 3)"
  local losses
  read -r -a losses <<<"$(list "$work/skip.$1/eval_log.csv" loss)"
  [ "${losses[1]}" = "${losses[2]}" ]
  [ "${losses[1]}" = "${losses[3]}" ]
  [ "${losses[0]}" != "${losses[1]}" ]
  [ "${losses[3]}" != "${losses[4]}" ]
  column "$work/skip.$1/loss_log.csv" lr_decay | sed -n '2p;4p' | uniq | wc -l | grep -qx 1 # the schedule waited
}

# Interrupted right after an overflow that only reduced the hysteresis, and after one that halved the scale.
interrupted_after_an_overflow() {
  local from
  make_storm
  for from in 3 6; do
    local out=$work/cut_$from code=0
    timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" "${storm[@]}" --output_dir "$out" --save_interval "$from" \
      --inject "$(poison 1 3 4 6 12);kill@step:rank=0,step=$((from + 1))" >"$output" 2>&1 </dev/null || code=$?
    [ "$code" != 0 ]
    until_true 10 gone "$out"
    run 0 2 "${train[@]}" "${storm[@]}" --output_dir "$out" --inject "$(poison 1 3 4 6 12)"
    once "$(printf 'continuing from %s/checkpoints/step_%08d:' "$out" "$from")"
    same_columns "$work/storm/loss_log.csv" "$out/loss_log.csv" step loss grad_norm loss_scale skipped lr_decay
    equal_models "$work/storm/epoch-2" "$out/epoch-2"
    run 0 0 "$facet" inspect "$work/storm" "$out"
    once '0 of '
  done
}
gone() { ! pgrep -f -- "--output_dir $1" >/dev/null; }

# A checkpoint of fp16 goes on in all three precisions (that masters come over to the bit is tested in tests/checkpoint), and fp16 begins
# its scale anew where the checkpoint has none.
other_precisions() {
  local out=$work/other precision
  run 0 2 "${train[@]}" --precision fp16 --max_steps 4 --output_dir "$out"
  for precision in fp32 bf16 fp16; do
    run 0 2 "${train[@]}" --precision "$precision" --max_steps 5 --output_dir "$out"
    once "continuing from $out/checkpoints/step_00000004:"
    [ "$(rows "$out/loss_log.csv")" = 5 ]
    case $precision in
      fp16) never 'has no loss scale' ;;
      *) [ "$(column "$out/loss_log.csv" loss_scale | tail -n 1)" = 1 ] ;;
    esac
    rm -r "$out/checkpoints/step_00000005"
  done
  run 0 2 "${train[@]}" --precision bf16 --max_steps 5 --output_dir "$out"
  run 0 2 "${train[@]}" --precision fp16 --max_steps 6 --output_dir "$out"
  once 'the checkpoint was not trained in fp16 and has no loss scale: it starts at 65536'
}

hopeless_runs_end() {
  refused 87 2 'an overflow at the smallest loss scale, 1; step 3: first number that is not finite: rank 1, micro-batch 1 of 2, layer ' \
    "${train[@]}" --precision fp16 --initial_scale_power 1 --gradient_accumulation_steps 2 --max_steps 9 \
    --output_dir "$work/smallest" --inject 'nan@grad:rank=1'
  refused 87 2 '3 steps in a row without a finite gradient (--max_bad_steps); step 4: first number that is not finite: rank 0, ' \
    "${train[@]}" --precision bf16 --max_bad_steps 3 --max_steps 9 --output_dir "$work/bf16_end" --inject "$(poison 0 2 3 4)"
  grep -qE 'layer [a-z_.0-9]+: gradient of [a-z_.0-9]+, element 0 of .*is nan; samples [0-9]+ [0-9]+;' "$output"
  grep -q '^EXIT code=87 reason=numeric_stop step=4 ' "$output"
}

# Nothing was learned: that is no success, the second time neither, and nothing lies there that looks like a trained model.
no_step_changes_a_weight() {
  local out=$work/unchanged time
  for time in first second; do
    refused 87 2 'without a usable model: none of the 3 steps changed a weight' "${train[@]}" --precision fp16 \
      --initial_scale_power 32 --max_steps 3 --output_dir "$out"
    once "EXIT code=87 reason=numeric_stop step=3 checkpoint=$out/checkpoints/step_00000003"
    [ ! -e "$out/epoch-1" ] || fail "exported the $time time"
  done
  run 0 0 "$facet" inspect "$out"
  # Steps that were left out at first do not matter.
  run 0 2 "${train[@]}" --precision fp16 --max_steps 3 --output_dir "$work/changed" --inject "$(poison 0 1 2)"
  [ -e "$work/changed/epoch-1" ]
}

# A model of infinite weights is no success either, even where steps were taken.
last_evaluation_is_not_finite() {
  local out=$work/blown_up time
  for time in first second; do
    refused 87 2 'usable model: the loss of the last evaluation, after step 2, is ' "$facet" train "${model[@]}" \
      "${data[@]}" --seed 7 --precision fp16 --unfreeze lang_decoder. --learning_rate 1000 --gradient_clipping 0 --max_steps 2 --output_dir "$out"
    [ ! -e "$out/epoch-1" ] || fail "exported the $time time"
  done
  [ "$(list "$out/loss_log.csv" skipped)" = '0 1 ' ]
  [ -e "$out/checkpoints/step_00000002" ]
}

# set_nan FILE TENSOR: the first fp32 element of it in a safetensors file.
set_nan() {
  local header begin
  header=$(od -An -tu8 -N8 "$1" | tr -d ' ')
  begin=$(head -c $((8 + header)) "$1" | tail -c "$header" | tr -d '\n' |
    grep -oE "\"$2\": *\{[^}]*" | sed -E 's/.*"data_offsets": *\[ *([0-9]+).*/\1/')
  printf '\0\0\300\177' | dd of="$1" bs=1 seek=$((8 + header + begin)) conv=notrunc status=none
}

# Weights that are no numbers are named at the first pass over the model, and the run is no success.
weights_that_are_no_numbers() {
  local out=$work/nan named='parameter lang_decoder.model.norm.weight, element 0 of'
  cp -r "$tiny/lm" "$work/nan_lm"
  set_nan "$work/nan_lm/model.safetensors" model.norm.weight
  local bad=(--lm_model_name_or_path "$work/nan_lm" "${model[@]:2}" "${data[@]}")
  refused 87 2 'without a usable model: none of the 2 steps changed a weight' "$facet" train "${bad[@]}" --precision fp16 \
    --max_steps 2 --output_dir "$out"
  [ "$(grep -cE "warning: the loss of the evaluation after step 0 is nan; first number [a-z ]*: rank 0, .*$named" "$output")" = 1 ]
  [ "$(grep -c "^step 1: first number that is not finite: .*$named" "$output")" = 1 ]
  [ ! -e "$out/epoch-1" ]
  [ -e "$out/checkpoints/step_00000002" ]
  refused 87 0 "$named" "$facet" evaluate "${bad[@]}"
}

exports_serve_in_any_precision() {
  local precision
  [ -d "$work/bf16.0" ] || learns bf16 0.05
  for precision in fp32 bf16 fp16; do
    run 0 2 "$facet" evaluate --lm_model_name_or_path "$work/bf16.0/epoch-6/lang_decoder" --vision_model_name_or_path \
      "$work/bf16.0/epoch-6/vis_encoder" --threads 1 "${data[@]}" --seed 7 --precision "$precision"
    grep -o 'eval: loss=[^,]*' "$output" | cut -d= -f2 >>"$work/evaluated"
  done
  # In the precision it was trained in, what training's own last evaluation said.
  [ "$(sed -n 2p "$work/evaluated")" = "$(column "$work/bf16.0/eval_log.csv" loss | tail -n 1)" ]
  awk 'NR == 1 { a = $1 } { d = $1 / a - 1; if (!(d < 0.02 && d > -0.02)) bad = 1 } END { exit bad }' "$work/evaluated"
}

check Precision.Bf16Learns learns bf16 0.05
check Precision.Fp16Learns learns fp16 0.01
check Precision.ScaleFollowsItsTable scale_follows_its_table
check Precision.SkippedStepsChangeNothingInFp16 skipped_steps_change_nothing fp16
check Precision.SkippedStepsChangeNothingInBf16 skipped_steps_change_nothing bf16
check Precision.InterruptedAfterAnOverflow interrupted_after_an_overflow
check Precision.CheckpointsServeInAnyPrecision other_precisions
check Precision.HopelessRunsEnd hopeless_runs_end
check Precision.NoStepChangesAWeight no_step_changes_a_weight
check Precision.LastEvaluationIsNotFinite last_evaluation_is_not_finite
check Precision.WeightsThatAreNoNumbers weights_that_are_no_numbers
check Precision.ExportsServeInAnyPrecision exports_serve_in_any_precision
finish
