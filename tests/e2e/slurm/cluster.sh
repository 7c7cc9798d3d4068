# shellcheck shell=bash
# A Slurm cluster of four nodes on this machine, for tests; to be sourced, by root. Each node is a slurmd with a host name, process
# ids, shared memory and a temporary directory of its own, so that killing its first process is a power cut. Needs neither munged
# nor systemd.
#
# In: work, a directory. Out: SLURM_CONF; nodes n1 to n4 with 16 CPUs and 2 GPUs (character devices that exist everywhere);
# partitions low (default, preempted by requeue) and high.
# shellcheck disable=SC2154
cluster=$work/cluster
nodes=(n1 n2 n3 n4)

can_make_a_cluster() {
  { command -v slurmctld && command -v slurmd && command -v sbatch; } >/dev/null && [ "$(id -u)" = 0 ] &&
    unshare --mount --uts --ipc --pid --fork --mount-proc true 2>/dev/null
}

# Ports of this machine that nobody listens on, COUNT in a row.
free_ports() {
  local first count=$1 used
  used=$(awk 'NR > 1 { split($2, at, ":"); print at[2] }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
  for ((first = 20000 + RANDOM % 8000; ; first += count)); do
    for ((port = first; port < first + count; ++port)); do
      ! grep -qix "$(printf '%04X' "$port")" <<<"$used" || continue 2
    done
    echo "$first"
    return
  done
}

write_configuration() {
  local port
  port=$(free_ports 5)
  cat >"$cluster/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=30
SlurmdTimeout=10
SlurmctldTimeout=60
MessageTimeout=30
MinJobAge=3600
JobRequeue=0
GresTypes=gpu
StateSaveLocation=$cluster/state
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdPidFile=$cluster/%n/slurmd.pid
SlurmdLogFile=$cluster/%n/slurmd.log
SlurmdSpoolDir=$cluster/%n/spool
TmpFS=$cluster/%n/tmp
NodeName=DEFAULT CPUs=16 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
NodeName=n[1-4] NodeHostname=n[1-4] NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 4))]
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 MaxTime=60 DefaultTime=10 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=60 State=UP
CONF
  printf 'NodeName=n[1-4] Name=gpu File=/dev/%s\n' null zero >"$cluster/gres.conf"
  export SLURM_CONF=$cluster/slurm.conf
}

start_node() { # NAME: boots it
  local home=$cluster/$1
  rm -rf "$home"
  mkdir -p "$home/tmp" "$home/spool"
  # shellcheck disable=SC2016
  setpriv --pdeathsig KILL setsid unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc bash -c '
    hostname "$1" && mount -t tmpfs none /dev/shm &&
    { cat /etc/hosts; printf "127.0.0.1 %s\n" n1 n2 n3 n4; } >"$2/hosts" && mount --bind "$2/hosts" /etc/hosts &&
    exec slurmd -D -N "$1"' - "$1" "$home" >"$home/console" 2>&1 </dev/null &
  echo $! >"$cluster/$1.pid"
  disown $!
}

cut_power() { kill -KILL "$(cat "$cluster/$1.pid")"; } # unshare takes the node's first process, and so all of it, with it

idle_nodes() { sinfo -h -N -p low -t idle -o %N 2>/dev/null | wc -l; }
all_idle() { [ "$(idle_nodes)" = 4 ]; }

start_cluster() {
  mkdir -p "$cluster/state"
  write_configuration
  setpriv --pdeathsig KILL setsid slurmctld -D -c >"$cluster/slurmctld.console" 2>&1 </dev/null &
  echo $! >"$cluster/slurmctld.pid.own"
  disown $!
  local node
  for node in "${nodes[@]}"; do start_node "$node"; done
  until_true 100 all_idle
}

stop_cluster() {
  local file
  for file in "$cluster"/n?.pid "$cluster/slurmctld.pid.own"; do
    [ ! -e "$file" ] || kill -KILL "$(cat "$file")" 2>/dev/null
  done
}
