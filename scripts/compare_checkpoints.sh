#!/usr/bin/env bash
# Compares the parameters and moments of two checkpoints with HDF5's own tools, h5diff and h5dump: nothing of this program reads them.
#
# usage: compare_checkpoints.sh CHECKPOINT CHECKPOINT [TOLERANCE]
#
# Without a tolerance every number must be the same. With one: for the masters, for the first and for the second moments, each taken as one
# vector over all parameters, |A - B| <= TOLERANCE |B| in the L2 norm. check_checkpoint.py does the same in Python.
set -euo pipefail
a=${1:?usage: compare_checkpoints.sh CHECKPOINT CHECKPOINT [TOLERANCE]}/state.h5
b=${2:?usage: compare_checkpoints.sh CHECKPOINT CHECKPOINT [TOLERANCE]}/state.h5
tolerance=${3:-}

if [ -z "$tolerance" ]; then
  # -c also reports arrays that cannot be compared: missing ones, other lengths.
  h5diff -c "$a" "$b" /param /param
  exit
fi

# For each array a line "parameter kind", then its numbers, one per line, in full fp32 precision.
numbers() {
  h5dump -A 0 -m '%.9g' -w 0 -y -g /param "$1" | awk '
    $1 == "GROUP" { parameter = $2 }
    $1 == "DATASET" { print parameter, $2 }
    $1 == "}" { inside = 0 }
    inside { print }
    $1 == "DATA" { inside = 1 }' | tr -s ', ' '\n ' | sed -e 's/^ //' -e '/^$/d'
}

paste -d ' ' <(numbers "$a") <(numbers "$b") | awk -v tolerance="$tolerance" '
  /"/ {
    if ($1 != $3 || $2 != $4) { print "the first has " $1, $2 ", the second " $3, $4; wrong = 1; exit }
    name = $1; kind = $2; next
  }
  # inf or nan: awk may read them as 0
  NF != 2 || /[in]/ { print name, kind ": " $0; wrong = 1; exit }
  { difference[kind] += ($1 - $2) ^ 2; size[kind] += $2 ^ 2 }
  END {
    if (wrong) exit 1
    kinds = split("\"fp32\" \"exp_avg\" \"exp_avg_sq\"", of, " ")
    for (i = 1; i <= kinds; ++i) {
      kind = of[i]
      if (!(size[kind] > 0)) { print kind ": nothing but zeros"; exit 1 }
      distance = sqrt(difference[kind] / size[kind])
      printf "%s: |A - B| / |B| = %.3g\n", kind, distance
      if (!(distance <= tolerance)) wrong = 1
    }
    exit wrong
  }'
