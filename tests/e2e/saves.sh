#!/usr/bin/env bash
# Background saves, saves through parallel HDF5, on a full disk, before Slurm's time limit and under signals.
cd "$(dirname "$0")/../.." || exit 1
# A small file system of one's own is mounted in a name space that goes with this script.
if [ -z "${FACET_OWN_MOUNTS:-}" ]; then
  export FACET_OWN_MOUNTS=no
  if unshare -m true 2>/dev/null; then FACET_OWN_MOUNTS=yes exec unshare -m bash "$0"; fi
fi
. tests/e2e/lib.sh
trap 'umount -l "$work/disk" 2>/dev/null; rm -rf "$work"' EXIT

# 32 training samples, 8 a step: 4 steps an epoch.
any_batch=("$facet" train "${model[@]}" "${data[@]}" --learning_rate 2e-3 --lang_lora_dim 4 --seed 7 --num_train_epochs 3 --steps_per_print 1)
train=("${any_batch[@]}" --per_device_train_batch_size 2 --gradient_accumulation_steps 2)
loss_columns=(step epoch samples labelled_tokens loss grad_norm)

whole=$work/whole # never disturbed, saved by plain writes
make_whole() {
  [ -d "$whole" ] || run 0 2 "${train[@]}" --output_dir "$whole"
}
same_end() { # DIRECTORY
  same_columns "$whole/loss_log.csv" "$1/loss_log.csv" "${loss_columns[@]}"
  equal_models "$whole/epoch-3" "$1/epoch-3"
  run 0 0 "$facet" inspect "$whole" "$1"
  once '0 of '
}
newest() { cat "$1/checkpoints/latest"; }
clean() { [ -z "$(find "$1/checkpoints" -name '*partial*' -o -name '*removed*' -o -name '*replaced*')" ]; }
gone() { ! pgrep -f -- "--output_dir $1" >/dev/null; }
ranks_of() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $1"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}

# The steps go on while step 2's checkpoint is written; wishes meanwhile are put off, once said, and the last one of all is published.
in_the_background() {
  make_whole
  run 0 2 "${train[@]}" --output_dir "$work/beside" --async_checkpoint --save_interval 1 --inject 'slow@ckpt.write:ms=400'
  grep -qE '^the checkpoint of step [0-9]+ is put off: that of step [0-9]+ is still written$' "$output"
  grep -q '^waiting for the checkpoint of step 12 to be written$' "$output"
  grep -qE "^checkpoint $work/beside/checkpoints/step_00000012 in [0-9.]+ s, [0-9.]+ s of them without training\$" "$output"
  once "EXIT code=0 reason=done step=12 checkpoint=$work/beside/checkpoints/step_00000012"
  clean "$work/beside"
  same_end "$work/beside"
  # Every line about a checkpoint put off is followed by a checkpoint published.
  awk '/is put off/ { if (waits) exit 1; waits = 1 } /^checkpoint / { waits = 0 } END { exit waits }' "$output" || fail 'put off twice'
}

# 8 steps an epoch. The wish of step 9 comes while step 8's checkpoint is written, and is met as soon as that is there, before the epoch ends.
put_off() {
  run 0 2 "${any_batch[@]}" --per_device_train_batch_size 2 --output_dir "$work/put_off" --async_checkpoint --save_interval 9 --max_steps 16 \
    --inject 'slow@ckpt.write:ms=1500;slow@step:ms=300'
  grep -q '^the checkpoint of step 9 is put off: that of step 8 is still written$' "$output"
  grep -qE "^checkpoint $work/put_off/checkpoints/step_0000001[0-5] in " "$output"
}

# By the clock one save an interval, although steps end while it is written: nothing is put off. 16 steps an epoch.
by_the_clock() {
  local started=$SECONDS saves
  run 0 2 "${any_batch[@]}" --per_device_train_batch_size 1 --output_dir "$work/clock" --async_checkpoint --save_minutes 0.05 --max_steps 16 \
    --inject 'slow@ckpt.write:ms=700;slow@step:ms=300'
  never 'is put off'
  saves=$(grep -c '^checkpoint ' "$output")
  [ "$saves" -ge 2 ]
  [ "$saves" -le $((1 + (SECONDS - started) / 3)) ] || fail "$saves checkpoints in $((SECONDS - started)) s"
}

