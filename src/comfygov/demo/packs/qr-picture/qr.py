"""One node: text in, picture out."""

import segno

from .image import make_image


class QRPicture:
    """Draws a text as a QR code, black on white."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "draw"
    CATEGORY = "image/qr"
    DESCRIPTION = "A QR code of the text."

    @classmethod
    def INPUT_TYPES(cls):
        text = ("STRING", {"default": "https://example.org", "multiline": False})
        scale = ("INT", {"default": 8, "min": 1, "max": 64})
        return {"required": {"text": text, "scale": scale}}

    def draw(self, text, scale):
        code = segno.make(text, micro=False)
        width, height = code.symbol_size(scale=scale)
        dark, light = b"\x00\x00\x00", b"\xff\xff\xff"
        rows = [b"".join(dark if cell else light for cell in row) for row in code.matrix_iter(scale=scale)]
        return (make_image(width, height, b"".join(rows)),)
