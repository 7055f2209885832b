"""Which model files a workflow names: API format, UI format with subgraphs, and the prompt's embeddings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from comfygov.errors import Code, GovError
from comfygov.model.models import MODEL_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

# Input names of ComfyUI's own loaders (nodes.py, comfy_extras) and the folder that each chooses from.
_FOLDERS = {
    "ckpt_name": "checkpoints", "config_name": "configs", "lora_name": "loras", "vae_name": "vae",
    "control_net_name": "controlnet", "unet_name": "diffusion_models", "clip_name": "text_encoders",
    "clip_name1": "text_encoders", "clip_name2": "text_encoders", "clip_name3": "text_encoders",
    "clip_name4": "text_encoders", "style_model_name": "style_models", "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks", "photomaker_model_name": "photomaker",
    "audio_encoder_name": "audio_encoders", "lora": "loras", "embedding_name": "embeddings",
}  # fmt: skip
# Where the input's name is not enough, or is not in the file: the class decides.
_CLASS_FOLDERS = {
    "CheckpointLoaderSimple": "checkpoints", "CheckpointLoader": "checkpoints",
    "ImageOnlyCheckpointLoader": "checkpoints", "unCLIPCheckpointLoader": "checkpoints", "LoraLoader": "loras",
    "LoraLoaderModelOnly": "loras", "VAELoader": "vae", "ControlNetLoader": "controlnet",
    "DiffControlNetLoader": "controlnet", "UNETLoader": "diffusion_models", "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders", "TripleCLIPLoader": "text_encoders", "QuadrupleCLIPLoader": "text_encoders",
    "CLIPVisionLoader": "clip_vision", "StyleModelLoader": "style_models", "GLIGENLoader": "gligen",
    "HypernetworkLoader": "hypernetworks", "UpscaleModelLoader": "upscale_models", "PhotoMakerLoader": "photomaker",
    "AudioEncoderLoader": "audio_encoders", "ModelPatchLoader": "model_patches",
    "UnetLoaderGGUF": "diffusion_models", "UnetLoaderGGUFAdvanced": "diffusion_models",
    "CLIPLoaderGGUF": "text_encoders", "DualCLIPLoaderGGUF": "text_encoders", "TripleCLIPLoaderGGUF": "text_encoders",
    "QuadrupleCLIPLoaderGGUF": "text_encoders",
}  # fmt: skip
_EMBEDDING = re.compile(r"embedding:([^\s,:()\[\]{}<>]+)")
_MAX_DEPTH = 64
_NOTES = ("Note", "MarkdownNote")
"""Words for people: what they name, nothing loads."""


@dataclass(frozen=True)
class Named:
    """A model that a node names; `folder` is "" when any may hold it, `url` what the workflow says of its origin."""

    name: str
    node: str
    field: str
    folder: str
    url: str | None = None


def models_of(document: object) -> list[Named]:
    """Every model once for each folder, in the order of the file. Raises `bad_source` for what is no workflow."""
    if not isinstance(document, dict):
        raise _no_workflow()
    found = list(_of_ui(document) if isinstance(document.get("nodes"), list) else _of_api(document))
    first: dict[tuple[str, str], Named] = {}
    for one in found:
        known = first.setdefault((one.name, one.folder), one)
        if one.url and not known.url:
            first[one.name, one.folder] = replace(known, url=one.url)
    placed = {name for name, folder in first if folder}
    return [one for one in first.values() if one.folder or one.name not in placed]


def _of_api(document: dict[str, Any]) -> Iterator[Named]:
    document = document["prompt"] if isinstance(document.get("prompt"), dict) else document
    nodes = [node for node in document.values() if isinstance(node, dict) and "class_type" in node]
    if not nodes:
        raise _no_workflow()
    for node in nodes:
        kind = str(node["class_type"])
        inputs = node.get("inputs")
        for field, value in inputs.items() if isinstance(inputs, dict) else ():
            yield from _of_value(kind, str(field), value, 0)


def _of_ui(document: dict[str, Any]) -> Iterator[Named]:
    definitions = document.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    for graph in (document, *_dicts(subgraphs), *_group_nodes(document)):
        nodes = graph.get("nodes")
        for node in nodes if isinstance(nodes, list) else ():
            if isinstance(node, dict):
                yield from _of_ui_node(node)
    for model in _dicts(document.get("models")):
        yield from _declared(model, "workflow")


def _group_nodes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What came before subgraphs."""
    extra = document.get("extra")
    groups = extra.get("groupNodes") if isinstance(extra, dict) else None
    return _dicts(list(groups.values())) if isinstance(groups, dict) else []


def _of_ui_node(node: dict[str, Any]) -> Iterator[Named]:
    kind = str(node.get("type", ""))
    properties = node.get("properties")
    for model in _dicts(properties.get("models")) if isinstance(properties, dict) else ():
        yield from _declared(model, kind)
    if kind not in _NOTES:
        yield from _of_value(kind, "", node.get("widgets_values"), 0)


def _declared(model: dict[str, Any], node: str) -> Iterator[Named]:
    """`{name, url, directory}`, as ComfyUI's templates carry it."""
    name, url = model.get("name"), model.get("url")
    if isinstance(name, str) and name:
        yield Named(
            name.replace("\\", "/"), node, "", str(model.get("directory") or ""), url if isinstance(url, str) else None
        )


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _of_value(node: str, field: str, value: object, depth: int) -> Iterator[Named]:
    if isinstance(value, str):
        yield from _of_text(node, field, value)
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for name, inner in value.items():
            yield from _of_value(node, str(name), inner, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for inner in value:
            yield from _of_value(node, field, inner, depth + 1)


def _of_text(node: str, field: str, text: str) -> Iterator[Named]:
    # Workflows made on Windows have its separators.
    path = text.strip().replace("\\", "/")
    if path.lower().endswith(MODEL_ENDINGS) and "\n" not in path and "://" not in path:
        yield Named(path, node, field, _CLASS_FOLDERS.get(node) or _folder_of(field))
    for name in _EMBEDDING.findall(text):
        yield Named(name.replace("\\", "/").rstrip("."), node, field, "embeddings")


def _folder_of(field: str) -> str:
    """Packs with several inputs of one kind number them: `lora_name_2`, `lora_1`."""
    return _FOLDERS.get(field) or _FOLDERS.get(re.sub(r"_?\d+$", "", field), "")


def _no_workflow() -> GovError:
    return GovError(Code.BAD_SOURCE, "this is no ComfyUI workflow", "save it with Workflow > Save, or Export (API)")
