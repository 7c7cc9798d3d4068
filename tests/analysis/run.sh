#!/usr/bin/env bash
# The tests of scripts/analysis, with the first Python that has what they need: $PYTHON, python3, or the distribution's.
# usage: run.sh ; ONLY, a pattern of Suite.Name, leaves the others out; BUILD: where facet and make_tiny lie
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
for python in "${PYTHON:-}" python3 /usr/bin/python3; do
  if [ -n "$python" ] && "$python" -c 'import pandas, matplotlib' 2>/dev/null; then
    exec "$python" -B tests/analysis/run.py
  fi
done
echo "[  SKIPPED ] Analysis.AllTests (0 ms)"
echo "facet-skip: no Python with pandas and matplotlib (packages python3-pandas and python3-matplotlib)"
