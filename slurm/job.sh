# shellcheck shell=bash
# What the job scripts share: starts the ranks, and decides whether the job goes on. To be sourced by a batch script; a site edits
# site.env, not this.
#
# The program ends with a line "EXIT code=N ...". Slurm's own exit codes are not trusted alone: srun returns 0 after a node has
# failed.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/site.env"

failures_at_most=3  # lives in a row without a new checkpoint, after which the job is given up
stops_at_most=10    # the same where all that happened was that the run was asked to stop

say() { echo "== $(date '+%F %T') $*"; }

refuse() { # nothing can be started
  say "error: $*" >&2
  exit 64
}

# option_value NAME OPTIONS...: of the command line or else of the last configuration file that has it.
option_value() {
  local name=$1 on_line='' files=()
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      "--$name="*) on_line=${1#*=} ;;
      "--$name") on_line=${2:-} ;;
      --config=*) files+=("${1#*=}") ;;
      --config) files+=("${2:-}") ;;
    esac
    shift
  done
  if [ -n "$on_line" ]; then
    echo "$on_line"
  elif [ ${#files[@]} != 0 ]; then
    sed -n -E "s/^[[:space:]]*${name}[[:space:]]*=[[:space:]]*(.*[^[:space:]])[[:space:]]*\$/\1/p" "${files[@]}" 2>/dev/null |
      tail -n 1
  fi
}

newest_checkpoint() { cat "$out/checkpoints/latest" 2>/dev/null || echo none; }

# What Slurm calls this job; the id of the last task of an array is not its own.
job_id() {
  if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then echo "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"; else echo "$SLURM_JOB_ID"; fi
}

# Ranks and cores: as sbatch was told or else one rank a GPU, with an equal share of the cores.
set_layout() {
  local per_node=${SLURM_NTASKS_PER_NODE:-}
  layout=(--nodes="$SLURM_JOB_NUM_NODES")
  if [ -z "$per_node" ] && [ -n "${SLURM_NTASKS:-}" ]; then
    layout+=(--ntasks="$SLURM_NTASKS")
    cores=${SLURM_CPUS_PER_TASK:-1}
  else
    per_node=${per_node:-${FACET_RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}}
    layout+=(--ntasks="$((SLURM_JOB_NUM_NODES * per_node))" --ntasks-per-node="$per_node")
    cores=${SLURM_CPUS_PER_TASK:-$((SLURM_CPUS_ON_NODE / per_node))}
  fi
  [ "$cores" -ge 1 ] || cores=1
  layout+=(--cpus-per-task="$cores")
}

# The file that this script's output goes to, and with it that of the ranks.
open_log() {
  log=$(readlink "/proc/$$/fd/1")
  [ -f "$log" ] || refuse "the output of the job must be a file, not $log: the program's last line is read there"
  log_begin=$(stat -c %s "$log")
}
this_life() { tail -c "+$((log_begin + 1))" "$log"; }

# Starts the ranks and waits for them, also when Slurm tells this script that its time is over: what it does then decides whether
# the job goes on.
run_ranks() {
  local signalled pid
  open_log
  trap 'signalled=1' TERM USR1 USR2 HUP INT
  export OMP_NUM_THREADS=$cores
  srun --mpi="$FACET_MPI" --kill-on-bad-exit=1 --export=ALL "${layout[@]}" "$FACET" train "$@" </dev/null &
  pid=$!
  signalled=1
  while [ -n "$signalled" ]; do
    signalled=
    wait "$pid"
    code=$?
  done
  launcher_code=$code
  # The rank that ends first knows why; the others only that it did.
  code=$(this_life | sed -n -E 's/^([0-9]+: )?EXIT code=([0-9]+) .*/\2/p' | head -n 1)
  if [ -z "$code" ]; then
    code=$launcher_code
    [ "$code" != 0 ] || code=88 # no rank came to its end
  fi
}

# Lives of this job, or of this chain of jobs, that have ended with the checkpoint of now.
read_lives() {
  local job count checkpoint
  lives=0 last_end=
  if ! read -r job count checkpoint last_end 2>/dev/null <"$out/requeue.state"; then return; fi
  if [ "$job $checkpoint" = "$me $checkpoint_before" ]; then lives=$count; fi
}
write_lives() { echo "$me $((lives + 1)) $checkpoint_before $1" >"$out/requeue.state"; } # $1: how this one ended
lives_at_most() { if [ "$1" = 85 ]; then echo "$stops_at_most"; else echo "$failures_at_most"; fi; }

cancelled_by_somebody() { this_life | grep -qE '\*\*\* JOB [0-9]+ ON [^ ]+ CANCELLED AT [^ ]+ \*\*\*'; }
preempted() { this_life | grep -qE '\*\*\* JOB [0-9]+ ON [^ ]+ CANCELLED AT [^ ]+ DUE TO PREEMPTION'; }

# The links of the chain that wait for this one, directly or not.
cancel_chain() {
  local next=$SLURM_JOB_ID rest=()
  [ -n "${FACET_CHAIN:-}" ] || return 0
  while next=$(squeue -h --me -t PD -o '%i %E' | awk -v d="afterany:$next" '{ sub(/\(.*/, "", $2) } $2 == d { print $1; exit }') &&
    [ -n "$next" ]; do
    rest=("$next" "${rest[@]}") # the last first: none of them may start
  done
  [ ${#rest[@]} = 0 ] || { say "the rest of the chain is cancelled: ${rest[*]}"; scancel "${rest[@]}"; }
}

# stop CODE WHY: the job ends for good.
stop() {
  say "$2"
  cancel_chain
  exit "$1"
}

go_on() { # WHY
  local try answer
  if [ -n "${FACET_CHAIN:-}" ]; then
    say "$1; the next job of the chain continues"
    exit "$code"
  fi
  say "$1; requeueing"
  for try in 1 2 3 4 5; do
    if answer=$(scontrol requeue "$(job_id)" 2>&1); then exit "$code"; fi
    case $answer in
      *pending*) exit "$code" ;; # Slurm has done so, for a lost node or a preemption
      *disabled*) break ;;
    esac
    sleep "$try" # its controller may be busy
  done
  say "this job cannot be requeued ($answer): submit it again; where jobs never can, use chain.sh"
  exit "$code"
}

decide() {
  local after
  case $code in
    0) stop 0 "done" ;;
    6[4-9] | 7[0-8] | 87) stop "$code" "exit code $code: submitting it again does not help before the cause is gone" ;;
  esac
  after=$(newest_checkpoint)
  if cancelled_by_somebody; then stop "$code" "cancelled; the newest checkpoint is $after"; fi
  if preempted; then code=85; fi # by force, before it could save
  write_lives "$code"
  if [ "$after" != "$checkpoint_before" ]; then go_on "exit code $code, checkpoint $checkpoint_before -> $after"; fi
  if [ "$lives" -lt "$(lives_at_most "$code")" ]; then go_on "exit code $code, no new checkpoint in $((lives + 1)) lives"; fi
  stop "$code" "given up: exit code $code, and no new checkpoint in $((lives + 1)) lives"
}

train() { # OPTIONS
  facet_modules
  [ -x "$FACET" ] || refuse "$FACET is not there: set FACET in $FACET_SLURM/site.env"
  me=${FACET_CHAIN:-$(job_id)}
  out=$(option_value output_dir "$@")
  [ -n "$out" ] || refuse "--output_dir is missing"
  mkdir -p "$out" || refuse "$out: cannot be made"
  checkpoint_before=$(newest_checkpoint)
  read_lives
  set_layout
  say "job $(job_id), restart ${SLURM_RESTART_COUNT:-0}, on $SLURM_JOB_NODELIST: ${layout[*]}; checkpoint: $checkpoint_before"
  if [ "$lives" -gt "$(lives_at_most "$last_end")" ]; then stop 88 "given up: no new checkpoint in $lives lives"; fi
  write_lives lost
  run_ranks "$@"
  say "ended: exit code $code (srun's was $launcher_code)"
  decide
}
