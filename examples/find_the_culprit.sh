#!/usr/bin/env bash
# find_the_culprit.sh BAD GOOD MODULE: which change between two snapshots made MODULE stop importing?
# Production is only read. A workflow.json in place of the command would be run by a real ComfyUI of each state.
set -euo pipefail

gov bisect start "$1" "$2" -- python -c "import $3"
