#!/usr/bin/env bash
# The tests of scripts/analysis, where a Python has what they need.
# usage: run.sh ; ONLY, a pattern of Suite.Name, leaves the others out; BUILD: where facet and make_tiny lie
cd "$(dirname "$0")/../.." || exit 1
if python=$(scripts/find_python.sh pandas matplotlib); then exec "$python" -B tests/analysis/run.py; fi
echo "[  SKIPPED ] Analysis.AllTests (0 ms)"
echo "facet-skip: no Python with pandas and matplotlib (packages python3-pandas and python3-matplotlib)"
