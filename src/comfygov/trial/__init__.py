"""A run of the real ComfyUI with a change: private tree, sandbox, health, gates."""
