#!/usr/bin/env bash
# Installs the program that is built, or removes what was installed. It builds nothing, and needs no root for a PREFIX of one's own.
# usage: [PREFIX=/usr/local] [DESTDIR=] [BUILD=build] install.sh install|uninstall
#
# DESTDIR stands before every path that is written and in no file. What is installed finds its own parts by their places relative
# to each other, so PREFIX can be moved. PREFIX/share/facet/installed_files lists what was written, relative to PREFIX;
# share/facet/slurm/site.env, which a site edits, is kept when it differs from site.env.example, as which it was installed.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
build=${BUILD:-build}
top=${DESTDIR:-}${PREFIX:-/usr/local}
list=share/facet/installed_files
site=share/facet/slurm/site.env
written=()

stop() {
  echo "error: $*" >&2
  exit 1
}

# put SOURCE PATH MODE: as a new file, which takes the old one's name: running programs keep theirs.
put() {
  local target=$top/$2
  mkdir -p "$(dirname "$target")"
  rm -f "$target.partial-"*
  install -m "$3" "$1" "$target.partial-$$"
  mv -f "$target.partial-$$" "$target"
  written+=("$2")
}
# put_all PATH FILE...: below PATH, by the names that they have in this tree without the first $strip directories
put_all() {
  local path=$1 file mode
  shift
  for file in "$@"; do
    mode=644
    if [ -x "$file" ]; then mode=755; fi
    put "$file" "$path/$(cut -d / -f "$((strip + 1))-" <<<"$file")" "$mode"
  done
}
# generated PATH COMMAND...: what the command prints
generated() {
  "${@:2}" >"$scratch/text" || stop "this fails: ${*:2}"
  put "$scratch/text" "$1" 644
}

put_programs() {
  put "$build/facet" bin/facet 755
  put "$build/make_tiny" bin/facet-make-tiny 755
}
put_what_the_program_tells() {
  generated share/man/man1/facet.1 "$build/facet" --man
  generated share/bash-completion/completions/facet "$build/facet" --completion
}
put_scripts() {
  local scripts
  strip=1
  mapfile -t scripts < <(find scripts/analysis -name '*.py' 2>/dev/null)
  put_all share/facet/scripts scripts/check_checkpoint.py scripts/check_export.py \
    scripts/compare_checkpoints.sh scripts/to_tar.py scripts/arrow_tables.py "${scripts[@]}"
}
put_documentation() {
  local pages
  strip=0
  mapfile -t pages < <(find docs -type f)
  put_all share/doc/facet README.md CONTRIBUTING.md data/README.md tests/kernels/README.md "${pages[@]}"
}
put_modulefile() {
  local version
  version=$("$build/facet" --version | awk 'NR == 1 { print $2 }')
  [ -n "$version" ] || stop "$build/facet --version names no version"
  put packaging/modulefile "share/modulefiles/facet/$version" 644
}

# site.env is the site's as soon as it is edited.
unedited() { [ ! -e "$top/$site" ] || cmp -s "$top/$site" "$top/$site.example"; }
put_job_scripts() {
  local files file edited=1
  strip=0
  mapfile -t files < <(find slurm -type f ! -name site.env)
  put_all share/facet "${files[@]}"
  sed 's|^FACET=.*|FACET=$FACET_SLURM/../../../bin/facet|' slurm/site.env >"$scratch/site.env"
  if unedited; then edited=0; fi
  put "$scratch/site.env" "$site.example" 644
  if [ "$edited" = 0 ]; then
    put "$scratch/site.env" "$site" 644
    unset 'written[-1]' # uninstall asks again whether it was edited
  elif ! cmp -s "$scratch/site.env" "$top/$site"; then
    echo "kept: $top/$site, which was edited; as it comes it is site.env.example beside it"
  fi
}

# What an older version has installed and this one has not.
remove_leftovers() {
  local path
  [ -e "$top/$list" ] || return 0
  while IFS= read -r path; do rm -f "$top/$path"; done < <(printf '%s\n' "${written[@]}" "${written[@]}" "$list" "$list" |
    sort - "$top/$list" | uniq -u)
}

install_all() {
  local file
  for file in "$build/facet" "$build/make_tiny"; do
    [ -x "$file" ] || stop "$file is not there: run make $file first"
  done
  mkdir -p "$top" 2>/dev/null && [ -w "$top" ] || stop "$top cannot be written: choose another with PREFIX=, or become root"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  put_what_the_program_tells # first: it fails where the program does not start
  put_programs
  put_scripts
  put_documentation
  put_modulefile
  put_job_scripts
  remove_leftovers
  generated "$list" printf '%s\n' "${written[@]}" "$list"
  echo "installed in $top: bin/facet; job scripts, man page, documentation and modulefile in share"
}

uninstall_all() {
  local path
  [ -e "$top/$list" ] || stop "$top/$list is not there: nothing is installed in $top"
  if unedited; then rm -f "$top/$site"; else echo "kept: $top/$site, which was edited"; fi
  while IFS= read -r path; do rm -f "$top/$path"; done <"$top/$list"
  for path in share/facet share/doc/facet share/modulefiles/facet; do
    if [ -d "$top/$path" ]; then find "$top/$path" -depth -type d -empty -delete; fi
  done
  echo "uninstalled from $top"
}

case ${1:-} in
  install) install_all ;;
  uninstall) uninstall_all ;;
  *) stop "usage: [PREFIX=/usr/local] [DESTDIR=] [BUILD=build] install.sh install|uninstall" ;;
esac
