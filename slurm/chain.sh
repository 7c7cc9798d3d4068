#!/bin/bash
# For sites where jobs cannot requeue themselves: a chain of jobs, each of which goes on where the one before it ended. When the run
# is done, or can't go on, the rest of the chain is cancelled.
# usage: chain.sh LINKS [OPTIONS OF SBATCH] slurm/train.sbatch OPTIONS OF FACET TRAIN
set -euo pipefail
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || [ $# -lt 2 ]; then
  echo "usage: chain.sh LINKS [OPTIONS OF SBATCH] slurm/train.sbatch OPTIONS OF FACET TRAIN" >&2
  exit 64
fi
links=$1
shift
. "$(dirname "${BASH_SOURCE[0]}")/site.env"
FACET_CHAIN=chain-$(date +%Y%m%d-%H%M%S)-$$
export FACET_CHAIN SBATCH_NO_REQUEUE=1
before=()
for ((link = 1; link <= links; ++link)); do
  answer=$(sbatch --parsable "${before[@]}" "$@")
  job=${answer%%;*} # the cluster's name may follow
  before=("--dependency=afterany:$job")
  echo "$job"
done
