# ruff: noqa: N802, ANN401 - the shape of node classes is given by ComfyUI
"""The core nodes of the stand-in and the tables every node ends up in."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any, ClassVar

import folder_paths
from comfy import model_management
from comfy.cli_args import args
from comfy.picture import Picture, decode_png, encode_png

MAX_RESOLUTION = 16384
Inputs = dict[str, Any]
Images = list[Picture]


def interrupt_processing(value: bool = True) -> None:  # noqa: FBT001, FBT002 - the signature nodes call
    """Ask the running prompt to stop, or take that back."""
    model_management.interrupt_current_processing(value)


def before_node_execution() -> None:
    """Stop here if the user asked for it."""
    model_management.throw_exception_if_processing_interrupted()


class EmptyImage:
    """One colour all over."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """Size, number and colour."""
        side = ("INT", {"default": 512, "min": 1, "max": MAX_RESOLUTION, "step": 1})
        color = ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF, "step": 1, "display": "color"})
        batch = ("INT", {"default": 1, "min": 1, "max": 4096})
        return {"required": {"width": side, "height": side, "batch_size": batch, "color": color}}

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> tuple[Images]:
        """Make them."""
        return ([Picture.filled(width, height, color)] * batch_size,)


class ImageInvert:
    """The negative."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "invert"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """An image."""
        return {"required": {"image": ("IMAGE",)}}

    def invert(self, image: Images) -> tuple[Images]:
        """Invert it."""
        return ([picture.inverted() for picture in image],)


class ImageScaleBy:
    """Resized by a factor; the stand-in always takes the nearest pixel."""

    upscale_methods: ClassVar[list[str]] = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "upscale"
    CATEGORY = "image/upscaling"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """An image, a method and a factor."""
        factor = ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0, "step": 0.01})
        return {"required": {"image": ("IMAGE",), "upscale_method": (cls.upscale_methods,), "scale_by": factor}}

    def upscale(self, image: Images, upscale_method: str, scale_by: float) -> tuple[Images]:  # noqa: ARG002
        """Scale it."""
        return ([p.scaled(max(1, round(p.width * scale_by)), max(1, round(p.height * scale_by))) for p in image],)


class SaveImage:
    """Writes PNG files into the output directory."""

    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    DESCRIPTION = "Saves the input images to your ComfyUI output directory."

    def __init__(self) -> None:
        self.output_dir = folder_paths.get_output_directory()
        self.type = "output"
        self.prefix_append = ""
        self.compress_level = 4

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """Images and the beginning of the file name."""
        prefix = ("STRING", {"default": "ComfyUI", "tooltip": "The prefix for the file to save."})
        images = ("IMAGE", {"tooltip": "The images to save."})
        hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        return {"required": {"images": images, "filename_prefix": prefix}, "hidden": hidden}

    def save_images(
        self, images: Images, filename_prefix: str = "ComfyUI", prompt: Any = None, extra_pnginfo: Any = None
    ) -> Inputs:
        """Write them and say where."""
        folder, filename, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix + self.prefix_append, self.output_dir, images[0].width, images[0].height
        )
        notes = self._notes(prompt, extra_pnginfo)
        results = []
        for number, picture in enumerate(images):
            name = f"{filename.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            Path(folder, name).write_bytes(encode_png(picture, notes, self.compress_level))
            results.append({"filename": name, "subfolder": subfolder, "type": self.type})
        return {"ui": {"images": results}}

    def _notes(self, prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
        if args.disable_metadata:
            return {}
        notes = {"prompt": json.dumps(prompt)} if prompt is not None else {}
        return notes | {key: json.dumps(value) for key, value in (extra_pnginfo or {}).items()}


class PreviewImage(SaveImage):
    """Writes PNG files into the temp directory."""

    def __init__(self) -> None:
        super().__init__()
        self.output_dir = folder_paths.get_temp_directory()
        self.type = "temp"
        self.prefix_append = "_temp_" + "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5))
        self.compress_level = 1

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """Images."""
        hidden = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        return {"required": {"images": ("IMAGE",)}, "hidden": hidden}


class LoadImage:
    """Reads a PNG file from the input directory."""

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """One of the files there."""
        entries = [entry.name for entry in Path(folder_paths.get_input_directory()).iterdir() if entry.is_file()]
        files = sorted(folder_paths.filter_files_content_types(entries, ["image"]))
        return {"required": {"image": (files, {"image_upload": True})}}

    def load_image(self, image: str) -> tuple[Images, bytes]:
        """Read it; the mask is the inverted alpha channel."""
        picture, alpha = decode_png(Path(folder_paths.get_annotated_filepath(image)).read_bytes())
        return [picture], bytes(64 * 64) if alpha is None else bytes(255 - value for value in alpha)

    @classmethod
    def IS_CHANGED(cls, image: str) -> str:
        """The hash of the file, so that another file under the same name is another input."""
        return hashlib.sha256(Path(folder_paths.get_annotated_filepath(image)).read_bytes()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        """The file must be there."""
        if not folder_paths.exists_annotated_filepath(image):
            return f"Invalid image file: {image}"
        return True


class CheckpointLoaderSimple:
    """Finds a checkpoint; the stand-in loads nothing."""

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load_checkpoint"
    CATEGORY = "loaders"
    DESCRIPTION = "Loads a diffusion model checkpoint."

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """One of the checkpoints there."""
        names = folder_paths.get_filename_list("checkpoints")
        return {"required": {"ckpt_name": (names, {"tooltip": "The name of the checkpoint (model) to load."})}}

    def load_checkpoint(self, ckpt_name: str) -> tuple[str, str, str]:
        """The path of the file, three times."""
        path = folder_paths.get_full_path_or_raise("checkpoints", ckpt_name)
        return path, path, path


NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "EmptyImage": EmptyImage,
    "ImageInvert": ImageInvert,
    "ImageScaleBy": ImageScaleBy,
    "SaveImage": SaveImage,
    "PreviewImage": PreviewImage,
    "LoadImage": LoadImage,
    "CheckpointLoaderSimple": CheckpointLoaderSimple,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "ImageInvert": "Invert Image",
    "ImageScaleBy": "Upscale Image By",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
    "LoadImage": "Load Image",
    "CheckpointLoaderSimple": "Load Checkpoint",
}
EXTENSION_WEB_DIRS: dict[str, str] = {}
LOADED_MODULE_DIRS: dict[str, str] = {}
