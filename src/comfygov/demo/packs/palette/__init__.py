"""Plain colours, without any requirement."""

from .image import make_image

WEB_DIRECTORY = "./web"


class SolidColour:
    """A picture of one colour."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "paint"
    CATEGORY = "image/palette"

    @classmethod
    def INPUT_TYPES(cls):
        side = ("INT", {"default": 64, "min": 1, "max": 4096})
        level = ("INT", {"default": 128, "min": 0, "max": 255})
        return {"required": {"width": side, "height": side, "red": level, "green": level, "blue": level}}

    def paint(self, width, height, red, green, blue):
        return (make_image(width, height, bytes((red, green, blue)) * (width * height)),)


NODE_CLASS_MAPPINGS = {"SolidColour": SolidColour}
NODE_DISPLAY_NAME_MAPPINGS = {"SolidColour": "Solid Colour"}
