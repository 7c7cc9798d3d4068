#!/usr/bin/env bash
# --sample_prompts: answers while training are those of the exported model, and training does not notice that they are asked for.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# 36 samples, 12 a step: three steps an epoch. Exports say what the model was after steps 3 and 6.
ln -s "$tiny/data/eval/images" "$work/images"
cd "$work" || exit 1
mapfile -t images < <(ls images | head -n 2)
cat >questions.json <<END
{
  "one": [["What do you see?", "images/${images[0]}"]],
  "rounds": [["What is this?", "images/${images[1]}"], ["And its colour?"], ["Compare.", "images/${images[0]} images/${images[1]}"]],
  "text": [["How are you?"]]
}
END
steps=("$facet" train "${model[@]}" "${data[@]}" --seed 7 --data_train_split_ratio 1 --learning_rate 4e-3 --enable_mmca_attention --num_train_epochs 2)
whole=(--unfreeze vis_encoder. lang_decoder.)
on_2=(--per_device_train_batch_size 3 --gradient_accumulation_steps 2)
on_3=(--per_device_train_batch_size 2 --gradient_accumulation_steps 2)
on_4=(--per_device_train_batch_size 1 --gradient_accumulation_steps 3)
recipe=("${steps[@]}" "${whole[@]}" "${on_2[@]}")
asked=(--sample_prompts questions.json --max_new_tokens 8)
parts=(--zero_stage 3 --stage3_param_persistence_threshold 100)

# answers_of FILE [STEP]: lines of a run's samples and of facet generate without what tells them apart.
answers_of() {
  grep -E "${2:+\"step\": ?$2,}" "$1" |
    sed -E 's/"(step|epoch|samples|answer_number|seconds)": ?[^,]*, ?//g'
}

# How many lines each step has: "2:5 4:5".
steps_of() { sed -E 's/.*"step": ([0-9]+),.*/\1/' "$1" | uniq -c | awk '{ printf "%s%s:%s", (NR > 1 ? " " : ""), $2, $1 }'; }

# answers_as_exported RUN EPOCH STEP option...: the run's answers after that step are those of facet generate on that export.
answers_as_exported() {
  local out=$1 epoch=$2
  answers_as_of "$1" "$3" --lm_model_name_or_path "$out/epoch-$epoch/lang_decoder" --vision_model_name_or_path "$out/epoch-$epoch/vis_encoder" "${@:4}"
}
answers_as_of() { # RUN STEP option...
  local out=$1 step=$2
  shift 2
  run 0 0 "$facet" generate --threads 1 --enable_mmca_attention --input questions.json --output "$out.$step.jsonl" --max_new_tokens 8 "$@"
  diff <(answers_of "$out.$step.jsonl") <(answers_of "$out/samples.jsonl" "$step")
  [ "$(answers_of "$out/samples.jsonl" "$step" | wc -l)" = 5 ]
}

# A run without questions, for its bits; made once.
make_plain() { [ -d "plain$1" ] || run 0 2 "${recipe[@]}" --zero_stage "$1" --output_dir "plain$1"; }
unnoticed() { # STAGE RUN
  same_columns "plain$1/loss_log.csv" "$2/loss_log.csv" step samples tokens loss grad_norm clip_factor
  equal_models "plain$1/epoch-1" "$2/epoch-1"
  equal_models "plain$1/epoch-2" "$2/epoch-2"
}

at_stage_0() {
  make_plain 0
  run 0 2 "${recipe[@]}" --output_dir stage0 "${asked[@]}"
  unnoticed 0 stage0
  answers_as_exported stage0 1 3
  answers_as_exported stage0 2 6
  [ "$(wc -l <stage0/samples.jsonl)" = 10 ]
  if diff <(answers_of stage0/samples.jsonl 3) <(answers_of stage0/samples.jsonl 6); then fail 'nothing was learnt in between'; fi
}

