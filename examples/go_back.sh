#!/usr/bin/env bash
# go_back.sh SNAPSHOT: show what lies between, go there, hold everything against it. `gov snapshot list` names them.
set -euo pipefail
there=${1:?usage: go_back.sh SNAPSHOT}
here=$(gov --json status | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["head"])')

gov snapshot diff "$here" "$there"
gov rollback "$there" --reason "the newest change was no good"
gov verify
