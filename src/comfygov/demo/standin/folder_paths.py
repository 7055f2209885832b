# ruff: noqa: PLW0603, FBT001, FBT002 - module state and signatures that node packs rely on
"""Where models, inputs, outputs and packs live; the stand-in's copy of the interface nodes use."""

from __future__ import annotations

import contextlib
import logging
import mimetypes
import os
import time
from pathlib import Path

from comfy.cli_args import args

log = logging.getLogger("comfyui")
supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}
base_path = str(Path(args.base_directory).absolute() if args.base_directory else Path(__file__).resolve().parent)
models_dir = str(Path(base_path, "models"))
OUTSIDE = "**** ERROR: Saving image outside the output folder is not allowed."
LEGACY = {"unet": "diffusion_models", "clip": "text_encoders"}
SEVERAL = {
    "text_encoders": ["text_encoders", "clip"],
    "diffusion_models": ["unet", "diffusion_models"],
    "controlnet": ["controlnet", "t2i_adapter"],
}
KINDS = [
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "custom_nodes",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
]
EXTENSIONS = {"configs": {".yaml"}, "diffusers": {"folder"}, "classifiers": {""}, "custom_nodes": set[str]()}


def _register(kind: str) -> None:
    folders = [str(Path(models_dir, name)) for name in SEVERAL.get(kind, [kind])]
    if kind == "custom_nodes":
        folders = [str(Path(base_path, "custom_nodes"))]
    folder_names_and_paths[kind] = (folders, EXTENSIONS.get(kind, supported_pt_extensions))


for _kind in KINDS:
    _register(_kind)

output_directory = str(Path(base_path, "output"))
temp_directory = str(Path(base_path, "temp"))
input_directory = str(Path(base_path, "input"))
user_directory = str(Path(base_path, "user"))

if not Path(input_directory).exists():
    try:
        Path(input_directory).mkdir(parents=True)
    except OSError:
        log.error("Failed to create input directory")  # noqa: TRY400 - one line, like the real program


def set_output_directory(output_dir: str) -> None:
    """Use another output directory."""
    global output_directory
    output_directory = output_dir


def set_temp_directory(temp_dir: str) -> None:
    """Use another temp directory."""
    global temp_directory
    temp_directory = temp_dir


def set_input_directory(input_dir: str) -> None:
    """Use another input directory."""
    global input_directory
    input_directory = input_dir


def set_user_directory(user_dir: str) -> None:
    """Use another user directory."""
    global user_directory
    user_directory = user_dir


def get_output_directory() -> str:
    """Where results go."""
    return output_directory


def get_temp_directory() -> str:
    """Where previews go."""
    return temp_directory


def get_input_directory() -> str:
    """Where uploads go."""
    return input_directory


def get_user_directory() -> str:
    """Where settings live."""
    return user_directory


def get_directory_by_type(type_name: str | None) -> str | None:
    """The directory that /view and /upload call by this name."""
    directories = {"output": output_directory, "temp": temp_directory, "input": input_directory}
    return directories.get(type_name or "")


def filter_files_content_types(files: list[str], content_types: list[str]) -> list[str]:
    """The files whose name says that they are images, videos, ..."""

    def kind(name: str) -> str:
        guessed = mimetypes.guess_type(name, strict=False)[0] or ""
        return "image" if name.endswith(".webp") else guessed.split("/")[0]

    return [name for name in files if kind(name) in content_types]


def annotated_filepath(name: str) -> tuple[str, str | None]:
    """Split `x.png [output]` into the name and the directory it speaks of."""
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 3], get_directory_by_type(kind)
    return name, None


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """The path of an input, perhaps annotated with another directory."""
    name, base = annotated_filepath(name)
    return str(Path(base or default_dir or input_directory, name))


def exists_annotated_filepath(name: str) -> bool:
    """Say whether there is such an input."""
    return Path(get_annotated_filepath(name)).exists()


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    """Search one more folder for this kind of model, first if it is the default one."""
    kind = LEGACY.get(folder_name, folder_name)
    paths = folder_names_and_paths.setdefault(kind, ([], set()))[0]
    if full_folder_path in paths and not is_default:
        return
    if full_folder_path in paths:
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders searched for this kind."""
    return list(folder_names_and_paths[LEGACY.get(folder_name, folder_name)][0])


def _walk(folder: str) -> list[str]:
    found = []
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if name != ".git"]
        found += [os.path.relpath(Path(parent, name), folder) for name in names]
    return found


def get_filename_list(folder_name: str) -> list[str]:
    """The models of this kind, relative to their folders, sorted."""
    folders, extensions = folder_names_and_paths[LEGACY.get(folder_name, folder_name)]
    names = {name for folder in folders for name in _walk(folder)}
    return sorted(name for name in names if not extensions or Path(name).suffix.lower() in extensions)


def get_full_path(folder_name: str, filename: str) -> str | None:
    """The first file of that name, or None."""
    kind = LEGACY.get(folder_name, folder_name)
    inside = os.path.relpath(Path("/", filename), "/")
    for folder in folder_names_and_paths.get(kind, ([], set()))[0]:
        if Path(folder, inside).is_file():
            return str(Path(folder, inside))
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    """The first file of that name."""
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"Model in folder '{folder_name}' with filename '{filename}' not found.")
    return path


def _fill_in(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
    }
    values |= {"day": f"{now.tm_mday:02}", "hour": f"{now.tm_hour:02}"}
    values |= {"minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}"}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def _next_counter(folder: Path, filename: str) -> int:
    highest = 0
    for entry in folder.iterdir():
        if entry.name.startswith(filename + "_"):
            with contextlib.suppress(ValueError):
                highest = max(highest, int(entry.name[len(filename) + 1 :].split("_")[0]))
    return highest + 1


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """Where the next file of this prefix goes: folder, name, counter, subfolder, prefix."""
    prefix = _fill_in(filename_prefix, image_width, image_height)
    subfolder, filename = os.path.split(os.path.normpath(prefix))
    folder = Path(os.path.abspath(Path(output_dir, subfolder)))  # noqa: PTH100 - `..` must be folded
    if os.path.commonpath((output_dir, folder)) != output_dir:
        message = f"{OUTSIDE}\n full_output_folder: {folder}\n         output_dir: {output_dir}"
        log.error(message)
        raise Exception(message)  # noqa: TRY002 - the type that callers of the real program see
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder), filename, _next_counter(folder, filename), subfolder, prefix
