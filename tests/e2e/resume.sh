#!/usr/bin/env bash
# A run that was interrupted anywhere and restarted with the same command ends with the same bits as an uninterrupted run.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

# 32 training samples, 12 a step: three steps an epoch, the last of 8 samples and two micro-batches instead of three. Evaluations fall
# after steps that do not end an epoch.
recipe=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --num_warmup_steps 0.2 --lang_lora_dim 4 --lang_lora_dora
  --lora_plus_ratio 4 --enable_mmca_attention --seed 7)
batches=(--eval_interval 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 3)
train=("${recipe[@]}" --num_train_epochs 4 "${batches[@]}")
loss_columns=(step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor loss_scale skipped lr_decay loss_llava
  loss_llava_dial loss_coco_caption)
eval_columns=(step epoch samples labelled_tokens loss loss_llava loss_llava_dial loss_coco_caption)

newest() { cat "$1/checkpoints/latest"; }

# The run that is never cut; made once.
whole=$work/whole
make_whole() {
  [ -d "$whole" ] || run 0 2 "${train[@]}" --output_dir "$whole"
}

same_run() { # DIRECTORY: logs, weights, moments, counts and exports are those of the whole run
  same_columns "$whole/loss_log.csv" "$1/loss_log.csv" "${loss_columns[@]}"
  same_columns "$whole/eval_log.csv" "$1/eval_log.csv" "${eval_columns[@]}"
  equal_models "$whole/epoch-2" "$1/epoch-2"
  equal_models "$whole/epoch-4" "$1/epoch-4"
  run 0 0 "$facet" inspect "$whole" "$1"
  once '0 of '
  [ "$(newest "$1")" = "$(newest "$whole")" ]
}

# cut NAME SPEC FROM option...: kills a rank as --inject SPEC says; the run then continues from step FROM.
cut_and_continue() {
  local out=$work/$1 spec=$2 from=$3 code=0
  shift 3
  make_whole
  timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out" --inject "$spec" "$@" >"$output" 2>&1 </dev/null || code=$?
  [ "$code" != 0 ] || fail "nothing was killed by $spec"
  until_true 10 gone "$out"
  run 0 2 "${train[@]}" --output_dir "$out" "$@"
  if [ "$from" = 0 ]; then never 'continuing from'; else once "$(printf 'continuing from %s/checkpoints/step_%08d:' "$out" "$from")"; fi
  [ -z "$(find "$out/checkpoints" -name '*partial*' -o -name '*removed*' -o -name '*replaced*')" ]
  same_run "$out"
}
gone() { ! pgrep -f -- "--output_dir $1" >/dev/null; }

between_saves() { cut_and_continue between kill@step:rank=1,step=5 4 --save_interval 4; }
before_any_save() { cut_and_continue before kill@step:rank=0,step=2 0; }
in_the_short_window() { cut_and_continue short kill@step:rank=1,step=6 5 --save_interval 5; }
at_an_epochs_end() { cut_and_continue epoch kill@step:rank=0,step=7 6; }
inside_the_writing() { cut_and_continue writing kill@ckpt.write:rank=1,step=8 6 --save_interval 4; }
before_the_rename() { cut_and_continue rename kill@ckpt.rename:rank=0,step=7 6 --save_interval 7; }
before_latest() { cut_and_continue latest kill@ckpt.latest:rank=0,step=7 7 --save_interval 7; }
in_retention() { cut_and_continue retention kill@ckpt.retention:rank=0,step=9 9; }

# Cut twice: the second time out of a continued run.
cut_twice() {
  local code=0
  make_whole
  timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$work/twice" --save_interval 2 \
    --inject kill@step:rank=1,step=3 >"$output" 2>&1 </dev/null || code=$?
  [ "$code" != 0 ]
  until_true 10 gone "$work/twice"
  cut_and_continue twice kill@step:rank=0,step=11 10 --save_interval 2
}

# signalled SIGNAL: to one rank only, while a longer run goes on; it saves within a step and says so.
signalled() {
  local out=$work/signalled_$1 long=("${recipe[@]}" "${batches[@]}" --num_train_epochs 12 --unfreeze vis_encoder. lang_decoder.) pid code=0
  [ -d "$work/long_whole" ] || run 0 2 "${long[@]}" --output_dir "$work/long_whole"
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${long[@]}" --output_dir "$out") >"$output" 2>&1 </dev/null &
  pid=$!
  until_true 60 has_rows "$out"
  kill "-$1" "$(ranks_of "$out" | tail -n 1)"
  wait "$pid" || code=$?
  if [ "$code" != 85 ]; then
    tail -n 20 "$output"
    fail "exit code $code"
  fi
  once 'for a signal; the same command continues'
  grep -qE "^EXIT code=85 reason=saved step=[0-9]+ checkpoint=$out/checkpoints/$(newest "$out")\$" "$output"
  until_true 10 gone "$out"
  run 0 2 "${long[@]}" --output_dir "$out"
  once 'continuing from '
  same_columns "$work/long_whole/loss_log.csv" "$out/loss_log.csv" "${loss_columns[@]}"
  same_columns "$work/long_whole/eval_log.csv" "$out/eval_log.csv" "${eval_columns[@]}"
  equal_models "$work/long_whole/epoch-12" "$out/epoch-12"
}
has_rows() { [ -e "$1/loss_log.csv" ] && [ "$(wc -l <"$1/loss_log.csv")" -gt 4 ]; }
ranks_of() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $1"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}

