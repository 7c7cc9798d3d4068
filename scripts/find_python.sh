#!/usr/bin/env bash
# Prints the first Python that can load all the named modules: $PYTHON, python3, the distribution's. Fails where none can.
# usage: find_python.sh MODULE...
for python in "${PYTHON:-}" python3 /usr/bin/python3; do
  if [ -n "$python" ] && "$python" -c "import $(IFS=, && echo "$*")" 2>/dev/null; then
    echo "$python"
    exit 0
  fi
done
exit 1
