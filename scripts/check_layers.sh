#!/usr/bin/env bash
# Includes go strictly downward: a file sees its own room and rooms of a lower level. Prints every violation.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files --cached --others --exclude-standard 'src/*.h' 'src/*.cpp' 'kernels/*.h' 'kernels/*.cpp' 'kernels/*.cu' |
awk '
BEGIN {
  level["base"] = 0; level["device"] = 1; level["ops"] = 2
  level["comm"] = level["io"] = level["kernels"] = level["nn"] = 3
  level["data"] = level["model"] = level["optim"] = 4
  level["zero"] = 5; level["checkpoint"] = 6; level["train"] = 7; level["main"] = 8
}
function room_of(path,   parts) {
  split(path, parts, "/")
  if (parts[1] == "kernels") return "kernels"
  if (path == "src/main.cpp") return "main"
  return parts[2]
}
{
  file = $0
  mine = room_of(file)
  if (!(mine in level)) { print file ": the room \"" mine "\" has no level in scripts/check_layers.sh"; bad = 1; next }
  while ((getline line < file) > 0) {
    if (line !~ /^#include "/) continue
    split(line, quoted, "\"")
    target = quoted[2] ~ /^kernels\// ? "kernels" : substr(quoted[2], 1, index(quoted[2], "/") - 1)
    if (!(target in level)) { print file ": includes \"" quoted[2] "\", which is in no room"; bad = 1; continue }
    if (target != mine && level[target] >= level[mine]) { print file ": " mine " must not see " target " (" quoted[2] ")"; bad = 1 }
  }
  close(file)
  ++files
}
END { if (!bad) print files " files include strictly downward"; exit bad }'