# An error that only rank 1 meets in a step ends the job although its part of step 1's checkpoint is still being written.
fails_during() {
  local started=$SECONDS
  refused 74 2 'step of step 3 fails as --inject asks' "${train[@]}" --output_dir "$work/fails_during" --async_checkpoint --save_interval 1 \
    --inject 'slow@ckpt.write:ms=60000;fail@step:rank=1,step=3'
  [ $((SECONDS - started)) -lt 50 ]
  once 'EXIT code=74 reason=io step=3 '
}

# fails_on_one_rank NAME option...: rank 1 meets an error in the middle of step 8's save; rank 0 hears of it.
fails_on_one_rank() {
  local out=$work/$1 started
  shift
  make_whole
  started=$SECONDS
  refused 74 2 'ckpt.write of step 8 fails as --inject asks' "${train[@]}" --output_dir "$out" \
    --inject 'fail@ckpt.write:rank=1,step=8' "$@"
  [ $((SECONDS - started)) -lt 30 ]
  grep -qE '^error( on rank 1 |: rank 1 )\(' "$output"
  grep -qE "^EXIT code=74 reason=io step=[0-9]+ checkpoint=$out/checkpoints/step_00000004\$" "$output"
  until_true 10 gone "$out"
  run 0 0 "$facet" inspect "$out"
  run 0 2 "${train[@]}" --output_dir "$out" "$@"
  once "continuing from $out/checkpoints/step_00000004: "
  clean "$out"
  same_end "$out"
}

hashes() { grep -oE '"(name|xxh3_128)": "[^"]*"' "$1/manifest.json" | sed '$d'; }
collective_is_equal() {
  make_whole
  run 0 2 "${train[@]}" --output_dir "$work/collective" --checkpoint_io collective
  diff <(hashes "$whole/checkpoints/$(newest "$whole")") <(hashes "$work/collective/checkpoints/$(newest "$work/collective")")
  same_end "$work/collective"
  # The one continues what the other saved.
  rm -r "$work/collective/checkpoints/step_00000012"
  run 0 2 "${train[@]}" --output_dir "$work/collective"
  once "continuing from $work/collective/checkpoints/step_00000008: "
  same_end "$work/collective"
  refused 78 2 'only --checkpoint_io posix can' "${train[@]}" --output_dir "$work/never" --checkpoint_io collective --async_checkpoint
}

# fake_squeue COMMANDS: what `squeue` does in the next runs; it notes how it was called.
fake_squeue() {
  mkdir -p "$work/bin"
  printf '#!/bin/sh\necho "$@" >>"%s"\n%s\n' "$work/squeue_calls" "$1" >"$work/bin/squeue"
  chmod +x "$work/bin/squeue"
  rm -f "$work/squeue_calls"
}
in_slurm=(env SLURM_JOB_ID=77 "PATH=$work/bin:$PATH")
slurm_time() {
  local out=$work/slurm
  fake_squeue 'echo 0:00'
  run 85 2 "${in_slurm[@]}" "${train[@]}" --output_dir "$out"
  once 'Slurm job 77: 0 s left'
  once 'stopping at step 1 for the time limit'
  [ "$(cat "$work/squeue_calls")" = '-h -j 77 -o %L' ]
  fake_squeue 'echo 2-03:04:05'
  run 0 2 "${in_slurm[@]}" "${train[@]}" --output_dir "$out" --max_steps 2
  once 'Slurm job 77: 183845 s left'
  fake_squeue 'echo UNLIMITED'
  run 0 2 "${in_slurm[@]}" "${train[@]}" --output_dir "$out" --max_steps 3
  never 'Slurm job'
  never 'warning: squeue'
  fake_squeue 'echo slurm_load_jobs error: Invalid job id specified >&2; exit 1'
  run 0 2 "${in_slurm[@]}" "${train[@]}" --output_dir "$out" --max_steps 4
  once "warning: cannot get the job's time limit from squeue (slurm_load_jobs error: Invalid job id specified)"
  rm "$work/bin/squeue"
  run 0 2 "${in_slurm[@]}" "${train[@]}" --output_dir "$out" --max_steps 5
  once "warning: cannot get the job's time limit from squeue ("
  # The option goes before the job's limit.
  fake_squeue 'echo 0:00'
  run 0 2 "${in_slurm[@]}" "${train[@]}" --output_dir "$out" --max_hours 1
  [ ! -e "$work/squeue_calls" ]
}

