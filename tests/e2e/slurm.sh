#!/usr/bin/env bash
# The job scripts of slurm/ under a real Slurm of four nodes on this machine: whatever happens to a job, its curve has the bits of a
# run that nothing happened to. And facet chat, on the terminal that srun gives it.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
. tests/e2e/slurm/cluster.sh

declare -A cases=([Slurm.NormalEndOneRankAGpu]=normal_end [Slurm.Usr1]=usr1 [Slurm.Term]=term [Slurm.Preemption]=preemption
  [Slurm.KilledRank]=killed_rank [Slurm.TimeLimitOfAnArray]=time_limit_of_an_array
  [Slurm.TwoJobsOnOneDirectory]=two_jobs_on_one_directory [Slurm.CancelledForGood]=cancelled_for_good [Slurm.Chain]=chain
  [Slurm.PreflightOfGoodNodes]=preflight_of_good_nodes [Slurm.PreflightOfBadNodes]=preflight_of_bad_nodes
  [Slurm.ReferenceLine]=reference_line [Slurm.ChatOnATerminal]=chat_on_a_terminal
  [Slurm.HeadNodeLost]=head_node_lost [Slurm.OtherNodeLost]=other_node_lost)
if ! can_make_a_cluster; then
  for name in "${!cases[@]}"; do
    echo "[  SKIPPED ] $name (0 ms)"
    echo 'facet-skip: no Slurm (packages slurm-wlm and munge), or no right to start one here'
  done
  exit 0
