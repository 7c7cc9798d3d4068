#!/usr/bin/env bash
# A rank that hangs or dies ends the whole job soon, with one report; a slow one does not.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

train=("$facet" train "${model[@]}" --dataset_names llava llava_dial coco_caption --lang_lora_dim 4 --seed 7)
data_path=$tiny/data
host=$(hostname)

# ends CODE RANKS NAME option...: a run into $work/NAME that ends so and leaves nothing behind: no process, no shared memory.
ends() {
  local code=$1 ranks=$2 out=$work/$3
  shift 3
  rm -rf "$out"
  shared_before=$(shared_memory)
  run "$code" "$ranks" "${train[@]}" --data_path "$data_path" --output_dir "$out" "$@"
  until_true 5 gone "$out"
  until_true 5 no_new_shared_memory
}
# Shared memory whose maker, by the process in its name, is gone: what lives belongs to runs beside this one.
shared_memory() {
  find /dev/shm -name 'facet-*' -printf '%f\n' 2>/dev/null | while IFS=- read -r facet pid rest; do
    [ -d "/proc/$pid" ] || echo "$facet-$pid-$rest"
  done | sort
}
no_new_shared_memory() { [ -z "$(comm -13 <(echo "$shared_before") <(shared_memory))" ]; }
gone() { ! pgrep -f -- "--output_dir $1" >/dev/null; }

# hangs LIMIT NAME option...: on 3 ranks, with one report and exit code 86, within the limit and 5 s.
hangs() {
  local limit=$1 name=$2
  shift 2
  ends 86 3 "$name" "$@"
  once 'hang: '
  once "(limit $limit s); 1 of 3 ranks behind:"
  once 'EXIT code=86 reason=hang '
  awk -v limit="$limit" '/^hang: / { seen = 1; sub(/.*no progress for /, ""); late = $1 - limit; exit !(late >= 0 && late <= 5) }
    END { if (!seen) exit 1 }' "$output" || fail "the report is late: $(grep hang: "$output")"
}

# says PATTERN: exactly one line matches.
says() {
  [ "$(grep -cE -- "$1" "$output")" = 1 ] || { grep -vE '^[a-z_0-9]+ =' "$output"; fail "not exactly one line matches $1"; }
}

# The end comes within the limit and 5 s of the last row of the log too, on the clock of whoever waits.
stopped_in_a_step() { # RANK
  local others='ranks 0, 2'
  [ "$1" = 1 ] || others='ranks 1, 2'
  hangs 3 "stopped_$1" --inject "stop@compute:rank=$1,step=3" --hang_seconds_compute 3
  local took=$(($(date +%s) - $(stat -c %Y "$work/stopped_$1/loss_log.csv")))
  [ "$took" -le 9 ] || fail "the job ended $took s after its last step"
  says "^  rank $1 \(host $host, pid [0-9]+, stopped\): .* in compute of step 3; has not reached collective [0-9]+ \(all_gather\); sample ids [0-9]+ [0-9]+\$"
  says "^  $others: waiting in collective [0-9]+ \(all_gather\), compute of step 3\$"
  says '^EXIT code=86 reason=hang step=2 checkpoint=none$'
  [ "$(rows "$work/stopped_$1/loss_log.csv")" = 2 ]
}

# The collective is the one the others wait in, one further than the last that the stopped rank began.
one_collective() {
  [ "$(grep -oE 'collective [0-9]+ \(all_gather\)' "$output" | sort -u | wc -l)" = 1 ]
}

stopped_one() { stopped_in_a_step 1 && one_collective; }
stopped_zero() { stopped_in_a_step 0 && one_collective; }

stopped_at_stage_3() {
  hangs 2 stage_3 --zero_stage 3 --inject stop@compute:rank=2,step=2 --hang_seconds_compute 2
  says "^  rank 2 \(host $host, pid [0-9]+, stopped\): .* in compute of step 2; "
}

stopped_in_a_save() {
  hangs 2 in_save --save_interval 2 --inject stop@ckpt.write:rank=1,step=4 --hang_seconds_save 2
  says "^  rank 1 \(host $host, pid [0-9]+, stopped\): .* in save of step 4; has not reached collective"
  says "^EXIT code=86 reason=hang step=4 checkpoint=$work/in_save/checkpoints/step_00000002\$"
  # Earlier checkpoints are intact, and the same command resumes from them.
  run 0 3 "${train[@]}" --data_path "$data_path" --output_dir "$work/in_save" --max_steps 5
  once "continuing from $work/in_save/checkpoints/step_00000002: step 2"
}

