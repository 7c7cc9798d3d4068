#!/usr/bin/env bash
# Includes go strictly downward: a file sees its own room and rooms of a lower level. Some rooms have walls inside, too: what
# knows CUDA, and the emulation that stands in for it, are entered through a few named files. Prints every violation.
set -euo pipefail
cd "$(dirname "$0")/.."
find src kernels data \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' \) | LC_ALL=C sort |
awk '
BEGIN {
  rooms = "base=0 emulated=1 device=2 ops=3 comm=4 io=4 kernels=4 nn=4 data=5 model=5 optim=5 job=5 " \
          "zero=6 checkpoint=7 options=7 train=8 chat=9 main=10"
  count = split(rooms, pairs, " ")
  for (i = 1; i <= count; ++i) { split(pairs[i], pair, "="); level[pair[1]] = pair[2] }
  level["data/tiny"] = level["data"]  # the maker of the tiny example: sees src/data and what is below it

  # The files that may enter src/emulated from outside: each is CUDA, or the emulation in its place.
  shim["src/device/cuda_runtime.h"]; shim["src/device/cublaslt.h"]; shim["src/device/cudnn.h"]; shim["src/comm/nccl.h"]; shim["kernels/gpu.h"]
  shim["kernels/gpu_hopper.h"]
  # The files that choose a backend, and what they may enter of it.
  factory["src/train/compute_device.cpp", "train/cuda/gpu.h"]
  factory["src/train/version.cpp", "train/cuda/gpu.h"]
  factory["src/train/compute_device.cpp", "kernels/cpu/backend.h"]
}
# The room of a path as it stands in an include line; "" for none.
function room_of(path,   parts, n) {
  n = split(path, parts, "/")
  if (path == "main.cpp") return "main"
  if (path ~ /^data\/(tiny\/|make_tiny)/) return "data/tiny"
  return n > 1 && parts[1] in level ? parts[1] : ""
}
# "cuda", "cpu" or "emulated": the walled part of a room that a path lies in; else "".
function walled_part(path) {
  if (path ~ /^emulated\//) return "emulated"
  if (path ~ /^[^\/]+\/cuda\//) return "cuda"
  if (path ~ /^kernels\/cpu\//) return "cpu"
  if (path ~ /^kernels\/gpu[^\/]*\.h$/ || ("src/" path) in shim) return "cuda"  # what only CUDA code includes
  return ""
}
function is_file(path,   line, status) { status = (getline line < path); close(path); return status >= 0 }
function own_file(path) { return is_file("src/" path) || (path ~ /^(kernels|data)\// && is_file(path)) }
function wrong(text) { print file ":" number ": " text; bad = 1 }

function check_walls(target,   here, there) {
  here = walled_part(name); there = walled_part(target)
  if (there == "" || here == there || (file, target) in factory) return
  if (there == "emulated") {
    if (!(file in shim)) wrong("the emulation is entered through a shim header only, not by (" target ")")
    return
  }
  if (there == "cuda") wrong("code for CUDA is entered by code for CUDA and the named factories only, not by (" target ")")
  if (there == "cpu") wrong("the CPU kernels are entered by themselves and the named factories only, not by (" target ")")
}
function check_include(target, quoted,   theirs) {
  if (!quoted && !own_file(target)) {
    if (target ~ /^(cuda|cublas|cudnn|nccl)/ && !(file in shim) && file !~ /^kernels\/gpu_(hopper_)?nvcc\.h$/)
      wrong("<" target "> is included by the shim headers only")
    return
  }
  ++includes
  theirs = room_of(target)
  if (theirs == "" || !own_file(target)) { wrong("includes \"" target "\", which is in no room"); return }
  if (theirs != mine && level[theirs] >= level[mine] && !(mine == "data/tiny" && theirs == "data"))
    wrong(mine " must not see " theirs " (" target ")")
  if (theirs == "data/tiny" && mine != "data/tiny") wrong(mine " must not see " theirs " (" target ")")
  check_walls(target)
}
{
  file = $0
  name = file; sub(/^src\//, "", name)
  mine = file ~ /^data\// ? "data/tiny" : room_of(name)
  if (mine == "") { print file ": the room has no level in scripts/check_layers.sh"; bad = 1; next }
  number = 0
  while ((getline line < file) > 0) {
    ++number
    if (match(line, /^[ \t]*#[ \t]*include[ \t]*["<][^">]+[">]/)) {
      text = substr(line, RSTART, RLENGTH)
      sub(/^[^"<]*/, "", text)
      check_include(substr(text, 2, length(text) - 2), text ~ /^"/)
    } else if (line ~ /^[ \t]*#[ \t]*include/) {
      wrong("an include that is no plain path cannot be checked")
    }
  }
  close(file)
  ++files
}
END { if (!bad) print files " files, " includes " includes of own files: strictly downward"; exit bad }'
