#!/usr/bin/env bash
# What `make install` puts where, and that it works there and after it was moved: run path, job scripts, modulefile, completion,
# manual page, first steps of a newcomer. The program is installed as it is built.
# quick
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
tree=$PWD

# into PREFIX [DESTDIR]: quietly
into() { PREFIX=$1 DESTDIR=${2:-} scripts/install.sh install >"$output" 2>&1 || { cat "$output"; fail "not installed into $1"; }; }
out_of() { PREFIX=$1 DESTDIR=${2:-} scripts/install.sh uninstall >"$output" 2>&1 || { cat "$output"; fail "not uninstalled"; }; }
none_contains() { # TEXT DIRECTORY
  if grep -rlaF -- "$1" "$2" >"$output"; then
    cat "$output"
    fail "$1 stands in these files"
  fi
}

python_files() { find "$1" -name '*.py' 2>/dev/null | wc -l; }
staged() {
  local path version
  version=$("$facet" --version | awk 'NR == 1 { print $2 }')
  into /apps/facet "$work/stage"
  for path in bin/facet bin/facet-make-tiny share/man/man1/facet.1 share/bash-completion/completions/facet \
    share/facet/slurm/{site.env,train.sbatch,job.sh,chain.sh} \
    share/facet/scripts/{analysis/plot_runs,check_checkpoint,to_tar,arrow_tables}.py \
    share/doc/facet/README.md share/doc/facet/docs/running.md "share/modulefiles/facet/$version"; do
    [ -s "$work/stage/apps/facet/$path" ] || fail "$path is missing"
  done
  [ -x "$work/stage/apps/facet/share/facet/slurm/chain.sh" ]
  [ "$(python_files scripts/analysis)" = "$(python_files "$work/stage/apps/facet/share/facet/scripts/analysis")" ]
  [ -z "$(find "$work/stage" ! -type d ! -perm -444 -o -type d ! -perm -555)" ] || fail 'others cannot read it'
  none_contains "$work" "$work/stage"
}

# Neither what the program says nor its debug information names the directory that it was built in.
without_the_builder() {
  into "$work/built"
  none_contains "$tree" "$work/built"
}

# A prefix with a blank, moved, without LD_LIBRARY_PATH, and away from the tree.
moved() {
  into "$work/first place"
  mv "$work/first place" "$work/second place"
  cd /
  unset LD_LIBRARY_PATH
  run 0 0 "$work/second place/bin/facet" --version
  once 'facet '
  run 0 0 "$work/second place/bin/facet" train "${model[@]}" "${data[@]}" --dry_run
  # shellcheck disable=SC2016
  run 0 0 bash -c '. "$1/site.env"; [ "$FACET_SLURM" = "$1" ]; "$FACET" --version' - "$work/second place/share/facet/slurm"
  once 'facet '
  run 66 0 env -u FACET_SLURM SLURM_SUBMIT_DIR=/nowhere bash "$work/second place/share/facet/slurm/train.sbatch" --output_dir out
  once 'or source site.env, before sbatch'
}

# What readelf calls RUNPATH, so that LD_LIBRARY_PATH comes first.
run_path() {
  readelf -d "$1" >"$output"
  sed -n 's/.*(RUNPATH).*\[\(.*\)\]/\1/p' "$output"
}
own_libraries_come_first() {
  [[ $(run_path "$facet") == '$ORIGIN/../lib/facet'* ]] || { cat "$output"; fail 'a library in lib/facet is not found'; }
  [[ :$(run_path "$facet"): != *:"$tree"* ]] || fail 'the run path leads into the tree'
}
# Libraries where config.mk has them, outside the system: by default where the linker has found them.
outside_libraries() {
  local nowhere=$work/nowhere
  unset RPATH
  # Without the config.mk of this site.
  link() {
    grep -v config.mk Makefile | make -f - -n FACET_CUDA=none BUILD="$nowhere" "$@" "$nowhere/facet" 2>&1 |
      grep -F -- "-o $nowhere/facet " >"$output"
  }
  link LDFLAGS=-L/apps/onednn/lib HDF5_LIBS='-L/usr/lib/hdf5 -L/apps/hdf5/lib -lhdf5'
  once '-Wl,-rpath,/apps/onednn/lib -Wl,-rpath,/apps/hdf5/lib '
  never 'rpath,/usr/lib'
  link LDFLAGS=-L/apps/onednn/lib RPATH=
  never 'rpath,/apps'
  link LDFLAGS=-L/apps/onednn/lib RPATH=/opt/lib
  once "-Wl,-rpath,'\$ORIGIN/../lib/facet'"
  once '-Wl,-rpath,/opt/lib '
}

