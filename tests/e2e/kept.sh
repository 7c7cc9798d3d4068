#!/usr/bin/env bash
# Finished work is kept: whatever ends a run in order, the last whole step is saved first, and the same command goes on there. And what a
# dry run finds out beforehand.
cd "$(dirname "$0")/../.." || exit 1
# A small file system of one's own is mounted in a name space that goes with this script.
if [ -z "${FACET_OWN_MOUNTS:-}" ]; then
  export FACET_OWN_MOUNTS=no
  if unshare -m true 2>/dev/null; then FACET_OWN_MOUNTS=yes exec unshare -m bash "$0"; fi
fi
. tests/e2e/lib.sh
trap 'umount -l "$work/disk" 2>/dev/null; rm -rf "$work"' EXIT

# 32 training samples, 8 a step: 4 steps an epoch. Evaluations after each step that --eval_interval names have two batches on each rank.
options=(--dataset_names llava llava_dial coco_caption --learning_rate 2e-3 --seed 7 --num_train_epochs 2 --per_device_train_batch_size 2
  --gradient_accumulation_steps 2 --per_device_eval_batch_size 1)
train=("$facet" train "${model[@]}" --data_path "$tiny/data" "${options[@]}")

whole=$work/whole # never disturbed
make_whole() {
  [ -d "$whole" ] || run 0 2 "${train[@]}" --output_dir "$whole"
}
same_end() { # DIRECTORY
  same_columns "$whole/loss_log.csv" "$1/loss_log.csv" step epoch samples labelled_tokens loss grad_norm
  same_columns "$whole/eval_log.csv" "$1/eval_log.csv" step loss
  equal_models "$whole/epoch-1" "$1/epoch-1"
  equal_models "$whole/epoch-2" "$1/epoch-2"
  run 0 0 "$facet" inspect "$whole" "$1"
  once '0 of '
}
checkpoint() { printf '%s/checkpoints/step_%08d' "$1" "$2"; }
# What the last line says: code, reason, last step, and step of the checkpoint.
ends_at() { once "EXIT code=$2 reason=$3 step=$4 checkpoint=$(checkpoint "$1" "$5")"; }
# The command goes on where it was, to the same end.
goes_on() { # DIRECTORY STEP
  run 0 2 "${train[@]}" --output_dir "$1"
  once "continuing from $(checkpoint "$1" "$2"):"
  same_end "$1"
}

# Only the rank that gets the sample knows at first. The second time there is nothing new to save.
bad_sample() {
  local out=$work/bad spoilt=("$facet" train "${model[@]}" --data_path "$work/bad_data" "${options[@]}" --output_dir "$work/bad") image
  make_whole
  cp -r "$tiny/data" "$work/bad_data"
  image=$work/bad_data/coco/train2017/000000000005.jpg
  echo spoilt >"$image"
  refused 65 2 'bad sample in data set llava, record 3: ' "${spoilt[@]}"
  once 'step 2 is saved, because an error ends the run'
  ends_at "$out" 65 bad_data 2 2
  refused 65 2 'bad sample in data set llava, record 3: ' "${spoilt[@]}"
  never 'is saved, because'
  ends_at "$out" 65 bad_data 2 2
  cp "$tiny/data/coco/train2017/000000000005.jpg" "$image"
  run 0 2 "${spoilt[@]}"
  once "continuing from $(checkpoint "$out" 2):"
  same_end "$out"
}

# The state at a numeric stop may be what is wrong: the older checkpoint stays beside it.
numeric_stop() {
  local out=$work/numeric
  refused 87 2 '2 steps in a row without a finite gradient' "${train[@]}" --output_dir "$out" --max_bad_steps 2 --save_interval 3 \
    --keep_last 1 --inject 'nan@grad:rank=1,step=6;nan@grad:rank=1,step=7'
  ends_at "$out" 87 numeric_stop 7 7
  [ "$(cd "$out/checkpoints" && echo step_*)" = 'step_00000006 step_00000007' ]
}

# fails_at MOMENT RANK STEP: an error of one rank's disk after a step.
fails_at() {
  local out=$work/fails_$1
  make_whole
  refused 74 2 "$1 of step $3 fails as --inject asks" "${train[@]}" --output_dir "$out" --inject "fail@$1:rank=$2,step=$3"
  ends_at "$out" 74 io "$3" "$3"
  [ -z "$(find "$out" -name '*partial*')" ]
  goes_on "$out" "$3"
}

