#!/usr/bin/env bash
# The tests of scripts/to_tar.py, where a Python has pyarrow.
# usage: run.sh ; ONLY, a pattern of Suite.Name, leaves the others out; BUILD: where facet and make_tiny lie
cd "$(dirname "$0")/../.." || exit 1
if python=$(scripts/find_python.sh pyarrow); then exec "$python" -B tests/analysis/run.py tests/to_tar; fi
echo "[  SKIPPED ] ToTar.AllTests (0 ms)"
echo "facet-skip: no Python with pyarrow"