# A rank whose background write makes no progress; the others have written and poll.
hangs_in_a_background_save() {
  hangs 2 background --async_checkpoint --save_interval 2 --max_steps 3 --inject 'slow@ckpt.write:ms=60000,rank=1' --hang_seconds_save 2
  says "^  rank 1 \(host $host, pid [0-9]+, running\): .* in save of step 3; "
  says '^  ranks 0, 2: waiting in collective [0-9]+ \(or\), save of step 3$'
}
# One that takes longer than the limit, but makes progress.
slow_background_save() {
  ends 0 3 slow_background --async_checkpoint --save_interval 2 --max_steps 3 --hang_seconds_save 3 \
    --inject 'slow@ckpt.write:ms=2000,rank=1;slow@ckpt.written:ms=2000,rank=1'
  never 'hang: '
}

# Where the launcher waits for every process, as plain srun does, the stopped one has to end too.
launcher_waits_for_all() {
  time_limit=40
  export OMPI_MCA_orte_abort_on_non_zero_status=0
  ends 0 3 waiting_launcher --inject stop@compute:rank=1,step=3 --hang_seconds_compute 2 # this launcher gives no process's code
  once '1 of 3 ranks behind:'
  says '^EXIT code=86 reason=hang step=2 checkpoint=none$'
}

# Rank 2 has a shared memory of its own, as on another host: no watchdog sees it, and ranks that wait for it have another limit.
another_host() { # RANK, and the limit of collectives
  local code=0 line=("${train[@]}" --data_path "$data_path" --output_dir "$work/host" --inject "stop@compute:rank=$1,step=3" --hang_seconds_compute 2
    --hang_seconds_collective "$2")
  rm -rf "$work/host"
  # shellcheck disable=SC2016
  timeout -k 5 60 mpirun --oversubscribe --mca btl tcp,self -n 2 "${line[@]}" : \
    -n 1 unshare --mount --uts bash -c "$own_host" - "${line[@]}" >"$output" 2>&1 </dev/null || code=$?
  [ "$code" = 86 ] || { tail -n 30 "$output"; fail "exit code $code"; }
  once 'hang: '
  once 'not seen from here: 2 (host node2)'
}
# shellcheck disable=SC2016
own_host='mount -t tmpfs none /dev/shm && hostname node2 && exec "$@"'
seen_from_another_host() {
  another_host 2 4
  says "^hang: no progress for [0-9.]+ s in compute \(limit 4 s\); all 2 ranks on $host wait for other hosts:\$"
  says '^  ranks 0, 1: waiting in collective [0-9]+ \(all_gather\), compute of step 3$'
}
other_hosts_do_not_matter() {
  another_host 1 0
  once '(limit 2 s); 1 of 3 ranks behind:'
  says "^  rank 1 \(host $host, pid [0-9]+, stopped\): "
}

# A sample that is never delivered, after those that the set-up reads: the report names the rank that needs it, and the sample.
hangs_in_data() {
  hangs 2 in_data --data_train_split_ratio 1 --hang_seconds_data 2 --inject slow@data.read:ms=100000,rank=1,step=35
  says "^  rank 1 \(host $host, pid [0-9]+, running\): .* in data of step [0-9]+; has not reached collective [0-9]+ \(sum\); sample ids [0-9]+\$"
}

# One of those that the set-up reads, on every rank.
hangs_in_load() {
  ends 86 2 in_load --hang_seconds_load 2 --inject slow@data.read:ms=100000,step=3
  once 'hang: no progress for '
  once '2 of 2 ranks behind:'
  says "^  rank 1 \(host $host, pid [0-9]+, running\): .* in load, before the first step; "
  says '^EXIT code=86 reason=hang step=0 checkpoint=none$'
}

# killed RANK MOMENT STEP PLACE option...
killed() {
  local rank=$1 moment=$2 step=$3 place=$4
  shift 4
  ends 137 3 "killed_$rank" --inject "kill@$moment:rank=$rank,step=$step" "$@"
  says "^rank [0-2]: rank $rank \(host $host, pid [0-9]+\) died in $place of step $step; .*collective [0-9]+ \([a-z_]+\); "
  says '^EXIT code=88 reason=dead_rank '
  never 'hang: '
}
killed_in_a_step() { killed 1 compute 3 compute; }
killed_rank_0() { killed 0 data 2 data; }
killed_in_a_save() { killed 2 ckpt.write 2 save --save_interval 2; }

