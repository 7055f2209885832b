#!/bin/sh
# `gov version remove` under the name that first users know: --target DIR [--yes] [--remove-models] [--dry-run]
exec "$(dirname "$0")/../bin/gov" version remove "$@"