# stamped RANKS command...: like run, with the time in front of each line; $code is the exit code.
stamped() {
  local ranks=$1
  shift
  code=0
  timeout -k 5 "$time_limit" mpirun -n "$ranks" --oversubscribe "$@" 2>&1 </dev/null |
    while IFS= read -r line; do printf '%s %s\n' "$EPOCHREALTIME" "$line"; done >"$output" || code=${PIPESTATUS[0]}
}
moment() { awk -v text="$1" 'index($0, text) { print $1; exit }' "$output"; }
not_later() { awk -v a="$1" -v b="$2" -v limit="$3" 'BEGIN { exit !(a != "" && b != "" && b - a <= limit) }' || fail "more than $3 s from $1 to $2"; }

# A disk with room for a part of step 6's checkpoint: message within 5 s, the older checkpoint intact; with room again the run goes on.
full_disk() {
  local disk=$work/disk base=$work/base size checkpoint tenth async ended failed=0 small
  make_whole
  run 137 2 "${train[@]}" --output_dir "$base" --save_interval 1 --keep_last 1 --inject kill@step:rank=0,step=6
  checkpoint=$(du -sk "$base/checkpoints/$(newest "$base")" | cut -f 1)
  size=$(du -sk "$base" | cut -f 1)
  mkdir "$disk"
  for tenth in 0 1 2 3 4 5 6 7 8 9 10; do
    async=()
    if [ $((tenth % 2)) = 1 ]; then async=(--async_checkpoint); fi
    small=$((size + 24 + checkpoint * tenth / 10))
    mount -t tmpfs -o "size=${small}k" facet_test "$disk"
    cp -r "$base" "$disk/run"
    stamped 2 "${train[@]}" --output_dir "$disk/run" --save_interval 1 "${async[@]}"
    ended=$EPOCHREALTIME
    if [ "$code" != 74 ]; then
      tail -n 60 "$output"
      fail "exit code $code with $small KiB"
    fi
    failed=$((failed + 1))
    [ "$(grep -cE '^[0-9.]+ error' "$output")" = 1 ]
    not_later "$(moment ' step=6,')" "$(moment ' error')" 5
    not_later "$(moment ' error')" "$ended" 5
    clean "$disk/run"
    grep -q ' EXIT code=74 reason=io .*step_00000005$' "$output"
    run 0 0 "$facet" inspect "$disk/run"
    mount -o "remount,size=$((size * 8))k" "$disk"
    if [ "$tenth" = 5 ] || [ "$tenth" = 10 ]; then
      run 0 2 "${train[@]}" --output_dir "$disk/run" "${async[@]}"
      once "continuing from $disk/run/checkpoints/step_00000005: "
      same_end "$disk/run"
    fi
    umount "$disk"
  done
  [ "$failed" -ge 10 ]
}

being_written() { compgen -G "$1/checkpoints/*.partial-*" >/dev/null; }
# storm NAME SIGNAL COUNT option...: so many signals to every rank while a slowed save goes on; one clean save, exit code 85.
storm() {
  local out=$work/$1 signal=$2 count=$3 launched code=0 i pid pids inside=0
  shift 3
  make_whole
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out" --save_interval 3 \
    --inject 'slow@ckpt.write:ms=2000' "$@") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 being_written "$out"
  mapfile -t pids < <(ranks_of "$out")
  for ((i = 0; i < count; ++i)); do
    for pid in "${pids[@]}"; do
      if kill "-$signal" "$pid" 2>/dev/null && being_written "$out"; then inside=$((inside + 1)); fi # else it is gone
    done
    sleep 0.02
  done
  wait "$launched" || code=$?
  if [ "$code" != 85 ]; then
    tail -n 60 "$output"
    fail "exit code $code"
  fi
  [ "$inside" -ge $((count > 1 ? 3 : 1)) ] || fail "$inside signals came while a checkpoint was being written"
  once 'for a signal; the same command continues'
  grep -qE "^EXIT code=85 reason=saved step=([0-9]+) checkpoint=$out/checkpoints/step_0*\1\$" "$output" # no step is lost
  clean "$out"
  run 0 2 "${train[@]}" --output_dir "$out"
  once 'continuing from '
  same_end "$out"
}