time_limit_stops() {
  make_whole
  run 85 2 "${train[@]}" --output_dir "$work/hours" --max_hours 1e-9
  once 'stopping at step 1 for the time limit'
  run 0 2 "${train[@]}" --output_dir "$work/hours"
  same_run "$work/hours"
}

# Checkpoints of 2 ranks at stage 0 on 1 rank, and on 3 at stage 3: the state to the bit, the losses that follow within rounding.
other_rank_counts() {
  local ranks
  make_whole
  run 0 2 "${train[@]}" --output_dir "$work/two" --max_steps 7 --keep_last 9
  run 0 0 "$facet" inspect "$work/two"
  for ranks in 1 3; do
    local out=$work/on_$ranks share=(--per_device_train_batch_size 4 --gradient_accumulation_steps 3)
    [ "$ranks" = 1 ] || share=(--per_device_train_batch_size 2 --gradient_accumulation_steps 2 --zero_stage 3)
    cp -r "$work/two" "$out"
    rm -r "$out/checkpoints/step_00000007"
    run 0 "$ranks" "${recipe[@]}" --num_train_epochs 4 --eval_interval 2 "${share[@]}" --output_dir "$out" --max_steps 7
    once 'continuing from '
    close_columns "$work/two/loss_log.csv" "$out/loss_log.csv" loss 1e-5
    close_columns "$work/two/eval_log.csv" "$out/eval_log.csv" loss 1e-5
  done
  # Nothing to compute, only to close and to save: what 3 ranks wrote is what 2 ranks wrote.
  cp -r "$work/two" "$work/again"
  rm -r "$work/again/checkpoints/step_0000000"[67]
  run 0 3 "${recipe[@]}" --num_train_epochs 4 --eval_interval 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 2 \
    --zero_stage 3 --output_dir "$work/again" --max_steps 3 --save_interval 1
  once 'continuing from '
  "$facet" inspect "$work/two/checkpoints/step_00000003" "$work/again/checkpoints/step_00000003" | grep -q '^0 of '
}

longer_run() {
  make_whole
  cp -r "$whole" "$work/longer"
  run 0 2 "${train[@]}" --output_dir "$work/longer"
  once 'all 12 steps are done; nothing to do'
  run 0 2 "${recipe[@]}" "${batches[@]}" --num_train_epochs 5 --output_dir "$work/longer"
  once 'the run had 12 steps, now 15'
  [ "$(rows "$work/longer/loss_log.csv")" = 15 ]
}

other_run() {
  make_whole
  local changed=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --num_warmup_steps 0.2 --seed 8 --lang_lora_dim 2
    --enable_mmca_attention --num_train_epochs 3 --per_device_train_batch_size 1 --output_dir "$whole")
  refused 78 2 'is of another run' "${changed[@]}"
  once "--seed was '7', is '8'"
  once "--lang_lora_dim was '4', is '2'"
  once "--lang_lora_dora was 'true', is 'false'"
  once 'a step had 12 samples, now 2'
  once '--num_train_epochs was 4, is 3: it may only grow'
}

# Whatever happens to the newest checkpoint, the one before it takes over, and the end is the same.
damaged_newest() {
  local out=$work/damaged kind
  make_whole
  for kind in flip cut manifest gone swapped; do
    rm -rf "$out"
    cp -r "$whole" "$out"
    local last=$out/checkpoints/step_00000012 before=$out/checkpoints/step_00000009
    case $kind in
      flip) printf '\377' | dd of="$last/state.h5" bs=1 seek=300000 conv=notrunc status=none ;;
      cut) truncate -s -1 "$last/state.h5" ;;
      manifest) sed -i 's/"step": 12/"step": 13/' "$last/manifest.json" ;;
      gone) rm "$last/state.h5" ;;
      swapped) cp "$before/state.h5" "$last/state.h5" ;;
    esac
    # shellcheck disable=SC2046
    run $([ "$kind" = gone ] && echo 66 || echo 65) 0 "$facet" inspect "$last"
    run 0 2 "${train[@]}" --output_dir "$out"
    once "checkpoint $last is not used: "
    once "continuing from $before: step 9, epoch 4, step 0 of it"
    same_run "$out"
  done
  printf '\377' | dd of="$out/checkpoints/step_00000009/state.h5" bs=1 seek=300000 conv=notrunc status=none
  printf '\377' | dd of="$out/checkpoints/step_00000012/state.h5" bs=1 seek=300000 conv=notrunc status=none
  refused 65 2 'none of the 2 checkpoints can be used' "${train[@]}" --output_dir "$out"
}