site_settings_are_kept() {
  local site=$work/site/share/facet/slurm/site.env
  into "$work/site"
  into "$work/site"
  [ "$(find "$work/site" -name 'site.env*' | wc -l)" = 2 ]
  never kept
  echo 'export SBATCH_PARTITION=gpu' >>"$site"
  into "$work/site"
  once "kept: $site"
  grep -q SBATCH_PARTITION=gpu "$site"
  diff "$site.example" <(grep -v '^export SBATCH_PARTITION=gpu' "$site")
  out_of "$work/site"
  [ "$(find "$work/site" -type f)" = "$site" ] || fail 'more or less than the edited file is left'
}

nothing_is_left() {
  into "$work/gone"
  mkdir -p "$work/gone/share/man/man1"
  echo mine >"$work/gone/bin/mine"
  # What only an older version had.
  echo old >"$work/gone/share/facet/old"
  echo share/facet/old >>"$work/gone/share/facet/installed_files"
  into "$work/gone"
  [ ! -e "$work/gone/share/facet/old" ] || fail 'a file of an older version is left'
  out_of "$work/gone"
  [ "$(find "$work/gone" -type f)" = "$work/gone/bin/mine" ] || fail "left: $(find "$work/gone" -type f)"
  [ ! -e "$work/gone/share/facet" ]
  refused_uninstall
}
refused_uninstall() {
  if PREFIX=$work/gone scripts/install.sh uninstall >"$output" 2>&1; then fail 'there was nothing to uninstall'; fi
  once 'nothing is installed'
}

