#!/usr/bin/env bash
# add_a_pack.sh URL: add a node pack, try it on a copy, promote it when nothing speaks against it.
set -euo pipefail
url=${1:?usage: add_a_pack.sh URL}
id=$(basename "$url" .git)

gov node add "$url"
gov tx run "$id"         # ends with 1 or 4, and this script with it, when the trial fails or nothing fits
gov tx promote "$(gov --json tx list | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["transactions"][-1]["txid"])')"
gov status
