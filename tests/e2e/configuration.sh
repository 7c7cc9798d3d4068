#!/usr/bin/env bash
# Where a run's choices come from, and what a plan of them says before it.
cd "$(dirname "$0")/../.." || exit 1
source tests/e2e/lib.sh

cat >"$work/ds.json" <<'JSON'
{"train_batch_size": 12, "train_micro_batch_size_per_gpu": 2, "steps_per_print": 1, "gradient_clipping": 0.5,
 "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
 "fp16": {"enabled": false}, "zero_allow_untested_optimizer": true}
JSON
train=(train "${model[@]}" "${data[@]}" --max_seq_len 200 --max_steps 1 --num_train_epochs 1 --unfreeze lang_decoder.)

deepspeed_file() {
  run 0 2 "$facet" "${train[@]}" --deepspeed_config "$work/ds.json" --zero_stage 1 --output_dir "$work/ds"
  grep -q -- '--zero_stage 1 of the command line beats zero_optimization.stage = 2' "$output"
  grep -q 'without a meaning in this program: zero_allow_untested_optimizer' "$output"
  grep -q -- '--offload_optimizer cpu has no effect' "$output"
  grep -q 'a step has 12 samples (2 a micro-batch x 2 ranks x 3 micro-batches)' "$output"
  for line in 'zero_stage = 1' 'gradient_accumulation_steps = 3' 'gradient_clipping = 0.5' "# deepspeed_config = $work/ds.json"; do
    grep -q "^$line" "$work/ds/options.cfg" || fail "options.cfg has no line $line"
  done
  run 0 2 "$facet" train --config "$work/ds/options.cfg" --output_dir "$work/again"
  diff <(grep -v 'output_dir\|deepspeed' "$work/ds/options.cfg") <(grep -v 'output_dir\|deepspeed' "$work/again/options.cfg")
}

batch_arithmetic() {
  run 78 2 "$facet" "${train[@]}" --deepspeed_config "$work/ds.json" --gradient_accumulation_steps 2 --output_dir "$work/none"
  grep -q 'train_batch_size 12 is not train_micro_batch_size_per_gpu 2 x gradient_accumulation_steps 2 x 2 ranks = 8' "$output"
  [ ! -e "$work/none" ]
}

# The table of a plan is the table of the run.
plan_is_the_run() {
  for stage in 0 3; do
    run 0 2 "$facet" "${train[@]}" --zero_stage $stage --output_dir "$work/run-$stage"
    sed -n '/^memory of each rank/,/together/p' "$output" >"$work/run.txt"
    local sent
    sent=$(sed -n 's/.*elements a rank sends in a full step at stage [0-9]*, at most: //p' "$output")
    run 0 0 "$facet" plan "${train[@]:1}" --zero_stage $stage --ranks 2
    diff "$work/run.txt" <(sed -n '/^memory of each rank/,/together/p' "$output")
    [ "$(wc -l <"$work/run.txt")" = 8 ]
    [ "$sent" = "$(sed -n 's/^a rank sends in a full step at most: \(.*\) elements/\1/p' "$output" | tr -d ,)" ]
  done
  run 78 0 "$facet" plan "${train[@]:1}" --memory 0.001
  grep -q 'a rank needs .* and has 1.02 MiB' "$output"
}

# threads_of command...: how many it makes a rank start.
threads_of() {
  run 0 0 "$@" "$facet" train --dry_run "${model[@]:0:4}" "${data[@]}"
  sed -n 's/^1 rank, \([0-9]*\) compute thread.*/\1/p' "$output"
}
threads_of_a_rank() {
  local core cores
  unset OMP_NUM_THREADS OMP_PROC_BIND OMP_PLACES
  cores=$(nproc)
  core=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')
  [ "$(threads_of env)" = "$cores" ]
  never 'is bound to one core'
  [ "$(threads_of env OMP_PROC_BIND=true)" = "$cores" ] # which binds the thread that asks
  [ "$(threads_of env OMP_NUM_THREADS=1)" = 1 ]
  once '1 rank, 1 compute thread each, as OMP_NUM_THREADS says'
  [ "$(threads_of env SLURM_CPUS_PER_TASK=none)" = "$cores" ]
  once "warning: no number of threads, and ignored: SLURM_CPUS_PER_TASK='none'"
  [ "$cores" -gt 1 ] || return 0
  [ "$(threads_of taskset -c "$core")" = 1 ]
  once "is bound to one core ($core) although its host has "
}

check Configuration.ThreadsOfARank threads_of_a_rank
check Configuration.DeepSpeedFile deepspeed_file
check Configuration.BatchArithmetic batch_arithmetic
check Configuration.PlanIsTheRun plan_is_the_run
finish
