"""The demo: a stand-in for ComfyUI, node packs and workflows, and the trees made of them."""
