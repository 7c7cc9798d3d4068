#!/bin/bash
# What preflight.sbatch measures on each rank; srun starts it. usage: preflight_rank.sh DIRECTORY MEGABYTES
# Writes DIRECTORY/rank-N: lines "name value". Ranks wait for each other by files there.
set -euo pipefail
probe=$1 megabytes=$2
rank=$SLURM_PROCID ranks=$SLURM_NTASKS here=${SLURMD_NODENAME:-$(hostname)}
file=$probe/.rank-$rank

note() { echo "$1 $2" >>"$file"; }

arrived() { # at NAME: how many
  local at=("$probe/at-$1-"*)
  echo ${#at[@]}
}
barrier() { # NAME
  local end=$((SECONDS + 120))
  : >"$probe/at-$1-$rank"
  until [ "$(arrived "$1")" = "$ranks" ]; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "rank $rank on $here: only $(arrived "$1") of $ranks ranks have come within 120 s" >&2
      exit 1
    fi
    sleep 0.02
  done
}

bound_to() {
  note rank "$rank"
  note host "$here"
  note cores "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
  note gpus "${CUDA_VISIBLE_DEVICES:--}"
}

# Of the first rank of a node; the others have a dash.
node() {
  local name
  if [ "$SLURM_LOCALID" != 0 ]; then
    for name in gpus_promised gpus_there squeue; do note $name -; done
    return
  fi
  note gpus_promised "${SLURM_GPUS_ON_NODE:-0}"
  if [ "${SLURM_GPUS_ON_NODE:-0}" = 0 ]; then
    note gpus_there -
  else
    note gpus_there "$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)"
  fi
  if timeout 20 squeue -h -j "$SLURM_JOB_ID" -o %L >/dev/null 2>&1; then note squeue yes; else note squeue no; fi
}

# Rank 0 holds a lock that the first ranks of the other nodes must not get.
file_lock() {
  exec 9>>"$probe/lock"
  if [ "$rank" = 0 ]; then flock -n 9; fi
  barrier locked
  if [ "$SLURM_LOCALID" != 0 ] || [ "$rank" = 0 ]; then
    note flock -
  elif flock -n 9; then
    note flock none
  else
    note flock seen
  fi
  barrier tried
  exec 9>&-
}

# rate command...: MB/s
rate() {
  local begin=$EPOCHREALTIME
  "$@" 2>/dev/null
  awk -v begin="$begin" -v end="$EPOCHREALTIME" -v mb="$megabytes" 'BEGIN { printf "%.0f", mb / (end - begin + 1e-6) }'
}
# The data are random: file systems may compress. A rank reads what one on another node has written and this node has not cached.
disk() {
  local data other=$(((rank + ranks / SLURM_JOB_NUM_NODES) % ranks))
  data=$(mktemp -p /dev/shm)
  head -c 16M /dev/urandom >"$data"
  barrier data
  note write_MB_s "$(rate write_copies "$data")"
  rm -f "$data"
  barrier written
  note read_MB_s "$(rate dd if="$probe/data-$other" of=/dev/null bs=4M)"
  barrier read
}
write_copies() {
  local copies=$(((megabytes + 15) / 16)) i
  for ((i = 0; i < copies; ++i)); do cat "$1"; done | dd of="$probe/data-$rank" bs=4M iflag=fullblock conv=fsync
}

: >"$file"
bound_to
node
barrier start
note clock "$(if [ "$SLURM_LOCALID" = 0 ]; then date +%s.%N; fi)"
file_lock
disk
mv "$file" "$probe/rank-$rank"