# Before anything was trained: a run that waits for a lock, which is then taken away, is still in its set-up.
signal_during_set_up() {
  local out=$work/set_up launched code=0 pids
  mkdir "$out"
  echo 'host elsewhere pid 1 job none boot another run 1' >"$out/run.lock"
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 both_catch_sighup
  until_true 60 grep -q 'is held by another run (host elsewhere pid 1 job none); waiting up to 60 s' "$output"
  mapfile -t pids < <(ranks_of "$out")
  kill -HUP "${pids[@]}"
  wait "$launched" || code=$?
  [ "$code" = 85 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  once 'stopped by SIGHUP while waiting for '
  once 'EXIT code=85 reason=saved step=0 checkpoint=none'
  if grep '^error' "$output"; then fail 'there is an error'; fi
}
both_catch_sighup() {
  local pid caught=0
  for pid in $(ranks_of "$work/set_up"); do
    if (($((16#$(awk '/^SigCgt/ { print $2 }' "/proc/$pid/status"))) & 1)); then caught=$((caught + 1)); fi
  done
  [ "$caught" = 2 ]
}
# The same for a rank that is not the one to wait.
signal_to_another_rank_during_set_up() {
  local out=$work/set_up launched code=0 pid
  echo 'host elsewhere pid 1 job none boot another run 1' >"$out/run.lock"
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 both_catch_sighup
  until_true 60 grep -q 'is held by another run' "$output"
  for pid in $(ranks_of "$out"); do
    if grep -qz '^OMPI_COMM_WORLD_RANK=1$' "/proc/$pid/environ"; then kill -USR2 "$pid"; fi
  done
  rm "$out/run.lock"
  wait "$launched" || code=$?
  [ "$code" = 85 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  once 'rank 1 was asked to stop during set-up'
  once 'EXIT code=85 reason=saved step=0 checkpoint=none'
}

# killed NAME option...: kill -9 of a rank from outside while the save of step 4, the first epoch's end, is being written: step 3's has its
# name, and nothing else has.
killed() {
  local out=$work/$1 pid code=0
  shift
  make_whole
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --output_dir "$out" --save_interval 3 \
    --inject 'slow@ckpt.write:ms=2000' "$@") >"$output" 2>&1 </dev/null &
  pid=$!
  until_true 60 test -d "$out/checkpoints/step_00000003"
  until_true 60 being_written "$out"
  kill -KILL "$(ranks_of "$out" | tail -n 1)"
  wait "$pid" || code=$?
  [ "$code" != 0 ]
  until_true 10 gone "$out"
  run 0 2 "${train[@]}" --output_dir "$out" "$@"
  once "continuing from $out/checkpoints/step_00000003: "
  clean "$out"
  same_end "$out"
}

check Saves.InTheBackground in_the_background
check Saves.WhatIsPutOffIsMadeUpFor put_off
check Saves.OneSaveAnInterval by_the_clock
check Saves.AnErrorDuringASave fails_during
check Saves.AnErrorOfOneRank fails_on_one_rank plain
check Saves.AnErrorOfOneRankInTheBackground fails_on_one_rank background --async_checkpoint
check Saves.AnErrorOfOneRankCollective fails_on_one_rank parallel --checkpoint_io collective
check Saves.CollectiveIsEqual collective_is_equal
check Saves.SlurmTime slurm_time
if [ "$FACET_OWN_MOUNTS" = yes ]; then
  check Saves.FullDisk full_disk
fi
check Saves.TenSigterms storm terms TERM 10
check Saves.TenSigtermsInTheBackground storm terms_background TERM 10 --async_checkpoint
check Saves.Sigusr1 storm usr1 USR1 1 --async_checkpoint
check Saves.ASignalDuringSetUp signal_during_set_up
check Saves.ASignalToAnotherRankDuringSetUp signal_to_another_rank_during_set_up
check Saves.KilledInside killed inside
check Saves.KilledInsideInTheBackground killed inside_background --async_checkpoint
finish
