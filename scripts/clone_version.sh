#!/bin/sh
# `gov version clone` under the name that first users know:
#   --lock F --target DIR [--python PY] [--skip-models] [--offline] [--wheels-dir DIR]
exec "$(dirname "$0")/../bin/gov" version clone "$@"
