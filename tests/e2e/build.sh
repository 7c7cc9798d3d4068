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

# have_line TEXT TEXT: what make would run has a line with both.
have_line() { awk -v a="$1" -v b="$2" 'index($0, a) && index($0, b) { found = 1 } END { exit !found }' "$output" || fail "no $1 with $2"; }
# The program is compiled and linked with all of them; with sanitizers, which look for the same, without _FORTIFY_SOURCE.
is_hardened() {
  local flag nowhere=$work/nowhere
  make -n FACET_CUDA=none BUILD="$nowhere" "$nowhere/facet" >"$output" 2>&1
  for flag in -fstack-protector-strong -D_GLIBCXX_ASSERTIONS -D_FORTIFY_SOURCE=2; do have_line "-c -o $nowhere/obj/src/main.o" "$flag"; done
  have_line "-o $nowhere/facet " '-Wl,-z,relro -Wl,-z,now'
  make -n FACET_CUDA=none BUILD="$nowhere" SANITIZE=-fsanitize=address "$nowhere/facet" >"$output" 2>&1
  have_line "-c -o $nowhere/obj/src/main.o" -fstack-protector-strong
  never '-D_FORTIFY_SOURCE=2'
}

# A change of what git knows and a new source count; new files elsewhere do not.
commit_is_named() {
  local versioned=$work/versioned hash
  named() { [ "$("$versioned/$1scripts/git_version.sh")" = "$2" ] || fail "$("$versioned/$1scripts/git_version.sh") is not $2"; }
  mkdir -p "$versioned/scripts" "$versioned/src" "$versioned/inner"
  cp scripts/git_version.sh "$versioned/scripts"
  named '' unknown
  command -v git >/dev/null || return 0
  git -C "$versioned" init -q
  named '' unknown # nothing is committed
  git -C "$versioned" add scripts
  git -C "$versioned" -c user.name=a -c user.email=a@b commit -q -m first
  hash=$(git -C "$versioned" rev-parse --short=12 HEAD)
  echo >"$versioned/notes.txt"
  named '' "$hash"
  echo >"$versioned/src/new.cpp"
  named '' "$hash-dirty"
  rm "$versioned/src/new.cpp"
  echo >>"$versioned/scripts/git_version.sh"
  named '' "$hash-dirty"
  cp -r "$versioned/scripts" "$versioned/inner"
  named inner/ unknown # an archive that was unpacked in another repository
}

# The file with it is written anew only for another commit; the program has what stands in it.
commit_is_built_in() {
  local file=$tree/build/git_version.cpp first
  mkdir -p "$tree"
  cp -r Makefile src kernels tests data scripts "$tree"
  make -C "$tree" FACET_CUDA=none BUILD=build build/git_version.cpp
  grep -qF '"unknown"' "$file"
  first=$(stat -c %y "$file")
  make -C "$tree" FACET_CUDA=none BUILD=build build/git_version.cpp
  [ "$(stat -c %y "$file")" = "$first" ]
  sed -i s/unknown/0123456789ab/ "$file"
  make -C "$tree" FACET_CUDA=none BUILD=build build/git_version.cpp
  grep -qF '"unknown"' "$file"
  grep -qF "\"$("$facet" --version | sed -n 's/^facet .* (git \(.*\))$/\1/p')\"" "$BUILD/git_version.cpp"
}

check Build.TheCommitIsNamed commit_is_named
check Build.TheCommitIsBuiltIn commit_is_built_in
check Build.ANewSourceOlderThanTheLibraryIsCompiled old_source_is_compiled build/facet src/base/added.cpp
check Build.ANewTestOlderThanItsProgramIsCompiled old_source_is_compiled build/tests/test_base tests/base/added_test.cpp
check Build.ANewBenchmarkOlderThanItsProgramIsCompiled old_source_is_compiled build/bench/added tests/bench/added.cpp
check Build.ANewKernelTestOlderThanItsProgramIsCompiled old_source_is_compiled build/emulated/test_kernels tests/kernels/added_test.cpp
check Build.TheProgramIsHardened is_hardened
finish