fi
trap 'stop_cluster; rm -rf "$work"' EXIT
start_cluster || { tail -n 20 "$cluster"/*.log "$cluster"/*.console; echo '[  FAILED  ] Slurm.Cluster (0 ms)'; exit 1; }

# The templates as a site has them: only site.env is another.
cp -r slurm "$work/slurm"
cat >"$work/slurm/site.env" <<SITE
export FACET_SLURM=$work/slurm SBATCH_EXCLUSIVE=user
FACET=$facet FACET_MPI=pmix FACET_RANKS_PER_NODE=
facet_modules() { :; }
SITE
. "$work/slurm/site.env"

# 12 samples a step in 2 ranks, three steps an epoch. The steps of jobs take a while, so that there is time for what happens to
# them.
train=("${model[@]}" "${data[@]}" --learning_rate 2e-3 --lang_lora_dim 4 --seed 7 --num_train_epochs 12
  --per_device_train_batch_size 2 --gradient_accumulation_steps 3 --save_interval 4 --keep_last 1)
pace=400 # milliseconds
columns=(step epoch micro_batches samples tokens labelled_tokens loss grad_norm clip_factor lr_decay loss_llava loss_coco_caption)
steps=36

same_curve() { # DIRECTORY
  [ "$(rows "$1/loss_log.csv")" = $steps ] || fail "$1 has $(rows "$1/loss_log.csv") steps"
  same_columns "$work/whole/loss_log.csv" "$1/loss_log.csv" "${columns[@]}"
  equal_models "$work/whole/epoch-12" "$1/epoch-12"
}

# submit NAME [option of sbatch...]: a job on $work/NAME, its output in $work/NAME.out; prints its id.
submit() {
  local name=$1
  shift
  sbatch --parsable --output="$work/$name.out" "$@" "$work/slurm/train.sbatch" "${train[@]}" --inject "slow@compute:ms=$pace" \
    --output_dir "$work/$name"
}

has_rows() { [ -e "$1/loss_log.csv" ] && [ "$(wc -l <"$1/loss_log.csv")" -gt 8 ]; } # 6 steps, of which a checkpoint has 4
field() { scontrol show job -o "$1" | grep -oE "(^| )$2=[^ ]*" | head -n 1 | cut -d= -f2; }
state() { field "$1" JobState; }
ended() { case $(state "$1") in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL | PREEMPTED) ;; *) return 1 ;; esac; }
is_in_state() { [ "$(state "$1")" = "$2" ]; }

ends_as() { # JOB STATE
  until_true 240 ended "$1"
  [ "$(state "$1")" = "$2" ] || fail "job $1 is $(state "$1")"
}
restarts_are() { [ "$(field "$1" Restarts)" = "$2" ] || fail "job $1 was started again $(field "$1" Restarts) times"; }

normal_end() {
  local job
  job=$(env -u SBATCH_EXCLUSIVE sbatch --parsable --output="$work/normal.out" -w n4 --gpus-per-node=2 "$work/slurm/train.sbatch" \
    "${train[@]}" --output_dir "$work/normal")
  ends_as "$job" COMPLETED
  restarts_are "$job" 0
  same_curve "$work/normal"
  grep -q -- ' on n4: --nodes=1 --ntasks=2 --ntasks-per-node=2 --cpus-per-task=8; checkpoint: none$' "$work/normal.out"
  grep -q '^EXIT code=0 ' "$work/normal.out"
}

# The launch line of the original as it is, on eight ranks of four nodes.
reference_line() {
  local job
  reference_directory "$work/launch"
  cd "$work/launch"
  job=$(sbatch --parsable --output="$work/reference.out" --nodes=4 --ntasks-per-node=2 "$work/slurm/train.sbatch" "${reference_line[@]}")
  ends_as "$job" COMPLETED
  grep -q '^EXIT code=0 ' "$work/reference.out"
  ls output/tb_logging/events.out.tfevents.* output/epoch-6 >/dev/null
}

# srun --pty gives rank 0 a terminal of its node: keys edit lines there, and Ctrl-C stops the answer of both nodes. A prompt may be seen
# here before that terminal is ready for keys: what the tab key has completed shows that it is, and a line's end that it has been read.
chat_on_a_terminal() {
  local sharing=("${model[@]}" --inference_tp_size 2)
  "${CXX:-mpicxx}" -std=c++20 -O0 -o "$work/terminal" tests/e2e/terminal.cpp
  mkdir -p "$work/talk/images"
  cp "$(find "$tiny/data/eval/images" -type f | sort | head -n 1)" "$work/talk/images/a.jpg"
  cd "$work/talk"
  HOME=$work TERM=xterm timeout -k 5 "$time_limit" "$work/terminal" srun --pty --mpi="$FACET_MPI" --nodes=2 --ntasks=2 "$facet" chat \
    "${sharing[@]}" --history talk.json --max_new_tokens 100000 --max_seq_len 100000 <<'END'
wait Images (
keys im\t
wait ages/
keys ba\x02\x7f\x05\t\r
wait You: 
type Gö on for ever.
wait [?2004l
wait  
keys \x03
wait (stopped)
wait Images (
type quit
echoes
END
  grep -qF '"images": ["images/a.jpg"], "question": "Gö on for ever."' talk.json.answers.jsonl
  grep -qF '"stop_reason": "interrupted"' talk.json.answers.jsonl
  run 0 2 "$facet" generate "${sharing[@]}" --input talk.json --output talk.jsonl --max_seq_len 100000 \
    --max_new_tokens "$(grep -oP '"tokens": \K[0-9]+' talk.json.answers.jsonl)"
  diff <(answer_in talk.json.answers.jsonl) <(answer_in talk.jsonl)
}
answer_in() { grep -o '"answer": .*, "tokens": [0-9]*' "$1"; }

# signalled NAME SIGNAL: to the ranks, as sbatch --signal does
signalled() {
  local job
  job=$(submit "$1" -w n2,n3 --nodes=2)
  until_true 120 has_rows "$work/$1"
  scancel --signal="$2" "$job"
  ends_as "$job" COMPLETED
  restarts_are "$job" 1
  same_curve "$work/$1"
  [ "$(grep -c '^EXIT code=85 ' "$work/$1.out")" = 1 ]
}
usr1() { signalled usr1 USR1; }
term() { signalled term TERM; }

preemption() {
  local job other pace=800
  job=$(submit preempted -w n1 --ntasks-per-node=2)
  until_true 120 has_rows "$work/preempted"
  other=$(sbatch --parsable --output="$work/high.out" -p high --exclusive -w n1 --wrap 'sleep 3')
  ends_as "$other" COMPLETED
  ends_as "$job" COMPLETED
  restarts_are "$job" 1
  same_curve "$work/preempted"
  grep -q '^EXIT code=85 ' "$work/preempted.out"
}

killed_rank() {
  local job
  job=$(submit killed -w n2,n3 --nodes=2)
  until_true 120 has_rows "$work/killed"
  kill -KILL "$(ranks_of "$work/killed" | tail -n 1)"
  ends_as "$job" COMPLETED
  restarts_are "$job" 1
  same_curve "$work/killed"
}
ranks_of() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $1"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}

# Two runs of one table, neither of which is done within the minute. The last task has the array's own id.
time_limit_of_an_array() {
  local job task
  printf '# name options\nfirst --weight_decay 0\n\nsecond   --weight_decay 0 --inject "slow@compute:ms=2100"\n' >"$work/table.txt"
  job=$(sbatch --parsable --array=1-2 --time=1 --signal=B:USR1@1 --output="$work/sweep-%a.out" -w n3 --ntasks-per-node=2 \
    "$work/slurm/sweep.sbatch" "$work/table.txt" "$work/sweep" "${train[@]}")
  for task in 1 2; do ends_as "${job}_$task" COMPLETED; done
  restarts_are "${job}_1" 0
  [ "$(field "${job}_2" Restarts)" -ge 1 ]
  same_curve "$work/sweep/first"
  same_curve "$work/sweep/second"
  grep -q 'for the time limit' "$work/sweep-2.out"
  if grep -E 'DUE TO TIME LIMIT|submit it again' "$work/sweep-2.out"; then fail 'it did not stop by itself'; fi
}

two_jobs_on_one_directory() {
  local first second pace=800
  first=$(submit shared -w n2 --ntasks-per-node=2)
  until_true 120 has_rows "$work/shared"
  second=$(sbatch --parsable --output="$work/second.out" -w n3 --ntasks-per-node=2 "$work/slurm/train.sbatch" "${train[@]}" \
    --output_dir "$work/shared")
  ends_as "$second" FAILED
  restarts_are "$second" 0
  [ "$(field "$second" ExitCode)" = 78:0 ]
  grep -q "is in use by another run (host n2 pid [0-9]* job $first)" "$work/second.out"
  ends_as "$first" COMPLETED
  restarts_are "$first" 0
  same_curve "$work/shared"
}

cancelled_for_good() {
  local job
  job=$(submit cancelled -w n2 --ntasks-per-node=2)
  until_true 120 has_rows "$work/cancelled"
  scancel "$job"
  ends_as "$job" CANCELLED
  restarts_are "$job" 0
  grep -q ' cancelled; the newest checkpoint is step_' "$work/cancelled.out"
}

chain() {
  local jobs
  mapfile -t jobs < <("$work/slurm/chain.sh" 4 --output="$work/chain.out" -w n2 --ntasks-per-node=2 "$work/slurm/train.sbatch" \
    "${train[@]}" --inject slow@compute:ms=400 --output_dir "$work/chain")
  [ ${#jobs[@]} = 4 ]
  until_true 120 has_rows "$work/chain"
  scancel --signal=USR1 "${jobs[0]}"
  ends_as "${jobs[0]}" FAILED
  ends_as "${jobs[1]}" COMPLETED
  ends_as "${jobs[2]}" CANCELLED
  ends_as "${jobs[3]}" CANCELLED
  same_curve "$work/chain"
}

# Two nodes, of which the one that $bad names has a GPU less than Slurm thinks, a clock that is ahead and a slow disk. A disk
# counts as slow that is $slow times slower than the other one.
preflight() { # NAME
  local job tools=$work/$1_tools
  mkdir "$tools"
  # shellcheck disable=SC2016
  {
    echo 'echo GPU 0: planted; [ "$SLURMD_NODENAME" = "$bad" ] || echo GPU 1: planted' >"$tools/nvidia-smi"
    echo '[ "$SLURMD_NODENAME" != "$bad" ] || set -- -d "@$(($(/bin/date +%s) + 100))" "$@"; exec /bin/date "$@"' >"$tools/date"
    echo '[ "$SLURMD_NODENAME" != "$bad" ] || sleep 10; exec /bin/dd "$@"' >"$tools/dd"
  }
  sed -i '1i #!/bin/bash' "$tools/"*
  chmod +x "$tools/"*
  export bad
  job=$(PATH=$tools:$PATH FACET_PREFLIGHT_MB=16 FACET_PREFLIGHT_SLOW=$slow FACET_INJECT=$network \
    FACET_PREFLIGHT_BANDWIDTH='--all_reduce_mib 0.25 --repeats 1' sbatch --parsable --output="$work/$1.out" \
    -w n2,n3 --nodes=2 --gpus-per-node=2 --ntasks-per-node=2 "$work/slurm/preflight.sbatch" "${train[@]}" --output_dir "$work/$1")
  until_true 120 ended "$job"
  cat "$work/$1.out"
}
preflight_of_good_nodes() {
  bad=none slow=1000 network='' preflight good # however unevenly a busy machine serves them
  grep -q '^PREFLIGHT ok$' "$work/good.out"
  grep -q '^all-reduce by mpi, GB/s' "$work/good.out"
  [ ! -e "$work/good" ]
}
preflight_of_bad_nodes() {
  bad=n3 slow=3 network='slow@bandwidth:rank=3,ms=2000' preflight bad # 1.6 MB/s: the other one is faster on any machine
  grep -q '^problem: host n3 has 1 GPUs instead of 2$' "$work/bad.out"
  grep -qE '^problem: the clock of host n3 is (99|10[0-9])\.[0-9] s ahead of that of host n2$' "$work/bad.out"
  grep -qE '^problem: host n3: write at [0-9]+ MB/s a rank, host n2 at [0-9]+$' "$work/bad.out"
  grep -qE '^problem: host n3: read at [0-9]+ MB/s a rank, host n2 at [0-9]+$' "$work/bad.out"
  grep -qE '^problem: host n3: all-reduce by mpi at [^ ]+ GB/s among its ranks, host n2 at [^ ]+$' "$work/bad.out"
  grep -q '^PREFLIGHT 5 problems$' "$work/bad.out"
}

# lost NAME LOST_NODE NODES_THEN: the job runs on, elsewhere.
lost() {
  local job
  job=$(submit "$1" -w "$2" --nodes=2)
  until_true 120 has_rows "$work/$1"
  cut_power "$3"
  until_true 120 is_in_state "$job" PENDING
  scontrol update "JobId=$job" "ReqNodeList=$4"
  ends_as "$job" COMPLETED
  same_curve "$work/$1"
}
head_node_lost() { lost head_lost n1,n2 n1 n2,n4; }
other_node_lost() { lost other_lost n2,n3 n3 n2,n4; }

# The cases wait most of their time: those of one group run at once, each with a log of its own.
start() { # NAME
  local name=$1
  (
    trap 'echo $? >"$work/$name.code"' EXIT
    set -eE
    trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2' ERR
    ${cases[$name]}
  ) >"$work/$name.log" 2>&1 &
}
result() { # NAME
  until_true 400 test -s "$work/$1.code"
  if [ "$(cat "$work/$1.code")" != 0 ]; then
    tail -n 30 "$work/$1.log"
    return 1
  fi
}
together() { # NAME...
  local name chosen=()
  for name in "$@"; do
    # shellcheck disable=SC2053
    if [[ $name == ${ONLY:-*} ]]; then chosen+=("$name"); fi
  done
  for name in "${chosen[@]}"; do start "$name"; done
  for name in "${chosen[@]}"; do check "$name" result "$name"; done
}

run 0 2 "$facet" train "${train[@]}" --output_dir "$work/whole"
together Slurm.{NormalEndOneRankAGpu,Usr1,Term,Preemption,KilledRank,TimeLimitOfAnArray,TwoJobsOnOneDirectory} \
  Slurm.{CancelledForGood,Chain,PreflightOfGoodNodes,PreflightOfBadNodes}
together Slurm.{ReferenceLine,ChatOnATerminal}
together Slurm.{HeadNodeLost,OtherNodeLost}
finish
