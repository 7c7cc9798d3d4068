#!/usr/bin/env bash
# A job of several hosts: one that dies, or falls silent, ends it soon; a run whose host is gone goes on elsewhere.
#
# One machine plays them: FACET_HOSTNAME gives a rank's host its name. Where it is allowed, two hosts have networks and names of their own.
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh

train=("$facet" train "${model[@]}" "${data[@]}" --lang_lora_dim 4 --seed 7)
host=$(hostname)
# A launcher that does not notice that a rank dies, as plain srun.
# shellcheck disable=SC2016
unnoticed=(bash -c '"$@"; code=$?; [ $code -le 128 ] || sleep 100; exit $code' -)

# on_two_hosts CODE FIRST SECOND option...: so many ranks on this host and on node2; ends with that exit code.
on_two_hosts() {
  local expected=$1 first=$2 second=$3 code=0 line=("${unnoticed[@]}" "${train[@]}" --output_dir "$out")
  shift 3
  line+=("$@")
  timeout -k 5 60 mpirun --oversubscribe -n "$first" "${line[@]}" : -n "$second" env FACET_HOSTNAME=node2 "${line[@]}" >"$output" 2>&1 </dev/null || code=$?
  [ "$code" = "$expected" ] || { grep -vE '^[a-z_0-9]+ =' "$output" | tail -n 30; fail "exit code $code instead of $expected"; }
}
says() {
  [ "$(grep -cE -- "$1" "$output")" = 1 ] || { grep -vE '^[a-z_0-9]+ =' "$output" | tail -n 30; fail "not exactly one line matches $1"; }
}
ranks() {
  local pid
  for pid in $(pgrep -f -- "--output_dir $out"); do
    if [ "$(readlink "/proc/$pid/exe" || true)" = "$facet" ]; then echo "$pid"; fi
  done
}
no_ranks() { [ -z "$(ranks)" ]; }

another_host_is_gone() {
  out=$work/gone
  on_two_hosts 86 2 1 --inject kill@compute:rank=2,step=3
  says '^hang: host node2 \(rank 2 of 3\) is gone: its connection was closed, '
  says "seen from $host:\$"
  says '^  ranks 0, 1: waiting in collective [0-9]+ \(all_gather\), compute of step 3$'
  says '^EXIT code=86 reason=hang step=2 checkpoint=none$'
  until_true 10 no_ranks
}

# The one that all others are connected to.
first_host_is_gone() {
  out=$work/first
  on_two_hosts 86 1 2 --inject kill@compute:rank=0,step=3
  says "^hang: host $host \(rank 0 of 3\) is gone: "
  says 'seen from node2:$'
  until_true 10 no_ranks
}

# A rank's death is told by its own host, once, and ends the others too.
dead_rank_ends_all_hosts() {
  out=$work/dead
  on_two_hosts 88 1 2 --inject kill@compute:rank=2,step=3
  says '^rank 1: rank 2 \(host node2, pid [0-9]+\) died in compute of step 3; '
  never 'hang: '
  until_true 10 no_ranks
}

silent_host() {
  out=$work/silent
  on_two_hosts 86 2 1 --inject stop@compute:rank=2,step=3 --hang_seconds_host 2
  says '^hang: host node2 \(rank 2 of 3\) has not been heard for [0-9.]+ s \(limit 2 s\)'
  until_true 10 no_ranks
}

# An error of one rank, the first of its host, whose process is gone some seconds before the launcher ends the others.
error_is_told_once() {
  local code=0 line dies
  out=$work/error
  line=("${train[@]}" --output_dir "$out" --inject fail@compute:rank=1,step=2)
  # shellcheck disable=SC2016
  dies=(bash -c '"$@" 2> >(while IFS= read -r line; do echo "$line" >&2; case $line in error*) sleep 0.3; kill -KILL "$(pgrep -P $$ -x facet)" ;; esac; done)' -)
  OMPI_MCA_odls_base_sigkill_timeout=2 timeout -k 5 60 mpirun --oversubscribe -n 1 "${line[@]}" : -n 1 env FACET_HOSTNAME=node2 "${dies[@]}" "${line[@]}" : \
    -n 1 env FACET_HOSTNAME=node2 "${line[@]}" >"$output" 2>&1 </dev/null || code=$?
  [ "$code" = 74 ] || { tail -n 30 "$output"; fail "exit code $code"; }
  [ "$(grep -c '^error' "$output")" = 1 ]
  never 'hang: '
  never ' died in '
  until_true 10 no_ranks
}

