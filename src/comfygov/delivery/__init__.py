"""The handler: jobs in, artifacts out, with a ComfyUI that it starts and supervises."""
