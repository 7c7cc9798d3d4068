#!/usr/bin/env bash
# What the system refuses a run: room on the disk under each file that it writes, open files, threads, its output directory, which
# somebody removes. One message, the right exit code, nothing lost, no hang.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

export_files=(lang_decoder/{config.json,model.safetensors,tokenizer.model,tokenizer_config.json,added_tokens.json}
  vis_encoder/{config.json,model.safetensors,preprocessor_config.json} projection.safetensors)
run_files=(run.lock options.cfg loss_log.csv eval_log.csv state.h5 manifest.json "${export_files[@]}")

build_refusing_system || exit 1
full_disk_for() { echo env "LD_PRELOAD=$refusing" "FULL_DISK_FOR=$1"; }
no_handles_for() { echo env "LD_PRELOAD=$refusing" "NO_HANDLES_FOR=$1"; }

options=(--dataset_names llava --per_device_train_batch_size 8 --num_train_epochs 2 --seed 7)
train=("$facet" train "${model[@]}" --data_path "$tiny/data" "${options[@]}")
whole=$work/whole
make_whole() { [ -d "$whole" ] || run 0 0 "${train[@]}" --output_dir "$whole"; }
same_end() { # DIRECTORY
  same_columns "$whole/loss_log.csv" "$1/loss_log.csv" step loss grad_norm
  equal_models "$whole/epoch-2" "$1/epoch-2"
}
# What the last line says was kept can be continued from.
kept_is_sound() {
  local kept
  kept=$(sed -n 's/^EXIT .* checkpoint=//p' "$output")
  [ "$kept" = none ] || run 0 0 "$facet" inspect "$kept"
}

# One after the other, each run meets a full disk under one file; the last one meets none, and ends as if nothing had been.
full_disk() {
  local file out=$work/full
  make_whole
  for file in "${run_files[@]}"; do
    # shellcheck disable=SC2046
    refused 74 0 "/$file: " $(full_disk_for "/$file") "${train[@]}" --output_dir "$out"
    once 'No space left on device'
    once 'EXIT code=74 reason=io '
    kept_is_sound
  done
  run 0 0 "${train[@]}" --output_dir "$out"
  same_end "$out"
}

# The same on two ranks: only one of them may fail, and both must end.
full_disk_of_ranks() {
  local file
  for file in state.h5 loss_log.csv lang_decoder/model.safetensors; do
    # shellcheck disable=SC2046
    refused 74 2 "/$file: " $(full_disk_for "/$file") "${train[@]}" --output_dir "$work/full_ranks"
    kept_is_sound
  done
}

# What people look at, and what the next run makes again or can do without, is no reason to end one.
full_disk_for_pictures() {
  local file
  make_whole
  for file in loss_curve.svg checkpoints/latest run.json; do
    # shellcheck disable=SC2046
    run 0 0 $(full_disk_for "/$file") "${train[@]}" --output_dir "$work/pictures"
    grep -q "^warning: .*/$file: .*No space left on device" "$output"
    same_end "$work/pictures"
    rm -r "$work/pictures"
  done
}