# Three layers at a time, then all at once; at another interval too.
at_stage_3() {
  make_plain 3
  run 0 2 "${recipe[@]}" "${parts[@]}" --output_dir stage3 "${asked[@]}" --sample_interval 4 --tp_gather_partition_size 3
  run 0 2 "${recipe[@]}" "${parts[@]}" --output_dir pinned "${asked[@]}" --pin_parameters
  unnoticed 3 stage3
  unnoticed 3 pinned
  answers_as_exported pinned 1 3
  answers_as_exported pinned 2 6
  diff <(answers_of pinned/samples.jsonl 6) <(answers_of stage3/samples.jsonl 6)
  [ "$(steps_of stage3/samples.jsonl)" = '4:5 6:5' ]
}

# More ranks than questions. In an adapter LoRA is apart as it is in training, in a whole model it is merged.
more_ranks_and_lora() {
  local lora=(--precision bf16 --lang_lora_dim 4)
  run 0 4 "${steps[@]}" "${on_4[@]}" --output_dir stage2 --zero_stage 2 "${asked[@]}" "${lora[@]}"
  answers_as_of stage2 3 "${model[@]:0:4}" --adapter stage2/epoch-1 --precision bf16
  answers_as_exported stage2 2 6 --precision bf16
}

compat_in_fp16() {
  run 0 3 "${steps[@]}" "${on_3[@]}" "${whole[@]}" "${parts[@]}" --output_dir compat --compat visualchat --precision fp16 "${asked[@]}"
  answers_as_exported compat 2 6 --compat visualchat --precision fp16
}

# Killed after step 5, with the last checkpoint at step 3; goes on with another number of ranks. Every line stands once.
killed_and_continued() {
  local code=0
  make_plain 0
  [ -d stage0 ] || run 0 2 "${recipe[@]}" --output_dir stage0 "${asked[@]}"
  timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${recipe[@]}" --output_dir killed "${asked[@]}" --sample_interval 1 \
    --inject kill@step:rank=1,step=5 >"$output" 2>&1 </dev/null || code=$?
  [ "$code" != 0 ]
  [ "$(steps_of killed/samples.jsonl)" = '1:5 2:5 3:5 4:5 5:5' ]
  run 0 3 "${steps[@]}" "${on_3[@]}" "${whole[@]}" --output_dir killed "${asked[@]}" --sample_interval 1
  [ "$(steps_of killed/samples.jsonl)" = '1:5 2:5 3:5 4:5 5:5 6:5' ]
  diff <(answers_of stage0/samples.jsonl 6) <(answers_of killed/samples.jsonl 6)
}

# Asked to stop while it answers, it saves the step, and answers when it goes on.
stopped_in_its_answers() {
  local pid code=0
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${recipe[@]}" "${parts[@]}" --output_dir stopped "${asked[@]}" \
    --sample_interval 2 --inject slow@sample:ms=1500) >"$output" 2>&1 </dev/null &
  pid=$!
  until_true 60 has_step_2
  kill -USR1 "$(pgrep -f -- '--output_dir stopped' | tail -n 1)"
  wait "$pid" || code=$?
  [ "$code" = 85 ]
  [ ! -s stopped/samples.jsonl ]
  [ "$(cat stopped/checkpoints/latest)" = step_00000002 ]
  run 0 2 "${recipe[@]}" "${parts[@]}" --output_dir stopped "${asked[@]}" --sample_interval 2
  [ "$(steps_of stopped/samples.jsonl)" = '2:5 4:5 6:5' ]
}
has_step_2() { grep -qs '^2,' stopped/loss_log.csv; }

# One rank cannot read what it is asked about: the others answer, and training ends as ever.
one_question_fails() {
  make_plain 3
  run 0 2 "${recipe[@]}" "${parts[@]}" --output_dir failing "${asked[@]}" --inject fail@sample:rank=1,step=3
  [ "$(grep -c '"stop_reason": "error", "error": ' failing/samples.jsonl)" = 3 ]
  [ "$(wc -l <failing/samples.jsonl)" = 10 ]
  unnoticed 3 failing
}

