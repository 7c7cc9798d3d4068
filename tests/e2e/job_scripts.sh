#!/usr/bin/env bash
# What the job scripts of slurm/ make of each end of the program, without Slurm: srun, scontrol, squeue and scancel are stand-ins
# here, and the program is not started. tests/e2e/slurm.sh runs them under a real one.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

mkdir -p "$work/bin"
cp -r slurm "$work/slurm"
sed -i "s|^FACET=.*|FACET=$facet|" "$work/slurm/site.env"
export FACET_SLURM=$work/slurm PATH=$work/bin:$PATH
export calls=$work/calls now=$work/now out=$work/out program=$work/program.sh
for tool in srun scontrol squeue scancel sbatch; do
  # shellcheck disable=SC2016
  printf '#!/bin/bash\necho "%s $(printf "<%%s>" "$@")" >>"$calls"\n. "$now" %s "$@"\n' $tool $tool >"$work/bin/$tool"
  chmod +x "$work/bin/$tool"
done
checkpoint() { # STEP: there is one now
  mkdir -p "$out/checkpoints"
  printf 'step_%08d\n' "$1" >"$out/checkpoints/latest"
}
export -f checkpoint

# life CODE TOOLS [SCRIPT ARGUMENT...]: one life of the job, which must end with that exit code; TOOLS say what stand-ins do.
life() {
  local expected=$1 code=0
  echo "case \$1 in $2 esac" >"$now"
  shift 2
  [ $# != 0 ] || set -- train.sbatch --output_dir "$out"
  : >"$calls"
  env "${slurm[@]}" timeout 60 bash "$work/slurm/$1" "${@:2}" >>"$work/job.out" 2>&1 || code=$?
  [ "$code" = "$expected" ] || { cat "$work/job.out"; fail "exit code $code instead of $expected"; }
}
slurm=(SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2 SLURM_CPUS_ON_NODE=16 SLURM_GPUS_ON_NODE=4 SLURM_JOB_NODELIST='n[1-2]')
fresh() {
  rm -rf "$out"
  : >"$work/job.out"
}
requeued() { grep -q "^scontrol <requeue><${1:-7}>" "$calls" || { cat "$work/job.out"; fail 'it is not requeued'; }; }
stopped() { ! grep -q '^scontrol <requeue>' "$calls" || { cat "$work/job.out"; fail 'it is requeued'; }; }
called() { grep -qF -- "$1" "$calls" || { cat "$calls"; fail "no call of $1"; }; }
ends_with() { echo "srun) echo EXIT code=$1 reason=any step=1 checkpoint=any; exit ${2:-$1} ;;"; }

final_ends() {
  local code
  for code in 0 64 65 66 70 74 78 87; do
    fresh
    life "$code" "$(ends_with "$code")"
    stopped
  done
}
saved_ends() {
  fresh
  life 85 "srun) checkpoint 5; echo EXIT code=85 reason=saved step=5 checkpoint=any; exit 85 ;;"
  requeued
}

# As often as there is a new checkpoint each time, else three times.
failures_of() { # CODE WHAT_SRUN_DOES
  local step
  fresh
  for step in 1 2 3 4 5; do
    life "$1" "srun) checkpoint $step; $2 ;;"
    requeued
  done
  for step in 1 2 3; do
    life "$1" "srun) $2 ;;"
    requeued
  done
  life "$1" "srun) $2 ;;"
  stopped
  grep -q 'given up: exit code .*, and no new checkpoint in 4 lives' "$work/job.out"
}
failures() {
  failures_of 86 'echo EXIT code=86 reason=hang step=1 checkpoint=any; exit 86'
  failures_of 88 'echo EXIT code=88 reason=dead_rank step=1 checkpoint=any; exit 137'
  failures_of 137 'exit 137'
  failures_of 88 'exit 0' # what srun gives after a node has failed
}

# A node that takes this script with it: Slurm requeues by itself, and the script does not see its end.
lost_lives() {
  fresh
  # shellcheck disable=SC2016
  for _ in 1 2 3 4; do life 137 'srun) kill -KILL "$PPID"; sleep 5 ;;'; done
  life 88 'srun) exit 1 ;;'
  if grep -q '^srun' "$calls"; then fail 'a fifth life'; fi
  grep -q 'given up: no new checkpoint in 4 lives' "$work/job.out"
  checkpoint 1
  life 0 "$(ends_with 0)"
}

# Stops without a checkpoint, in the set-up, are no failures, but no reason to go on for ever.
stops_without_progress() {
  fresh
  for _ in {1..10}; do
    life 85 "$(ends_with 85)"
    requeued
  done
  life 85 "$(ends_with 85)"
  stopped
}

# The rank that ends first names the cause, whatever srun makes of the others; with srun --label too.
first_line_counts() {
  fresh
  life 74 "srun) echo '1: EXIT code=74 reason=io step=1'; echo '0: EXIT code=88 reason=dead_rank step=1'; exit 137 ;;"
  stopped
}
earlier_lives_do_not_count() {
  fresh
  life 85 "$(ends_with 85)"
  life 137 'srun) exit 137 ;;'
  requeued
}

# Slurm says these in the job's output before it ends this script.
cancelled() {
  local why text='slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00'
  fresh
  life 85 "srun) checkpoint 5; echo '$text ***'; $(ends_with 85 | cut -c 7-)"
  stopped
  for why in 'DUE TO PREEMPTION' 'DUE TO TIME LIMIT' 'DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS'; do
    life 85 "srun) echo '$text $why ***'; $(ends_with 85 | cut -c 7-)"
    requeued
  done
}

# The end of its time reaches this script as well as the ranks, which are still saving.
signalled_itself() {
  fresh
  # shellcheck disable=SC2016
  life 85 'srun) kill -TERM $PPID; sleep 0.3; kill -USR1 $PPID; sleep 0.3; checkpoint 5; echo EXIT code=85 reason=saved; exit 85 ;;'
  requeued
}

requeue_is_refused() {
  fresh
  life 85 "$(ends_with 85) scontrol) echo Requested operation is presently disabled for job 7; exit 1 ;;"
  grep -q 'cannot be requeued (Requested operation is presently disabled for job 7): submit it again' "$work/job.out"
  life 85 "$(ends_with 85) scontrol) echo Job is pending execution for job 7; exit 1 ;;"
  [ "$(grep -c '^scontrol' "$calls")" = 1 ]
}

layouts() {
  fresh
  life 0 "$(ends_with 0)"
  called '<--nodes=2><--ntasks=8><--ntasks-per-node=4><--cpus-per-task=4>'
  called 'srun <--mpi=pmix><--kill-on-bad-exit=1>'
  called "<$facet><train><--output_dir><$out>"
  slurm+=(SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=2 SLURM_CPUS_PER_TASK=3)
  life 0 "$(ends_with 0)"
  called '<--nodes=2><--ntasks=4><--ntasks-per-node=2><--cpus-per-task=3>'
  slurm+=(SLURM_NTASKS_PER_NODE= SLURM_NTASKS=5 SLURM_CPUS_PER_TASK=)
  life 0 "$(ends_with 0)"
  called '<--nodes=2><--ntasks=5><--cpus-per-task=1>'
}

# Where the output directory is: on the command line, or in the last of the files that says so.
output_directories() {
  printf 'output_dir = %s\n' "$work/elsewhere" >"$work/one.cfg"
  printf '# output_dir = no\n  output_dir =  %s  \r\nseed=1\n' "$out" >"$work/two.cfg"
  local options
  cd "$work"
  for options in '--config one.cfg --config=two.cfg' '--config two.cfg' "--output_dir=$out --config one.cfg"; do
    fresh
    # shellcheck disable=SC2086
    life 0 "$(ends_with 0)" train.sbatch $options
    [ -e "$out/requeue.state" ] || fail "not found: $options"
  done
  life 64 '' train.sbatch --seed 1
  grep -q 'output_dir is missing' "$work/job.out"
}

sweep() {
  fresh
  printf '# name options\na --seed 1\n\n  b  --lm_model_name_or_path "two words" --seed 2\n' >"$work/table"
  slurm+=(SLURM_ARRAY_JOB_ID=5 SLURM_ARRAY_TASK_ID=2)
  life 85 "$(ends_with 85)" sweep.sbatch "$work/table" "$out" --max_steps 3
  called "<train><--output_dir><$out/b><--lm_model_name_or_path><two words><--seed><2><--max_steps><3>"
  requeued 5_2
  slurm+=(SLURM_ARRAY_TASK_ID=3)
  life 64 '' sweep.sbatch "$work/table" "$out"
  grep -q 'has 2 rows: submit with --array=1-2' "$work/job.out"
  slurm+=(SLURM_ARRAY_TASK_ID=1)
  for row in 'b --seed 2' '--seed 1' '../x --seed 1' 'c --seed "1'; do
    printf 'b --seed 1\n%s\n' "$row" >"$work/table"
    [ "$row" = 'b --seed 2' ] || slurm+=(SLURM_ARRAY_TASK_ID=2)
    life 64 '' sweep.sbatch "$work/table" "$out"
  done
  sed 's/#.*//' slurm/sweep_table.txt >"$work/table"
  slurm+=(SLURM_ARRAY_TASK_ID=3)
  life 0 "$(ends_with 0)" sweep.sbatch "$work/table" "$out"
}

# The links that wait for the one that is done, and no other job.
chains() {
  fresh
  life 0 "sbatch) echo \$((10 + \$(grep -c ^sbatch $calls))) ;;" chain.sh 3 --nodes=2 slurm/train.sbatch --seed 1
  called 'sbatch <--parsable><--nodes=2><slurm/train.sbatch><--seed><1>'
  called 'sbatch <--parsable><--dependency=afterany:11><--nodes=2>'
  called 'sbatch <--parsable><--dependency=afterany:12><--nodes=2>'
  slurm+=(FACET_CHAIN=chain-1)
  local queue='squeue) printf "%s afterany:%s(unfulfilled)\n" 9 8 11 10 10 7; echo "12 (null)" ;;'
  life 85 "srun) checkpoint 1; $(ends_with 85 | cut -c 7-) $queue"
  stopped
  if grep '^scancel' "$calls"; then fail 'the chain is cancelled'; fi
  life 0 "$(ends_with 0) $queue"
  called 'scancel <11><10>'
}

# Two transports on three hosts: one host is slow in one of them, once; n1 is only half as fast as the best.
preflight_network() {
  cat >"$work/rates" <<'RATES'
all-reduce by $by, GB/s
BANDWIDTH by=$by of=all ranks=6 bytes=8 seconds=1 algbw=0.01 busbw=0.01
BANDWIDTH by=$by of=host host=n1 ranks=2 bytes=8 seconds=1 algbw=4 busbw=4
BANDWIDTH by=$by of=pair host=n1 other=n2 ranks=4 bytes=8 seconds=1 algbw=2 busbw=2
BANDWIDTH by=$by of=host host=n2 ranks=2 bytes=8 seconds=1 algbw=8 busbw=8
BANDWIDTH by=$by of=pair host=n2 other=n1 ranks=4 bytes=8 seconds=1 algbw=2 busbw=2
BANDWIDTH by=$by of=host host=n3 ranks=2 bytes=8 seconds=1 algbw=8 busbw=$rate
BANDWIDTH by=$by of=pair host=n3 other=n1 ranks=4 bytes=8 seconds=1 algbw=2 busbw=$rate
RATES
  # shellcheck disable=SC2016
  local tools='srun) case "$*" in
    *bandwidth*cuda*) sed "s/[$]by/nccl/; s/[$]rate/0.5/" "$work/rates" ;;
    *bandwidth*) sed "s/[$]by/mpi/; s/[$]rate/1.9/" "$work/rates" ;;
  esac ;;'
  export work
  fresh
  life 1 "$tools" preflight.sbatch --output_dir "$out" --device cuda --device_collectives nccl
  called '<bandwidth><--device><cuda><--device_collectives><nccl>'
  grep -q '^all-reduce by nccl, GB/s$' "$work/job.out"
  grep -q '^problem: host n3: all-reduce by mpi at 1.9 GB/s among its ranks, host n2 at 8$' "$work/job.out"
  grep -q '^problem: host n3: all-reduce by nccl at 0.5 GB/s among its ranks, host n2 at 8$' "$work/job.out"
  grep -q '^PREFLIGHT 2 problems$' "$work/job.out"
  slurm+=(FACET_PREFLIGHT_SLOW=5)
  fresh
  life 0 "$tools" preflight.sbatch --output_dir "$out"
  grep -q '^PREFLIGHT ok$' "$work/job.out"
  if grep 'by nccl' "$work/job.out"; then fail 'there is no GPU'; fi
}
preflight_without_the_program() {
  fresh
  life 1 'srun) case "$*" in *facet*) echo "error while loading shared libraries"; exit 127 ;; esac ;;' \
    preflight.sbatch --output_dir "$out"
  grep -q '^error while loading shared libraries' "$work/job.out"
  grep -qF 'problem: the network could not be measured (facet bandwidth ended with 127): see above' "$work/job.out"
  grep -q '^problem: the program does not start' "$work/job.out"
}

check JobScripts.FinalEnds final_ends
check JobScripts.SavedEnds saved_ends
check JobScripts.Failures failures
check JobScripts.LostLives lost_lives
check JobScripts.StopsWithoutProgress stops_without_progress
check JobScripts.FirstLineCounts first_line_counts
check JobScripts.EarlierLivesDoNotCount earlier_lives_do_not_count
check JobScripts.Cancelled cancelled
check JobScripts.SignalledItself signalled_itself
check JobScripts.RequeueIsRefused requeue_is_refused
check JobScripts.Layouts layouts
check JobScripts.OutputDirectories output_directories
check JobScripts.Sweep sweep
check JobScripts.Chains chains
check JobScripts.PreflightNetwork preflight_network
check JobScripts.PreflightWithoutTheProgram preflight_without_the_program
finish
