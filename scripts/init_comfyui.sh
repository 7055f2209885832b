#!/bin/sh
# `gov init` under the name that first users know:
#   --path DIR --repo URL --ref REF --venv PATH --install-torch BUILD --python PY
# Afterwards: source "$COMFY_HOME/.venv/bin/activate" && python "$COMFY_HOME/ComfyUI/main.py"
exec "$(dirname "$0")/../bin/gov" init "$@"
