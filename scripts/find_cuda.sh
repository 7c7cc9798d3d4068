#!/usr/bin/env bash
# Says whether the GPU half of the program can be built: "yes HOME" and, where they are there, "nccl" and "cudnn", or "no REASON". usage: find_cuda.sh [NVCC]
set -uo pipefail
nvcc=${1:-}
[ -n "$nvcc" ] || nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
no() { echo "no $*"; exit 0; }

[ -n "$nvcc" ] || no "there is no nvcc on the PATH"
version=$("$nvcc" --version 2>/dev/null | sed -n -E 's/.*release ([0-9]+\.[0-9]+).*/\1/p')
[ -n "$version" ] || no "$nvcc does not run"
[ "${version%%.*}" -ge 12 ] || no "$nvcc is CUDA $version; 12.0 or newer is needed"

# Where the headers are: beside the real nvcc, or where it looks itself.
home=$(dirname "$(dirname "$(realpath "$nvcc")")")
sees() { echo "#include <$1>" | "${CXX:-c++}" ${2:+-I"$2"} -fsyntax-only -x c++ - >/dev/null 2>&1; }
include=$home/include
[ "$include" != /usr/include ] || include=
for header in cuda_runtime_api.h cublasLt.h; do
  sees "$header" "$include" || no "$header is not in $home/include: the CUDA toolkit is not whole"
done
found="yes $home"
if sees nccl.h "$include"; then found+=" nccl"; fi
if sees cudnn_graph.h "$include"; then found+=" cudnn"; fi
echo "$found"