# A full disk ends the run with one message, and what was saved stays.
full_disk() {
  make_whole
  local limit
  for limit in 2 40 200; do # KiB; the shared memory of the watchdog has to fit into it too
    rm -rf "$work/full"
    run 0 2 "${train[@]}" --output_dir "$work/full" --max_steps 3
    # shellcheck disable=SC2016
    refused 74 2 'error: ' bash -c 'ulimit -f "$1"; shift; exec "$@"' - "$limit" "${train[@]}" --output_dir "$work/full" --max_steps 4
    grep -qE '^EXIT code=74 reason=io step=[0-9]+ checkpoint=.*step_00000003$' "$output"
    [ -z "$(find "$work/full/checkpoints" -name '*partial*')" ]
    run 0 0 "$facet" inspect "$work/full"
  done
}

best_is_kept() {
  make_whole
  run 0 2 "${train[@]}" --output_dir "$work/best" --keep_best
  local step
  step=$(paste -d ' ' <(column "$work/best/eval_log.csv" loss) <(column "$work/best/eval_log.csv" step) | sort -g | sed -n '1s/.* //p')
  run 0 0 "$facet" inspect "$work/best"
  grep -qE "^best_step +$step\$" "$output"
  [ -s "$work/best/best/projection.safetensors" ]
}

# in_record TEXT: run.json holds it, white space aside.
in_record() { [[ $(tr -d ' \n' <"$work/recorded/run.json") == *$1* ]] || fail "run.json has no $1: $(cat "$work/recorded/run.json")"; }
records_its_starts() {
  local out=$work/recorded code=0 git
  local again=("${recipe[@]}" --max_steps 4 --num_train_epochs 1 --eval_interval 9 --save_interval 2 --output_dir "$out")
  git=$("$facet" --version | sed -n 's/^facet .* (git \(.*\))$/\1/p')
  timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${again[@]}" --inject kill@step:rank=1,step=3 >"$output" 2>&1 </dev/null || code=$?
  [ "$code" != 0 ]
  until_true 10 gone "$out"
  once 'resolved options:'
  once "(git $git)"
  in_record '{"format":"facetrunrecordv1","starts":[{"start":1,"time":"20'
  in_record "\"git\":\"$git\""
  in_record '"ranks":2,"hosts":["'
  in_record '"threads":1,"numa":"'
  in_record '"seed":"7"'
  [ "$(grep -c '"end":' "$out/run.json")" = 0 ] # it was killed
  run 85 2 "${again[@]}" --zero_stage 2 --max_hours 1e-9
  once 'start 2 of this run; options that changed since start 1:'
  once 'zero_stage: 0 -> 2'
  once 'inject: kill@step:rank=1,step=3 -> (none)'
  never 'resolved options:'
  never 'seed: '
  in_record '"resumed_from":{"step":2,"checkpoint":"checkpoints/step_00000002"},"options_changed":{'
  in_record '"zero_stage":["0","2"]'
  in_record '"code":85,"reason":"saved","step":3,"checkpoint":"checkpoints/step_00000003"}}]}'
  [ "$(grep -c '"start":' "$out/run.json")" = 2 ]
  grep -qx "# of facet .* (git $git)" "$out/options.cfg"
  # A record that is damaged keeps no run from going on.
  truncate -s -9 "$out/run.json"
  run 0 2 "${again[@]}" --zero_stage 1
  once 'it is kept as run.json.previous'
  once "start 1 of this run; options that changed since $out/checkpoints/step_00000003:"
  once 'zero_stage: 2 -> 1'
  in_record '"code":0,"reason":"done","step":4,"checkpoint":"checkpoints/step_00000004"}}]}'
}

check Resume.RecordsItsStarts records_its_starts
check Resume.BetweenSaves between_saves
check Resume.BeforeAnySave before_any_save
check Resume.InTheShortWindow in_the_short_window
check Resume.AtAnEpochsEnd at_an_epochs_end
check Resume.KilledInsideTheWriting inside_the_writing
check Resume.KilledBeforeTheRename before_the_rename
check Resume.KilledBeforeLatest before_latest
check Resume.KilledInRetention in_retention
check Resume.CutTwice cut_twice
check Resume.Sigterm signalled TERM
check Resume.Sigusr1 signalled USR1
check Resume.TimeLimit time_limit_stops
check Resume.OtherRankCounts other_rank_counts
check Resume.LongerRun longer_run
check Resume.OtherRunIsRefused other_run
check Resume.DamagedNewestFallsBack damaged_newest
check Resume.FullDisk full_disk
# Names of files may hold any bytes; none keeps a run from its checkpoints.
directory_of_any_bytes() {
  local out=$work/$'caf\xe9'
  run 0 0 "${recipe[@]}" --max_steps 1 --output_dir "$out"
  run 0 0 "${recipe[@]}" --max_steps 2 --output_dir "$out"
  once "continuing from $work/caf\\xe9/checkpoints/step_00000001"
  once "EXIT code=0 reason=done step=2 checkpoint=$work/caf\\xe9/checkpoints/step_00000002"
}

check Resume.Best best_is_kept
check Resume.DirectoryOfAnyBytes directory_of_any_bytes
finish