# Not even a kill costs the epoch.
killed_in_an_export() {
  make_whole
  run 137 2 "${train[@]}" --output_dir "$work/killed" --inject kill@export:rank=0,step=4
  goes_on "$work/killed" 4
}

# A disk with room for the checkpoint but not for an export beside it.
export_does_not_fit() {
  local disk=$work/disk
  mkdir "$disk"
  mount -t tmpfs -o size=3m facet_test "$disk"
  refused 74 2 "$disk/out/epoch-1: the export needs" "${train[@]}" --output_dir "$disk/out"
  ends_at "$disk/out" 74 io 4 4
  mount -o remount,size=64m "$disk"
  run 0 2 "${train[@]}" --output_dir "$disk/out"
  once "continuing from $(checkpoint "$disk/out" 4):"
  umount "$disk"
}

# Two checkpoints of one step do not fit, one does and an export: the run ends well.
no_room_to_renew() {
  local disk=$work/disk2 size
  make_whole
  size=$(($(du -sk "$whole/checkpoints/step_00000008" | cut -f 1) + $(du -sk "$whole/epoch-2" | cut -f 1) + 200))
  mkdir "$disk"
  mount -t tmpfs -o "size=${size}k" facet_test "$disk"
  run 0 2 "${train[@]}" --output_dir "$disk/out" --max_steps 2
  once 'the checkpoint of step 2 stays as it was before evaluation and export'
  ends_at "$disk/out" 0 done 2 2
  umount "$disk"
}

no_picture() {
  mkdir -p "$work/picture/loss_curve.svg/in_the_way"
  run 0 2 "${train[@]}" --output_dir "$work/picture" --max_steps 1
  grep -q "^warning: $work/picture/loss_curve.svg: " "$output"
  ends_at "$work/picture" 0 done 1 1
}

ranks_of() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $1"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}
printed() { grep -qF -- "$1" "$output"; }

# stops_in WHAT LINE NEVER INJECT: a signal to one rank, once LINE is printed, within an evaluation or export that is slowed down.
stops_in() {
  local out=$work/stops_$1 line=$2 not=$3 inject=$4 launched code=0
  make_whole
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out" --inject "$inject") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 printed "$line"
  kill -USR1 "$(ranks_of "$out" | tail -n 1)"
  wait "$launched" || code=$?
  [ "$code" = 85 ] || fail "exit code $code"
  never "$not"
  once 'stopping at step 4 for a signal; the same command continues'
  ends_at "$out" 85 saved 4 4
  [ -z "$(find "$out" -name '*partial*')" ]
  goes_on "$out" 4
}

# Nothing was done yet that could be lost.
stops_before_the_first_step() {
  local out=$work/first launched code=0
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out" --inject slow@evaluate:ms=2500) \
    >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 printed 'a pass over the data; a step has'
  kill -USR1 "$(ranks_of "$out" | tail -n 1)"
  wait "$launched" || code=$?
  [ "$code" = 85 ] || fail "exit code $code"
  once 'stopping at step 0 for a signal; the same command begins again'
  once 'EXIT code=85 reason=saved step=0 checkpoint=none'
}

# An evaluation between two epochs' ends that a signal cut short is made up for before the next step.
evaluation_is_made_up_for() {
  local out=$work/made_up interval=(--eval_interval 2) launched code=0
  run 0 2 "${train[@]}" "${interval[@]}" --output_dir "$work/made_up_whole" --max_steps 3
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" "${interval[@]}" --output_dir "$out" --max_steps 3 \
    --steps_per_print 1 --inject slow@evaluate:ms=2500,step=2) >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 printed 'step=2, '
  kill -USR1 "$(ranks_of "$out" | tail -n 1)"
  wait "$launched" || code=$?
  [ "$code" = 85 ] || fail "exit code $code"
  never 'eval: step=2'
  run 0 2 "${train[@]}" "${interval[@]}" --output_dir "$out" --max_steps 3
  same_columns "$work/made_up_whole/eval_log.csv" "$out/eval_log.csv" step loss
}

dry=("$facet" train "${model[@]}" "${options[@]}" --dry_run)

