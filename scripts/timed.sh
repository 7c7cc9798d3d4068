#!/usr/bin/env bash
# Runs a command and appends the CPU seconds that it took to a log. usage: timed.sh LOG NAME COMMAND...
log=$1 name=$2
shift 2
exec 3>&1 4>&2
TIMEFORMAT='%U %S'
spent=$({ time "$@" >&3 2>&4; } 2>&1)
code=$?
echo "$name $spent" >>"$log"
exit $code
