#!/usr/bin/env bash
# What may be done in a few named places only, because each call needs a care that is easily forgotten. Prints every line elsewhere.
#
#   opening a file   a FIFO or a device blocks its reader for ever: files of the outside world go through src/io/input_file.h
#   starting a thread   a system that refuses it throws std::system_error: through start_thread() of src/base/start_thread.h
set -euo pipefail
cd "$(dirname "$0")/.."
sources=$(find src -path src/emulated -prune -o \( -name '*.h' -o -name '*.cpp' \) -print | LC_ALL=C sort)
bad=0

# outside PATTERN FILES WHAT: lines of code that match, in files that the second pattern does not name.
outside() {
  local found
  # shellcheck disable=SC2086
  found=$(grep -nP -- "$1" $sources | grep -vE "^($2):" | grep -vE '^[^:]+:[0-9]+: *//' || true)
  [ -z "$found" ] && return
  printf '%s\n' "$found" | sed "s|\$|   <- $3|"
  bad=1
}

opens='[io]?fstream\b|\b[pf]open\(|\bfreopen\(|\bshm_open\(|\bH5Fopen\(|(^|[^\w>:])::open(at)?\(|= open\('
# The gate itself and files that this program writes; parallel HDF5; shared memory, /proc and /sys; own logs; the lock
outside "$opens" 'src/io/(input_file|file|shared_file|hdf5_file|event_file|record_store)\.cpp|src/checkpoint/collective_write\.cpp|src/comm/progress_board\.cpp|src/train/(progress_bar|loss_log|loss_plot|cores)\.cpp|src/job/(lock_file|lock_holder)\.cpp' \
  'files are opened by InputFile (src/io/input_file.h)'

# What starts a thread stands in the call of start_thread(), in its line or one of the two before.
starts='std::(async[(]|j?thread *[A-Za-z_]*[({])'
for file in $sources; do
  awk -v file="$file" -v pattern="$starts" '
    /^ *\/\// { next }
    $0 ~ pattern && $0 !~ /std::thread::/ && ($0 one two) !~ /start_thread[(]/ { print file ":" NR ":" $0 "   <- threads start in start_thread() (src/base/start_thread.h)"; bad = 1 }
    { two = one; one = $0 }
    END { exit bad }' "$file" || bad=1
done
[ "$bad" = 0 ] && echo 'files are opened and threads started in their places only'
exit "$bad"