# Files that only some runs write.
full_disk_of_options() {
  local spoilt=$work/data
  cp -r "$tiny/data" "$spoilt"
  rm "$spoilt"/coco/train2017/*
  # shellcheck disable=SC2046
  refused 74 0 bad_samples.rank-0.jsonl $(full_disk_for /bad_samples.rank) "$facet" train "${model[@]}" --data_path "$spoilt" "${options[@]}" \
    --output_dir "$work/some" --bad_samples skip --max_bad_fraction 1
  # shellcheck disable=SC2046
  refused 74 0 batches.h5 $(full_disk_for /batches.h5) "${train[@]}" --output_dir "$work/some" --dump_batches 1
  # shellcheck disable=SC2046
  refused 74 0 "$work/debug/" $(full_disk_for /debug/) "${train[@]}" --output_dir "$work/some" --dry_run --data_debug_path "$work/debug"
  echo '{"one": [["Where is it?"]]}' >"$work/questions.json"
  # shellcheck disable=SC2046
  refused 74 0 "$work/answers.csv" $(full_disk_for /answers.csv) "$facet" generate "${model[@]}" --input "$work/questions.json" \
    --output "$work/answers.csv" --max_new_tokens 2
}

# A limit of the process is no fault of the sample whose image can't be opened: --bad_samples skip must not leave it out.
open_files() {
  local file
  for file in coco/train2017/ llava/detail_23k.json lm/model.safetensors lm/tokenizer.model clip/config.json; do
    # shellcheck disable=SC2046
    refused 71 0 "/$file" $(no_handles_for "/$file") "${train[@]}" --output_dir "$work/handles" --bad_samples skip --max_bad_fraction 1
    once 'ulimit -n'
  done
  for file in state.h5 loss_log.csv options.cfg; do
    # shellcheck disable=SC2046
    refused 74 0 "/$file: " $(no_handles_for "/$file") "${train[@]}" --output_dir "$work/handles"
    once 'Too many open files'
  done
}

# Whatever the limit, an end: MPI's own below what it needs.
open_files_of_the_process() {
  local limit code
  for limit in 8 16 24 32; do
    code=0
    (ulimit -n "$limit" && exec timeout -k 5 "$time_limit" "${train[@]}" --output_dir "$work/limit" --max_steps 1) >"$output" 2>&1 </dev/null ||
      code=$?
    [ "$code" -lt 124 ] || fail "exit code $code with ulimit -n $limit"
    [ "$code" != 70 ] || fail "an internal error with ulimit -n $limit"
  done
}

# However many threads may start, an end: MPI's own below what it needs. Of a checkpoint that no thread can write beside training, the state
# is kept all the same.
threads() {
  local most code kept=0
  for most in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    code=0
    rm -rf "$work/threads"
    timeout -k 5 "$time_limit" env "LD_PRELOAD=$refusing" "THREADS_AT_MOST=$most" "${train[@]}" --output_dir "$work/threads" --save_interval 1 \
      --async_checkpoint >"$output" 2>&1 </dev/null || code=$?
    [ "$code" != 0 ] || break
    grep -q '^EXIT ' "$output" || continue # MPI could not start
    [ "$code" = 71 ] || fail "exit code $code with $most threads"
    [ "$(grep -c '^error' "$output")" = 1 ]
    grep -q '^error: .*raise ulimit -u' "$output"
    if ! grep -q 'a thread for writing the checkpoint' "$output"; then continue; fi
    grep -qE "^EXIT code=71 reason=system step=([0-9]+) checkpoint=$work/threads/checkpoints/step_0*\1\$" "$output"
    kept_is_sound
    kept=$((kept + 1))
  done
  [ "$code" = 0 ] || fail "exit code $code with $most threads"
  [ "$kept" -ge 1 ]
}

has_rows() { [ -e "$1/loss_log.csv" ] && [ "$(rows "$1/loss_log.csv")" -ge 2 ]; }
has_checkpoint() { [ -d "$1/checkpoints/step_00000002" ]; }
is_removed() { rm -rf "$1" && [ ! -e "$1" ]; }
# removed RANKS WHEN option...: the output directory goes away in mid-run, once `WHEN DIRECTORY` holds.
removed() {
  local out=$work/removed ranks=$1 when=$2 launched code=0 launch=()
  shift 2
  rm -rf "$out"
  if [ "$ranks" != 0 ]; then launch=(mpirun -n "$ranks" --oversubscribe); fi
  : >"$output"
  (exec timeout -k 5 "$time_limit" "${launch[@]}" "${train[@]}" --output_dir "$out" "$@") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 "$when" "$out"
  until_true 5 is_removed "$out"
  wait "$launched" || code=$?
  [ "$code" = 74 ] || { tail -n 30 "$output"; fail "exit code $code"; }
  [ "$(grep -c '^error' "$output")" = 1 ]
  once 'was removed while the run was writing it, and its directory too'
  grep -qE "^EXIT code=74 reason=io step=([0-9]+) checkpoint=$out/checkpoints/step_0*\1\$" "$output" # no step is lost
  kept_is_sound
}
directory_removed() {
  make_whole
  removed 0 has_rows --inject 'slow@step:ms=700'
  run 0 0 "${train[@]}" --output_dir "$work/removed" # what was kept goes on
  equal_models "$whole/epoch-2" "$work/removed/epoch-2"
}

check Faults.FullDisk full_disk
check Faults.FullDiskOnTwoRanks full_disk_of_ranks
check Faults.FullDiskForPictures full_disk_for_pictures
check Faults.FullDiskOfOptions full_disk_of_options
check Faults.OpenFiles open_files
check Faults.OpenFilesOfTheProcess open_files_of_the_process
check Faults.Threads threads
check Faults.DirectoryRemoved directory_removed
check Faults.DirectoryRemovedAfterASave removed 0 has_checkpoint --inject 'slow@ckpt.retention:ms=1000'
check Faults.DirectoryRemovedOnTwoRanks removed 2 has_rows --inject 'slow@step:ms=700'
finish
