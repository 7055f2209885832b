"""What files say of themselves, where ComfyUI looks for them, and what workflows name."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from comfygov.errors import Code
from comfygov.models import safetensors, workflow
from comfygov.models.folders import Folders, files_of_arguments, model_files, read_extra_paths
from comfygov.models.hashing import Memory
from tests.unit.conftest import Refused


def write_safetensors(path: Path, header: Any, data: bytes, *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def tensor(begin: int, end: int, shape: tuple[int, ...], dtype: str = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_facts_of_a_safetensors_file(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"ss_network_module": "networks.lora", "ss_tag_frequency": "x" * 1000, "modelspec.title": "T"},
        "lora_unet_a.lora_up.weight": tensor(0, 16, (4, 2)),
        "lora_unet_a.alpha": tensor(16, 20, (), "F32"),
    }
    facts = safetensors.read(write_safetensors(tmp_path / "l.safetensors", header, b"\0" * 20))
    assert (facts.kind, facts.tensors, facts.parameters, facts.dtypes) == ("lora", 2, 9, ("F16", "F32"))
    assert facts.metadata == {"ss_network_module": "networks.lora", "modelspec.title": "T"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.diffusion_model.input_blocks.0\nfirst_stage_model.decoder.conv_in.weight", "checkpoint"),
        ("first_stage_model.x", "checkpoint"),
        ("double_blocks.0.img_attn.qkv.weight", "diffusion_model"),
        ("decoder.conv_in.weight", "vae"),
        ("text_model.encoder.x", "text_encoder"),
        ("emb_params", "embedding"),
        ("something.else", ""),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert safetensors.guess_kind(name.split("\n"), {}) == kind


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (b"{" + b",".join(b'"%d":{"data_offsets":0}' % n for n in range(100_001)) + b"}", b"", None),
        (b" " * 32_000_001, b"", None),
        (b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"", None),
        ({"a": tensor(0, 16, (8,))}, b"\0" * 15, None),
        ({"a": tensor(0, 16, (8,))}, b"\0" * 17, None),
        ({"a": tensor(0, 16, (9,))}, b"\0" * 16, None),
        ({"a": tensor(0, 8, (4,)), "b": tensor(4, 12, (4,))}, b"\0" * 12, None),
        ({"a": tensor(0, 8, (4,)), "b": tensor(10, 18, (4,))}, b"\0" * 18, None),
        ({"a": {"dtype": "F16"}}, b"", None),
        (b"not json", b"", None),
        (b"[]", b"", None),
        ({}, b"", 10**9),
        ({}, b"", 2**63),
        (b"\x80\x02}q\x00", b"a pickle", None),
    ],
)
def test_headers_that_do_not_fit(tmp_path: Path, header: Any, data: bytes, length: int | None) -> None:
    with pytest.raises(safetensors.BadHeader):
        safetensors.read(write_safetensors(tmp_path / "x.safetensors", header, data, length=length))


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\x03\x04" + b"\0" * 50, b"\0" * 8])
def test_files_that_are_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(safetensors.BadHeader):
        safetensors.read(tmp_path / "x.safetensors")


def test_extra_paths_are_read_as_comfyui_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    path = tmp_path / "extra_model_paths.yaml"
    path.write_text(
        "a:\n  base_path: $DISK\n  is_default: true\n  checkpoints: ckpt\n"
        "  loras: |\n    l1\n    l2\n  custom_nodes: n\n"
        "b:\n  unet: rel\nempty:\n"
    )
    disk = tmp_path / "disk"
    assert read_extra_paths([path, tmp_path / "none.yaml"]) == {
        "checkpoints": (disk / "ckpt",),
        "loras": (disk / "l1", disk / "l2"),
        "diffusion_models": (tmp_path / "rel",),
    }


def test_extra_paths_of_the_command_line() -> None:
    option = "--extra-model-paths-config"
    arguments = ["--cpu", option, "a.yaml", "b c.yaml", "--listen", "x", f"{option}=d.yaml", "e", option]
    assert files_of_arguments(arguments) == ["a.yaml", "b c.yaml", "d.yaml"]


def test_a_broken_extra_paths_file_is_said(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "e.yaml").write_text("a: [")
    with refused(Code.BAD_CONFIG):
        read_extra_paths([tmp_path / "e.yaml"])


def test_a_target_is_looked_for_where_comfyui_looks(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "m", (tmp_path / "own",), {"text_encoders": (tmp_path / "disk",)})
    assert list(folders.elsewhere("clip/sub/t5.pt")) == [
        tmp_path / "disk" / "sub" / "t5.pt",
        tmp_path / "m" / "text_encoders" / "sub" / "t5.pt",
        tmp_path / "own" / "text_encoders" / "sub" / "t5.pt",
        tmp_path / "own" / "clip" / "sub" / "t5.pt",
    ]


def test_model_files_are_found_once(tmp_path: Path) -> None:
    for name in ("a/x.PT", "a/notes.txt", ".hidden/y.pt", "b/z.safetensors"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).touch()
    (tmp_path / "m" / "a" / "round").symlink_to("..")
    (tmp_path / "m" / "gone.pt").symlink_to("nowhere")
    assert list(model_files(tmp_path / "m")) == [tmp_path / "m" / "a" / "x.PT", tmp_path / "m" / "b" / "z.safetensors"]


def test_sums_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"1")
    memory = Memory(tmp_path / "hashes.json")
    memory.remember(file.stat(), "young")
    assert memory.known(file.stat()) is None
    old = time.time() - 100
    os.utime(file, (old, old))
    memory.remember(file.stat(), "sum")
    memory.save()
    again = Memory(tmp_path / "hashes.json")
    assert again.known(file.stat()) == "sum"
    file.write_bytes(b"2")
    assert again.known(file.stat()) is None
    (tmp_path / "hashes.json").write_bytes(b"damage")
    assert Memory(tmp_path / "hashes.json").known(file.stat()) is None


def named(document: object) -> list[tuple[str, str]]:
    return [(one.name, one.folder) for one in workflow.models_of(document)]


def test_models_of_an_api_workflow() -> None:
    document = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd\\a.safetensors"}},
        "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "l.safetensors", "model": ["1", 0]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat, (embedding:bad-hands:1.2), embedding:easy"}},
        "4": {"class_type": "SomePack", "inputs": {"stack": {"lora": "x.pt", "on": True}, "url": "https://h/x.pt"}},
        "5": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x.pth"}},
        "6": {"class_type": "LoraLoader", "inputs": {"lora_name": "l.safetensors"}},
        "7": {"class_type": "Stack", "inputs": {"lora_name_2": "two.pt", "lora_1": {"on": False, "lora": "three.pt"}}},
    }
    expected = [
        *(("sd/a.safetensors", "checkpoints"), ("l.safetensors", "loras"), ("bad-hands", "embeddings")),
        *(("easy", "embeddings"), ("x.pt", "loras"), ("4x.pth", "upscale_models")),
        *(("two.pt", "loras"), ("three.pt", "loras")),
    ]
    assert named(document) == expected
    assert named({"prompt": document, "extra": 1}) == expected


def test_models_of_a_ui_workflow_and_its_subgraphs() -> None:
    url = "https://example.org/t5.safetensors"
    model = {"name": "t5.safetensors", "url": url, "directory": "text_encoders"}
    document = {
        "nodes": [
            {"type": "CLIPLoader", "widgets_values": ["t5.safetensors", "sd3"], "properties": {"models": [model]}},
            {"type": "Unknown", "widgets_values": {"a": "b.gguf", "c": "c.sft"}},
            {"type": "Odd", "widgets_values": None},
            {"type": "MarkdownNote", "widgets_values": ["take note.safetensors"]},
            "odd",
        ],
        "definitions": {"subgraphs": [{"nodes": [{"type": "VAELoader", "widgets_values": ["v.pt"]}]}]},
        "extra": {"groupNodes": {"g": {"nodes": [{"type": "UnetLoaderGGUF", "widgets_values": ["u.gguf"]}]}}},
    }
    assert named(document) == [
        *(("t5.safetensors", "text_encoders"), ("b.gguf", ""), ("c.sft", "")),
        *(("v.pt", "vae"), ("u.gguf", "diffusion_models")),
    ]
    assert workflow.models_of(document)[0].url == url


@pytest.mark.parametrize("document", [[], {}, 3, None, {"a": 1}, {"a": {"b": 1}}])
def test_what_is_no_workflow(document: object, refused: Refused) -> None:
    with refused(Code.BAD_SOURCE):
        workflow.models_of(document)