# What both Environment Modules and Lmod ask of a Tcl interpreter, by stand-ins.
modulefile() {
  local file
  into "$work/m"
  mv "$work/m" "$work/modules here"
  file=$(echo "$work/modules here"/share/modulefiles/facet/*)
  ln -s "$file" "$work/linked"
  cat >"$work/module.tcl" <<'TCL'
proc module-whatis {text} {puts "whatis $text"}
proc conflict {name} {puts "conflict $name"}
proc prepend-path {name path} {puts "prepend $name $path"}
proc setenv {name value} {puts "setenv $name $value"}
set ModulesCurrentModulefile [lindex $argv 0]
source $ModulesCurrentModulefile
ModulesHelp
TCL
  for file in "$file" "$work/linked"; do
    run 0 0 env -u MANPATH tclsh "$work/module.tcl" "$file"
    once "prepend PATH $work/modules here/bin"
    once "setenv FACET_SLURM $work/modules here/share/facet/slurm"
    never 'prepend MANPATH'
  done
  run 0 0 env MANPATH=/usr/man tclsh "$work/module.tcl" "$file"
  once "prepend MANPATH $work/modules here/share/man"
  cp "$file" "$work/copied"
  run 1 0 tclsh "$work/module.tcl" "$work/copied"
  once 'link to it'
}

# complete WORD...: what bash offers for the last word, a line each, into $output
complete_words() {
  # shellcheck disable=SC2016
  "$facet" --completion >"$work/completion"
  # shellcheck disable=SC2016
  bash -c 'set -u; . "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _facet facet "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf "%s\n" "${COMPREPLY[@]}"' - "$work/completion" "$@" >"$output" 2>&1
}
offered() { # WORDS_OFFERED WORD...
  local expected=$1
  shift
  complete_words "$@"
  diff <(sort "$output" | grep .) <(tr ' ' '\n' <<<"$expected" | sort | grep .) || fail "not '$expected' after $*"
}
completion() {
  offered 'train evaluate generate chat plan data-stats bandwidth cache-features export inspect --help --version --man --completion' facet ''
  offered 'plan' facet p
  offered '--num_answers' facet generate --num_an
  offered '' facet train --num_an
  offered 'cpu cuda' facet train --device ''
  offered 'cuda' facet train --device = cu
  offered 'cpu cuda' facet train --device =
  offered '0 1 2 3' facet plan --zero_stage ''
  offered 'minigpt4' facet train --dataset_names coco_caption mini
  offered '--data_config --data_path --data_train_split_ratio' facet evaluate --dataset_names coco_caption --data_
  offered 'true' facet train --dry_run t
  offered '--precision' facet train --config a --dry_run --prec
  offered '' facet train --precision bf16 --prec
  offered '--config' facet train --config a --conf
  offered '' facet train --learning_rate ''
  mkdir -p "$work/paths/a dir"
  touch "$work/paths/a file.cfg"
  cd "$work/paths"
  complete_words facet train --config a
  diff <(sort "$output") <(printf 'a dir\na file.cfg\n')
  complete_words facet train --output_dir a
  diff "$output" <(echo 'a dir')
  complete_words facet inspect ''
  diff "$output" <(echo 'a dir')
}

# Each option of each command's --help is offered, and no other.
completion_is_the_help() {
  local command
  for command in train evaluate generate plan data-stats; do
    complete_words facet "$command" --
    diff <(sort "$output") <({ "$facet" "$command" --help | grep -oE '^  --[a-z0-9_]+' | xargs -n 1 && echo --help; } | sort)
  done
}

manual() {
  "$facet" --man >"$work/facet.1"
  # The exit codes that it lists are those of the documentation.
  diff <(sed -n '/^\.SH EXIT/,/^\.PP/ s/^\\fB\([0-9]*\)\\fR/\1/p' "$work/facet.1" | sort -n | grep -vx 1) \
    <(sed -n '/^## Exit codes/,/^## Hangs/ s/^| \([0-9]*\) |.*/\1/p' docs/running.md | sort -n)
}
typeset_manual() {
  "$facet" --man | groff -man -ww -Tascii 2>&1 >"$work/page" | tee "$output"
  [ ! -s "$output" ] || fail 'groff warns'
  sed 's/.\x08//g; s/\x1b\[[0-9;]*m//g' "$work/page" >"$work/plain"
  grep -q -- '--lm_model_name_or_path DIR' "$work/plain"
}

# The command lines that --help shows a newcomer are run as they stand there.
first_steps() {
  into "$work/first"
  mkdir "$work/new"
  cd "$work/new"
  PATH=$work/first/bin:$PATH
  facet | sed -n '/^First steps/,/^  facet COMMAND/p' | sed '1d; $d' >"$work/steps"
  [ "$(grep -c facet "$work/steps")" -ge 4 ]
  timeout 300 bash -e "$work/steps" >"$output" 2>&1 || { tail -n 30 "$output"; fail 'a first step fails'; }
  [ "$(wc -l <answers.csv)" -gt 2 ]
  "$facet" --help | grep -qF "mpirun -n 2 $facet train"
  "$facet" | grep -qF "$BUILD/make_tiny --output"
}

help_is_found() {
  local words
  for words in '' --help -h help; do
    # shellcheck disable=SC2086
    run 0 0 "$facet" $words
    once 'First steps'
  done
  for words in 'train --help' 'train -h' 'help train' '--help train'; do
    # shellcheck disable=SC2086
    run 0 0 "$facet" $words
    once "facet train --name value"
  done
  run 0 0 "$facet" help inspect
  once 'usage: facet inspect'
  refused 64 0 'did you mean facet train?' "$facet" trian --dry_run
  refused 64 0 'the command is missing: facet COMMAND --dry_run' "$facet" --dry_run
}

# What the packaging recipes take from the tree and from the distribution is what there is.
recipes() {
  local parts part package
  sed -n '/^%post/,/^%/p' packaging/apptainer/facet.def | grep -v '^%' | bash -n
  parts=$(git ls-files 2>/dev/null | sed -n 's|^\([^./][^/]*\).*|\1|p' | sort -u)
  [ -n "$parts" ] || parts=$(ls -d Makefile *.md [a-z]*/ | tr -d / | grep -vx build) # no git here
  for part in $parts; do
    grep -qE "^  *$part /" packaging/apptainer/facet.def || fail "the container is built without $part"
  done
  scripts/install_deps.sh list | grep -E '^lib|^zlib' | grep -v gtest | while read -r package; do
    grep -qE "^    depends_on\(.*# $package\$" packaging/spack/packages/facet/package.py ||
      fail "Spack's recipe does not have $package"
  done
}

check Install.StagedFilesAreCompleteAndNameNoStage staged
check Install.TheBuildersDirectoryIsInNoFile without_the_builder
check Install.AMovedInstallationWorks moved
check Install.OwnLibrariesComeFirst own_libraries_come_first
check Install.LibrariesOutsideTheSystemAreFound outside_libraries
check Install.AnEditedSiteFileIsKept site_settings_are_kept
check Install.UninstallLeavesNothing nothing_is_left
# with TOOL PACKAGE Suite.Name function: where the tool is missing, the case is skipped.
with() {
  if command -v "$1" >/dev/null; then
    check "${@:3}"
  else
    echo "facet-skip: no $1 (package $2)"
    echo "[  SKIPPED ] $3 (0 ms)"
  fi
}
with tclsh tcl Install.TheModulefileFindsItsInstallation modulefile
with groff groff-base Install.TheManualPageIsTypesetWithoutWarnings typeset_manual
check Install.CompletionOfWords completion
check Install.CompletionIsTheHelp completion_is_the_help
check Install.ManualPage manual
check Install.HelpIsFound help_is_found
check Install.FirstStepsOfTheHelpWork first_steps
check Install.RecipesHaveAllTheyNeed recipes
finish
