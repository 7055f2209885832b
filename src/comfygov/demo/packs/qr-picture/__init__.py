"""QR codes as pictures, drawn by segno."""

from .qr import QRPicture

NODE_CLASS_MAPPINGS = {"QRPicture": QRPicture}
NODE_DISPLAY_NAME_MAPPINGS = {"QRPicture": "QR Picture"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
