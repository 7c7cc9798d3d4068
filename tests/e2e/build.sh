#!/usr/bin/env bash
# What make compiles; it is only asked.
# quick
source "$(dirname "$0")/lib.sh"
tree=$work/tree

# A copy of the tree whose programs are newer than every source, and a new source that is older than these (as after `cp -p`, or
# from an archive).
old_source_is_compiled() {
  local program=$1 source=$2
  mkdir -p "$tree"
  cp -r Makefile src kernels tests data scripts "$tree"
  mkdir -p "$tree/$(dirname "$source")" "$tree/$(dirname "$program")"
  touch -d 2001-01-01 "$tree/$source"
  touch "$tree/build/libfacet.a" "$tree/$program"
  make -C "$tree" -n FACET_CUDA=none BUILD=build "$program" >"$output" 2>&1
  once "echo \"  c++   $source"
}

check Build.ANewSourceOlderThanTheLibraryIsCompiled old_source_is_compiled build/facet src/base/added.cpp
check Build.ANewTestOlderThanItsProgramIsCompiled old_source_is_compiled build/tests/test_base tests/base/added_test.cpp
check Build.ANewBenchmarkOlderThanItsProgramIsCompiled old_source_is_compiled build/bench/added tests/bench/added.cpp
check Build.ANewKernelTestOlderThanItsProgramIsCompiled old_source_is_compiled build/emulated/test_kernels tests/kernels/added_test.cpp
finish