# Every record, on any number of ranks, and each bad one once.
all_records() {
  local ranks set=$work/some_bad
  for ranks in 0 2; do
    run 0 "$ranks" "${dry[@]}" --data_path "$tiny/data" --check_all_samples
    once 'all good: 36 records'
  done
  cp -r "$tiny/data" "$set"
  echo spoilt >"$set/coco/2014/COCO_train2014_000000000002.jpg"
  rm "$set/coco/train2017/000000000005.jpg"
  sed -i '0,/"value": "/s//"value": "<image><image>/' "$set/llava/conversation_58k.json"
  for ranks in 0 3; do
    refused 65 "$ranks" '3 of 36 records are bad' "${dry[@]}" --data_path "$set" --check_all_samples --output_dir "$work/list"
    once 'bad: data set llava, record 3, '
    once 'bad: data set llava_dial, record 0, '
    once "bad: data set coco_caption, record 2, $set/coco/2014/COCO_train2014_000000000002.jpg: neither a JPEG, PNG nor WebP image"
    [ "$(wc -l <"$work/list/bad_records.jsonl")" = 3 ]
    grep -q "\"records\": \[2\], \"file\": \"$set/coco/2014/COCO_train2014_000000000002.jpg\"" "$work/list/bad_records.jsonl"
  done
  run 0 0 "${dry[@]}" --data_path "$tiny/data" --check_all_samples --output_dir "$work/list"
  [ ! -e "$work/list/bad_records.jsonl" ]
  refused 78 0 '--check_all_samples belongs to --dry_run' "${train[@]}" --check_all_samples --output_dir "$work/list"
}

output_directory() {
  local out=$work/proved
  make_whole
  run 0 0 "${dry[@]}" --data_path "$tiny/data" --output_dir "$out/below"
  once "the run starts new: $out/below is not there yet"
  [ ! -e "$out" ]
  # Without mpirun, about a run on two ranks.
  run 0 0 "${dry[@]}" --data_path "$tiny/data" --output_dir "$whole"
  once "the run continues from $(checkpoint "$whole" 8): step 8, epoch 3, step 0 of it; it needs 2 ranks"
  refused 78 0 "--max_seq_len was '4096', is '512'" "${dry[@]}" --data_path "$tiny/data" --output_dir "$whole" --max_seq_len 512
  : >"$work/file"
  refused 74 0 '--output_dir: ' "${dry[@]}" --data_path "$tiny/data" --output_dir "$work/file/out"
  mkdir -p "$out"
  (
    exec 9>"$out/run.lock"
    flock 9
    echo "host $(hostname) pid $BASHPID job none" >&9
    refused 78 0 'is in use by another run' "${dry[@]}" --data_path "$tiny/data" --output_dir "$out"
  )
}

# A plan of the disk, not a run that fails on it.
no_room() {
  local disk=$work/disk3
  mkdir "$disk"
  mount -t tmpfs -o size=2m facet_test "$disk"
  refused 74 0 'a checkpoint and an export need' "${dry[@]}" --data_path "$tiny/data" --output_dir "$disk/out"
  refused 74 0 'the run writes up to' "$facet" plan "${model[@]}" --output_dir "$disk/out"
  mount -o remount,ro "$disk"
  refused 74 0 '--output_dir: nothing can be written' "${dry[@]}" --data_path "$tiny/data" --output_dir "$disk/out"
  umount "$disk"
}

check Kept.ABadSampleInMidEpoch bad_sample
check Kept.NumericStop numeric_stop
check Kept.AnExportFails fails_at export 0 4
check Kept.KilledInAnExport killed_in_an_export
check Kept.ALogOfOneRankFails fails_at log 1 3
check Kept.AnEvaluationFails fails_at evaluate 1 4
check Kept.APictureIsNoReason no_picture
check Kept.ASignalInAnEvaluation stops_in evaluation 'epoch 1: loss=' 'eval: step=4' slow@evaluate:ms=2500,step=4
check Kept.ASignalInAnExport stops_in export 'eval: step=4' "exported $work/stops_export/epoch-1" slow@export:ms=1000,step=4
check Kept.ASignalBeforeTheFirstStep stops_before_the_first_step
check Kept.AnEvaluationIsMadeUpFor evaluation_is_made_up_for
check DryRun.ReadsEveryRecord all_records
check DryRun.ProvesTheOutputDirectory output_directory
if [ "$FACET_OWN_MOUNTS" = yes ]; then
  check Kept.AnExportDoesNotFit export_does_not_fit
  check Kept.TwoCheckpointsOfAStepDoNotFit no_room_to_renew
  check DryRun.SeesAFullDisk no_room
fi
finish