# Ranks end one after the other, and are not missed.
no_false_alarm() {
  out=$work/fine
  on_two_hosts 0 2 1 --max_steps 2
  never 'hang: '
}

# stuck NAME FIRST SECOND option...: rank 2 stops in step 3 and another rank gets SIGTERM: its save can never come about.
stuck() {
  out=$work/$1
  local first=$2 second=$3 launched code=0 line=("${train[@]}" --output_dir "$work/$1" --inject stop@compute:rank=2,step=3)
  : >"$output"
  (exec timeout -k 5 60 mpirun --oversubscribe -n "$first" "${line[@]}" : -n "$second" env FACET_HOSTNAME=node2 "${line[@]}") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 any_stopped
  for pid in $(ranks); do kill -TERM "$pid"; done
  wait "$launched" || code=$?
  [ "$code" = 86 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  says '\(limit 5 s\)'
  until_true 10 no_ranks
}
any_stopped() {
  local pid
  for pid in $(ranks); do
    if grep -q '^State:.T' "/proc/$pid/status"; then return 0; fi
  done
  return 1
}

# The job's first life ends on one host with its lock, which the second finds on another; a minute has passed.
moved() { # NAME, what becomes of the lock's line, and how the second life is started
  out=$work/$1
  run 137 0 "${on_host[@]}" nodeA env SLURM_JOB_ID=32 "${train[@]}" --output_dir "$out" --save_interval 2 --inject kill@step:rank=0,step=3
  grep -q '^host nodeA pid [0-9]* job 32 restarts 0 boot ' "$out/run.lock"
  sed -i "$2" "$out/run.lock"
  touch -d '1 minute ago' "$out/run.lock"
  shift 2
  run 0 0 "${on_host[@]}" nodeB "$@" "${train[@]}" --output_dir "$out" --max_steps 4
  says "the run that held $out is gone \(host nodeA pid [0-9]+ job 32\); taking over\$"
  once "continuing from $out/checkpoints/step_00000002: step 2"
  [ ! -e "$out/run.lock" ]
}
# shellcheck disable=SC2016
on_host=(unshare --uts bash -c 'hostname "$1" && shift && exec "$@"' -)
# Another host name on the same machine; on another machine a requeued job, and one that is over.
moved_to_another_host() {
  mkdir -p "$work/bin"
  printf '#!/bin/sh\n[ "$3" = 32 ] || exit 1\necho slurm_load_jobs error: Invalid job id specified >&2\nexit 1\n' >"$work/bin/squeue"
  chmod +x "$work/bin/squeue"
  moved renamed '' env
  moved requeued 's/ boot .*/ boot another/' env SLURM_JOB_ID=32 SLURM_RESTART_COUNT=1
  moved over 's/ boot .*/ boot another/' env SLURM_JOB_ID=33 "PATH=$work/bin:$PATH"
}

# A run that was taken for dead finds its lock in other hands: it ends on all hosts, tells that once and leaves the lock alone.
taken_for_dead() {
  local launched code=0 line=("${train[@]}" --output_dir "$work/taken" --num_train_epochs 100000)
  out=$work/taken
  : >"$output"
  (exec timeout -k 5 60 mpirun --oversubscribe -n 2 "${line[@]}" : -n 1 env FACET_HOSTNAME=node2 "${line[@]}") >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 has_rows
  echo 'host elsewhere pid 1 job 5 boot another run 1' >"$out/run.lock"
  wait "$launched" || code=$?
  [ "$code" = 78 ] || { tail -n 20 "$output"; fail "exit code $code"; }
  once "error: $out/run.lock was taken over by another run (host elsewhere pid 1 job 5)"
  says '^EXIT code=78 reason=config step=[0-9]+ '
  until_true 10 no_ranks
  grep -q '^host elsewhere pid 1 job 5 ' "$out/run.lock"
}

# Two hosts with networks, names and shared memory of their own, joined by a bridge; mpirun enters them as it would by ssh.
# shellcheck disable=SC2016
make_hosts() {
  local i
  mkdir -p /run/netns
  mount -t tmpfs none /run/netns
  ip link set lo up
  ip link add bridge type bridge
  ip addr add 10.77.0.254/24 dev bridge
  ip link set bridge up
  for i in 1 2; do
    ip netns add "host$i"
    ip link add "cable$i" type veth peer name eth0 netns "host$i"
    ip link set "cable$i" master bridge up
    ip -n "host$i" addr add "10.77.0.$i/24" dev eth0
    ip -n "host$i" link set eth0 up
    ip -n "host$i" link set lo up
  done
  printf '#!/bin/bash\nhost=$1\nshift\nexec nsenter --net=/run/netns/$host unshare --mount --uts --ipc bash -c "hostname $host; mount -t tmpfs none /dev/shm; $*"\n' \
    >"$work/enter"
  chmod +x "$work/enter"
}
mpirun_on_hosts=(mpirun -H host1:2,host2:1 -n 3 --oversubscribe --mca plm_rsh_agent "$work/enter" --mca plm_rsh_no_tree_spawn 1
  --mca oob_tcp_if_include 10.77.0.0/24 --mca btl_tcp_if_include 10.77.0.0/24 --mca btl "tcp,self")

# Its cable is pulled, so that nothing is closed and nobody is told.
pulled_cable() {
  local launched code=0 began
  out=$work/cable
  make_hosts
  : >"$output"
  (exec timeout -k 5 60 "${mpirun_on_hosts[@]}" "${train[@]}" --output_dir "$out" --num_train_epochs 1000 --inject slow@compute:ms=50 \
    --hang_seconds_host 3) >"$output" 2>&1 </dev/null &
  launched=$!
  until_true 60 has_rows
  ip link set cable2 down
  began=$SECONDS
  until_true 30 grep -q '^EXIT ' "$output"
  [ $((SECONDS - began)) -le 20 ]
  until_true 20 no_ranks # also the one on the host that was cut off
  ip link set cable2 up  # mpirun itself waits for that host
  wait "$launched" || code=$?
  [ "$code" != 0 ]
  says '^hang: host host2 \(rank 2 of 3\) has not been heard for [0-9.]+ s \(limit 3 s\); seen from host1:$'
  grep -q '^EXIT code=86 reason=hang ' "$output"
}
has_rows() { [ -e "$out/loss_log.csv" ] && [ "$(wc -l <"$out/loss_log.csv")" -gt 4 ]; }

# Three hosts of a rank each: all meet, and those that are not slow are fast with each other.
slow_host_in_bandwidth() {
  local line=("$facet" bandwidth --threads 1 --all_reduce_mib 0.01 0.1 --repeats 1)
  timeout -k 5 100 mpirun --oversubscribe -n 1 "${line[@]}" : -n 1 env FACET_HOSTNAME=node2 "${line[@]}" : \
    -n 1 env FACET_HOSTNAME=node3 FACET_INJECT='slow@bandwidth:ms=700' "${line[@]}" >"$output" 2>&1 </dev/null
  says '^BANDWIDTH by=mpi of=all ranks=3 bytes=10488 seconds=[^ ]+ algbw=[^ ]+ busbw=[^ ]+$'
  says '^BANDWIDTH by=mpi of=all ranks=3 bytes=104856 '
  says "^BANDWIDTH by=mpi of=pair host=$host other=node2 ranks=2 bytes=104856 "
  says "^BANDWIDTH by=mpi of=pair host=node2 other=$host ranks=2 "
  says '^BANDWIDTH by=mpi of=pair host=node3 other=[^ ]+ ranks=2 bytes=104856 seconds=(0[.][7-9]|[1-9])'
}

if [ "${1:-}" = pulled_cable ]; then # in namespaces of its own, which go with it
  check Hosts.APulledCable pulled_cable
  finish
  exit
fi
check Hosts.AnotherHostIsGone another_host_is_gone
check Hosts.TheFirstHostIsGone first_host_is_gone
check Hosts.ADeadRankEndsAllHosts dead_rank_ends_all_hosts
check Hosts.ASilentHost silent_host
check Hosts.AnErrorIsToldOnce error_is_told_once
check Hosts.NoFalseAlarm no_false_alarm
check Hosts.SigtermWhereARankIsStopped stuck rank 3 1
check Hosts.SigtermWhereAHostIsSilent stuck host 2 1
check Hosts.ARunThatWasTakenForDead taken_for_dead
check Hosts.ASlowHostInBandwidth slow_host_in_bandwidth
if unshare --mount --uts --ipc --net ip link add bridge type bridge 2>/dev/null; then
  check Hosts.ARunMovesToAnother moved_to_another_host
  unshare --mount --net bash "$0" pulled_cable || failed_cases=$((failed_cases + 1))
else
  for name in ARunMovesToAnother APulledCable; do
    echo "[  SKIPPED ] Hosts.$name (0 ms)"
    echo 'facet-skip: hosts may not have names and networks of their own here'
  done
fi
finish
