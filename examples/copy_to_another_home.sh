#!/usr/bin/env bash
# copy_to_another_home.sh NAME DIR: give the state a name, make it again at DIR, prove that it is the same.
set -euo pipefail

gov version create "$1"
gov version clone "$1" --target "$2"    # exit 3 when the clone is not identical
gov --home "$2" verify --deep
