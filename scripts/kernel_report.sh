#!/usr/bin/env bash
# Prints what ptxas said of every kernel, from files with the output of `nvcc -Xptxas -v`. A kernel that spills must stand in
# kernels/cuda/spills.txt with the reason. What ptxas calls a potential loss of performance is an error (products of a warpgroup
# that it runs one by one, an ignored setmaxnreg), and so is a wait or fence that it adds. usage: kernel_report.sh FILE...
#
# A line of spills.txt: architecture, kernel as it is printed here, spilled bytes (stores and loads) at most, reason.
set -euo pipefail
cd "$(dirname "$0")/.."

# "void facet::cuda::(anonymous namespace)::fill_kernel<float>(...)" becomes "fill_kernel<float>".
cat "$@" | c++filt | sed -E "s/\(anonymous namespace\):://g; s/facet::(cuda::|gpu::)?//g; s/'void /'/; s/__nv_bfloat16/bf16/g; s/__half/f16/g" |
  awk -v reasons=kernels/cuda/spills.txt '
    BEGIN {
      while ((getline line < reasons) > 0) {
        if (line ~ /^#/ || split(line, field, / *\| */) < 4) continue
        allowed[field[1] " " field[2]] = field[3]
      }
      print "shared memory (without what a launch asks for), stack and spills in bytes"
      printf "%-52s %-6s %9s %7s %6s %7s %7s\n", "kernel", "arch", "registers", "shared", "stack", "stores", "loads"
    }
    /Compiling entry function/ {
      split($0, quoted, "\047")
      kernel = quoted[2]; arch = quoted[4]
      seen[arch] = 1
      sub(/\(.*/, "", kernel)
    }
    /Potential Performance Loss|is injected/ { bad[++wrong] = $0 }
    /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
    /: Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
      shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH - 11) : 0
      rows[++count] = sprintf("%-52s %-6s %9d %7d %6d %7d %7d", kernel, arch, registers, shared, stack, stores, loads)
      if (stores + loads == 0) next
      ++spilling
      key = arch " " kernel
      used[key] = 1
      if (!(key in allowed)) bad[++wrong] = kernel " on " arch " spills and stands not in " reasons
      else if (stores + loads > allowed[key]) bad[++wrong] = kernel " on " arch " spills more than the " allowed[key] " bytes of " reasons
    }
    END {
      for (i = 2; i <= count; ++i)  # by name
        for (j = i; j > 1 && rows[j - 1] > rows[j]; --j) { row = rows[j]; rows[j] = rows[j - 1]; rows[j - 1] = row }
      for (i = 1; i <= count; ++i) print rows[i]
      for (key in allowed) if (substr(key, 1, index(key, " ") - 1) in seen && !(key in used)) bad[++wrong] = key " spills no longer: take it out of " reasons
      for (i = 1; i <= wrong; ++i) print bad[i]
      printf "%d kernels, %d of them spill\n", count, spilling
      exit wrong > 0 || count == 0
    }'
