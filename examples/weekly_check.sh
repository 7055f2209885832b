#!/usr/bin/env bash
# weekly_check.sh: everything that a timer should look at; ends with 0 only when all is well.
set -uo pipefail
worst=0

check() {
  "$@" || worst=$?
}
check gov verify --deep
check gov audit --check
check gov gc
if [ -f "$COMFY_HOME/models/spec.yml" ]; then check gov models verify --offline; fi
exit "$worst"
