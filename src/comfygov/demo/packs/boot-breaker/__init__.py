"""A node that promises sharper pictures. In the demo its part is to end the start of ComfyUI."""

import sys

import segno

NEEDED = (99, 0)


def check():
    """Gives up the whole process: SystemExit is no Exception, so nobody catches it."""
    have = tuple(int(part) for part in segno.__version__.split(".")[:2])
    if have < NEEDED:
        sys.exit(f"boot-breaker: segno {segno.__version__} is too old, {NEEDED[0]}.{NEEDED[1]} is needed")


check()


class Sharpen:
    """Never seen by anybody."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "sharpen"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def sharpen(self, image):
        return (image,)


NODE_CLASS_MAPPINGS = {"DemoSharpen": Sharpen}
NODE_DISPLAY_NAME_MAPPINGS = {"DemoSharpen": "Sharpen (demo)"}