# Before the first step: what cannot be answered is one error.
checked_at_the_start() {
  sed "s#images/${images[0]}#images/none.png#" questions.json >absent.json
  refused 66 2 'images/none.png (test one)' "${recipe[@]}" --output_dir refused --sample_prompts absent.json
  refused 78 2 'test rounds: ' "${recipe[@]}" --output_dir refused "${asked[@]}" --max_out_tokens 30
  [ ! -e refused/loss_log.csv ]
}

# What answers take beyond a step is planned, held meanwhile, and given back.
memory_is_planned() {
  local planned kept small=(--max_seq_len 240 --gradient_checkpointing --max_new_tokens 8 --max_steps 1)
  for kept in --pin_parameters '--inference_tp_size 2'; do
    # shellcheck disable=SC2086
    run 0 2 "${steps[@]}" "${on_4[@]}" "${parts[@]}" --output_dir "memory_${kept:2:3}" --sample_prompts questions.json "${small[@]}" --release_inference_cache $kept
    grep -E '^  sampling +[1-9]' "$output"
    planned=$(sed -nE 's/the arenas of a rank held ([0-9]+) bytes at most; planned: ([0-9]+)/\1 \2/p' "$output")
    awk '{ exit !($1 <= $2 && $1 > 0.8 * $2) }' <<<"$planned"
  done
}

# Both ranks hold the model together: the same answers as of one, also with LoRA and partitioned parameters; three ranks are no pairs.
in_groups() {
  local stage of_stage lora=(--lang_lora_dim 4)
  for stage in 0 3; do
    of_stage=("${steps[@]}" "${on_2[@]}" "${lora[@]}" --zero_stage "$stage" --stage3_param_persistence_threshold 100 --max_steps 3)
    run 0 2 "${of_stage[@]}" --output_dir "alone$stage" "${asked[@]}"
    run 0 2 "${of_stage[@]}" --output_dir "pair$stage" "${asked[@]}" --inference_tp_size 2 --release_inference_cache
    diff <(answers_of "alone$stage/samples.jsonl") <(answers_of "pair$stage/samples.jsonl")
    [ "$(steps_of "pair$stage/samples.jsonl")" = '3:5' ]
    same_columns "alone$stage/loss_log.csv" "pair$stage/loss_log.csv" step samples tokens loss grad_norm clip_factor
    equal_models "alone$stage/epoch-1" "pair$stage/epoch-1"
  done
  refused 78 3 '3 ranks are no groups of 2' "${steps[@]}" "${on_3[@]}" --output_dir refused_groups "${asked[@]}" --inference_tp_size 2
}

# What one rank of a group cannot read costs the answers of the group, of four ranks those of the first two; the others answer as ever.
one_of_a_group_fails() {
  local fours=("${steps[@]}" "${on_4[@]}" --max_steps 1 "${asked[@]}" --inference_tp_size 2)
  run 0 4 "${fours[@]}" --output_dir groups
  run 0 4 "${fours[@]}" --output_dir failing_group --hang_seconds_evaluate 20 --inject fail@sample:rank=1,step=1
  [ "$(grep -c '"stop_reason": "error", "error": "of 2 ranks that answer together: rank 1' failing_group/samples.jsonl)" = 2 ]
  diff <(answers_of groups/samples.jsonl | sed -n 2,4p) <(answers_of failing_group/samples.jsonl | sed -n 2,4p)
  same_columns groups/loss_log.csv failing_group/loss_log.csv loss grad_norm
}

check Samples.AtStage0 at_stage_0
check Samples.AtStage3 at_stage_3
check Samples.MoreRanksAndLora more_ranks_and_lora
check Samples.CompatInFp16 compat_in_fp16
check Samples.KilledAndContinued killed_and_continued
check Samples.StoppedInItsAnswers stopped_in_its_answers
check Samples.OneQuestionFails one_question_fails
check Samples.CheckedAtTheStart checked_at_the_start
check Samples.MemoryIsPlanned memory_is_planned
check Samples.InGroups in_groups
check Samples.OneOfAGroupFails one_of_a_group_fails
finish