# Sections that take most of their limits, again and again: 6 steps of 0.8 s and as much data.
slow_is_no_hang() {
  ends 0 3 slow --max_steps 6 --inject 'slow@data:ms=800,rank=1;slow@compute:ms=800,rank=2' --hang_seconds_data 2.5 --hang_seconds_compute 2.5
  never 'hang: '
  [ "$(rows "$work/slow/loss_log.csv")" = 6 ]
}

# All of the job is stopped for longer than the limits, as a suspended job or a laptop's lid does.
a_pause_is_no_hang() {
  local out=$work/pause pid code=0
  : >"$output"
  (exec timeout -k 5 "$time_limit" mpirun -n 2 --oversubscribe "${train[@]}" --data_path "$data_path" --output_dir "$out" --max_steps 30 --hang_seconds_data 3 \
    --hang_seconds_compute 3 --inject slow@compute:ms=100) >"$output" 2>&1 </dev/null &
  pid=$!
  until_true 60 has_rows "$out"
  # shellcheck disable=SC2046
  kill -STOP $(ranks_of "--output_dir $out")
  sleep 4.5
  # shellcheck disable=SC2046
  kill -CONT $(ranks_of "--output_dir $out")
  wait "$pid" || code=$?
  [ "$code" = 0 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  never 'hang: '
}
has_rows() { [ -e "$1/loss_log.csv" ] && [ "$(wc -l <"$1/loss_log.csv")" -gt 4 ]; }
ranks_of() { # what stands in their command line
  local pid
  for pid in $(pgrep -f -- "$1"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}

# Answers that together take longer than the limits, but make progress.
long_answers_are_no_hang() {
  local i questions tests started took=0
  for ((questions = 24; took <= 3500; questions *= 2)); do
    tests=()
    for ((i = 1; i <= questions; ++i)); do tests+=("\"$i\": [[\"How are you?\"]]"); done
    (IFS=,; echo "{${tests[*]}}") >"$work/questions.json"
    started=$(date +%s%3N)
    run 0 0 "$facet" generate "${model[@]}" --input "$work/questions.json" --output "$work/answers.csv" --max_new_tokens 4000 \
      --temperature 1000 --hang_seconds_load 2 --hang_seconds_compute 2
    took=$(($(date +%s%3N) - started))
  done
}

# The limits are those of an evaluation too.
evaluation_hangs() {
  FACET_INJECT=slow@data.read:ms=100000,step=3 run 86 2 "$facet" evaluate "${model[@]}" --data_path "$data_path" --dataset_names llava llava_dial \
    --hang_seconds_load 2 --hang_seconds_evaluate 2
  once 'hang: no progress for '
}

# All end by it, none is reported as dead, and no thread that computes takes it.
sigterm_ends_an_evaluation() {
  local pid rank code=0
  data_path=$work/sigterm # what finds the processes
  ln -s "$tiny/data" "$data_path"
  (FACET_INJECT=slow@data.read:ms=100000 exec timeout -k 5 "$time_limit" mpirun -n 4 --oversubscribe "$facet" evaluate "${model[@]}" \
    --data_path "$data_path" --dataset_names llava llava_dial) >"$output" 2>&1 </dev/null &
  pid=$!
  until_true 60 grep -q '^4 ranks, ' "$output"
  for rank in $(ranks_of "--data_path $data_path"); do blocks_sigterm "$rank" || fail "the main thread takes SIGTERM"; done
  kill -TERM "$(ranks_of "--data_path $data_path" | head -n 1)" # the others see it go
  wait "$pid" || code=$?
  [ "$code" = 143 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  never ' died in '
}
blocks_sigterm() { (($((16#$(awk '/^SigBlk/ { print $2 }' "/proc/$1/task/$1/status"))) >> 14 & 1)); }

# No shared memory to be had is an error like any other, and what could be had does not stay.
no_shared_memory() {
  refused 74 0 'no shared memory /dev/shm/facet-' unshare --mount bash -c 'mount -t tmpfs -o ro none /dev/shm && exec "$@"' - \
    "$facet" evaluate "${model[@]}" "${data[@]}"
  # shellcheck disable=SC2016
  refused 74 0 'posix_fallocate' unshare --mount bash -c 'mount -t tmpfs -o size=4k none /dev/shm && echo >/dev/shm/full && "$@"; code=$?; ls /dev/shm; exit $code' - \
    "$facet" evaluate "${model[@]}" "${data[@]}"
  if grep '^facet-' "$output"; then fail 'it is left behind'; fi
}

off() {
  ends 0 2 off --max_steps 2 --inject slow@compute:ms=600 --hang_seconds_load 0 --hang_seconds_data 0 --hang_seconds_compute 0 --hang_seconds_evaluate 0 \
    --hang_seconds_save 0
}

# The thread ends with what ends before a step was taken, and as quickly.
short_runs() {
  local started
  started=$(date +%s%3N)
  ends 0 0 dry --dry_run
  ends 78 2 contradiction --adam_betas 0.9 1
  ends 0 0 short --max_steps 1
  [ $(($(date +%s%3N) - started)) -lt 30000 ]
}

straggler() {
  ends 0 3 straggler --max_steps 8 --straggler_interval 4 --wall_clock_breakdown --steps_per_print 2 \
    --inject 'slow@compute:ms=150,rank=1;slow@evaluate:ms=1000,step=0'
  # After the last step an evaluation is left, which takes as long as the first one.
  grep -E '^step=8, .*, left=[0-9:]+ of 8 steps$' "$output" | grep -qv 'left=0:00:00'
  [ "$(grep -cE "^slowest of the last 4 steps: rank 1 \(host $host\) in compute, [0-9.]+ x the median" "$output")" = 2 ]
  awk '/^slowest of the last 4 steps/ { if (++n == 2) { sub(/.* in compute, /, ""); exit !($1 > 1.5) } }' "$output"
  [ "$(grep -cE '^time \(ms\) of a step, mean of 2: data [0-9.]+, forward [0-9.]+, backward [0-9.]+, reduce [0-9.]+, step [0-9.]+, save [0-9.]+, log [0-9.]+, of which in collectives [0-9.]+$' "$output")" = 4 ]
  # Rank 0 waits for rank 1's gradients, 150 ms a step.
  awk '/^time \(ms\) of a step/ { if (!($NF >= 75)) bad = 1; sub(/.* reduce /, ""); if ($1 + 0 >= 75) seen = 1 }
    END { exit bad || !seen }' "$output"
  says '^the first step ended [0-9.]+ s after the start: start [0-9.]+, load [0-9.]+, evaluate [0-9.]+, data [0-9.]+, compute [0-9.]+, '
}

check Watchdog.StoppedInAStep stopped_one
check Watchdog.StoppedRankZero stopped_zero
check Watchdog.StoppedAtStageThree stopped_at_stage_3
check Watchdog.StoppedInASave stopped_in_a_save
check Watchdog.HangsInABackgroundSave hangs_in_a_background_save
check Watchdog.SlowBackgroundSave slow_background_save
check Watchdog.LauncherWaitsForAll launcher_waits_for_all
if unshare --mount --uts bash -c "$own_host" - true 2>/dev/null; then
  check Watchdog.SeenFromAnotherHost seen_from_another_host
  check Watchdog.OtherHostsDoNotMatter other_hosts_do_not_matter
  check Watchdog.NoSharedMemory no_shared_memory
else
  for name in SeenFromAnotherHost OtherHostsDoNotMatter NoSharedMemory; do
    echo "[  SKIPPED ] Watchdog.$name (0 ms)"
    echo 'facet-skip: a rank may not have a host name and shared memory of its own here'
  done
fi
check Watchdog.HangsInData hangs_in_data
check Watchdog.HangsInLoad hangs_in_load
check Watchdog.KilledInAStep killed_in_a_step
check Watchdog.KilledRankZero killed_rank_0
check Watchdog.KilledInASave killed_in_a_save
check Watchdog.SlowIsNoHang slow_is_no_hang
check Watchdog.APauseIsNoHang a_pause_is_no_hang
check Watchdog.LongAnswersAreNoHang long_answers_are_no_hang
check Watchdog.EvaluationHangs evaluation_hangs
check Watchdog.SigtermEndsAnEvaluation sigterm_ends_an_evaluation
check Watchdog.Off off
check Watchdog.ShortRuns short_runs
check Watchdog.Straggler straggler
finish
