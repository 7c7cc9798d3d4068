#!/usr/bin/env bash
# Prints the commit of the tree it lies in: 12 digits, with -dirty behind them where a file that git knows was changed or a source was
# added; "unknown" where the tree is no repository of its own (an archive, even one unpacked within another repository).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX # of a hook that calls make

unknown() {
  echo unknown
  exit
}
within=$(git rev-parse --show-prefix 2>/dev/null) && [ -z "$within" ] || unknown
hash=$(git rev-parse --verify --short=12 HEAD 2>/dev/null) || unknown
changed=$(git --no-optional-locks status --porcelain --untracked-files=no; git ls-files --others --exclude-standard -- src kernels)
echo "$hash${changed:+-dirty}"
