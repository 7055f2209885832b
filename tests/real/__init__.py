"""The life of a change on a real ComfyUI with real packs."""
