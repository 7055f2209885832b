"""What a safetensors file says of itself, without loading a tensor, and whether that fits the file.

Format: 8 bytes little-endian length, JSON header of at most 100 MB, then the tensors without gaps
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.model.models import SAFETENSORS, SafetensorsFacts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MAX_HEADER_BYTES = 32_000_000
_MAX_TENSORS = 100_000
"""The format allows 100 MB. Real headers have a few MB at most, and one made to be large would cost a GB of memory."""
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8,
    "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_MAX_VALUE_LENGTH = 200
_KEPT = ("modelspec.", "ss_base_model", "ss_network_module", "ss_network_dim", "ss_output_name", "format")

# Names that tensors of one kind have and others do not; the first that fits decides.
_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lora", (".lora_up.", ".lora_down.", ".lora_A.", ".lora_B.", ".hada_w1_a", ".lokr_w1", "lora_unet_")),
    ("controlnet", ("control_model.", "controlnet_", "zero_convs.", "input_hint_block")),
    ("checkpoint", ("first_stage_model.", "cond_stage_model.", "conditioner.embedders.")),
    ("clip_vision", ("vision_model.", "visual.transformer.")),
    ("text_encoder", ("text_model.", "encoder.block.0.layer.", "model.layers.0.self_attn", "shared.weight")),
    ("vae", ("decoder.conv_in.", "decoder.up_blocks.", "encoder.down_blocks.", "decoder.mid.")),
    ("diffusion_model", ("double_blocks.", "transformer_blocks.", "model.diffusion_model.", "joint_blocks.")),
    ("diffusion_model", ("input_blocks.", "down_blocks.", "blocks.0.self_attn.")),
    ("upscale_model", ("body.0.rdb1.", "conv_first.", "model.0.weight", "layers.0.residual_group")),
)
_EMBEDDING = {"string_to_param", "emb_params", "clip_l", "clip_g"}


class BadHeader(Exception):
    """The file is no whole safetensors file; the message says why."""


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read(path: Path) -> SafetensorsFacts:
    """The facts of a file. Raises BadHeader, and OSError when it cannot be read."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
            raise BadHeader("it is no safetensors file, or was cut off: its header does not fit into it")
        header = file.read(length)
    if header.count(b"data_offsets") > _MAX_TENSORS:
        raise BadHeader(f"its safetensors header speaks of more than {_MAX_TENSORS} tensors")
    tensors, metadata = _decode(header)
    _judge(tensors.values(), size - 8 - length)
    return SafetensorsFacts(
        guess_kind(tensors, metadata),
        len(tensors),
        sum(math.prod(tensor.shape) for tensor in tensors.values()),
        tuple(sorted({tensor.dtype for tensor in tensors.values()})),
        {key: value for key, value in metadata.items() if key.startswith(_KEPT) and len(value) <= _MAX_VALUE_LENGTH},
    )


def problem_of(path: Path) -> str:
    """Why a file that is called a safetensors file is none; "" when it is, or has another name."""
    if not path.name.lower().endswith(SAFETENSORS):
        return ""
    try:
        read(path)
    except (BadHeader, OSError) as problem:
        return str(problem)
    return ""


def _decode(header: bytes) -> tuple[dict[str, _Tensor], dict[str, str]]:
    try:
        found = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        metadata = found.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(raw, type=_Tensor) for name, raw in found.items()}
        texts: dict[str, Any] = msgspec.json.decode(metadata, type=dict[str, Any]) if metadata else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadHeader(f"its safetensors header cannot be read: {error}") from error
    return tensors, {key: value for key, value in texts.items() if isinstance(value, str)}


def _judge(tensors: Iterable[_Tensor], data_bytes: int) -> None:
    at = 0
    for tensor in sorted(tensors, key=lambda one: one.data_offsets):
        begin, end = tensor.data_offsets
        bits = _BITS.get(tensor.dtype)
        if begin != at or end < begin or min(tensor.shape, default=0) < 0:
            raise BadHeader("its safetensors header has gaps or overlaps")
        if bits is not None and math.prod(tensor.shape) * bits != (end - begin) * 8:
            raise BadHeader("its safetensors header gives a tensor another size than its shape has")
        at = end
    if at != data_bytes:
        raise BadHeader(f"its safetensors header speaks of {at} bytes of tensors, the file has {data_bytes}")


def guess_kind(names: Iterable[str], metadata: dict[str, str]) -> str:
    """`lora`, `checkpoint`, …; "" when nothing tells."""
    if metadata.get("ss_network_module"):
        return "lora"
    found = list(names)
    if found and set(found) <= _EMBEDDING:
        return "embedding"
    text = "\n".join(found)
    return next((kind for kind, signs in _SIGNS if any(sign in text for sign in signs)), "")
