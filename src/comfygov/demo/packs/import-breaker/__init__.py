"""A node pack that uses a module it never declared: its import fails, the server starts all the same."""

import a_module_nobody_declared


class Dream:
    """Never loaded."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "dream"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def dream(self, image):
        return (a_module_nobody_declared.dream(image),)


NODE_CLASS_MAPPINGS = {"DemoDream": Dream}
