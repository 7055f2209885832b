"""Specs: what is read, what is refused, and that a person's text survives what is written into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfygov.errors import Code, GovError
from comfygov.model.models import ModelEntry
from comfygov.models import spec, spec_writing
from tests.unit.conftest import Refused

SUM = "ab" * 32


def read(tmp_path: Path, text: str, name: str = "spec.yml") -> tuple[ModelEntry, ...]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return spec.read(path, tmp_path / "models", tmp_path)


def one(tmp_path: Path, **entry: Any) -> ModelEntry:
    (found,) = read(tmp_path, json.dumps({"models": [entry]}), "spec.json")
    return found


def test_yaml_and_json_mean_the_same(tmp_path: Path) -> None:
    text = f"""
models:
  - name: base
    sources: [hf://org/repo/a.safetensors@v1, https://example.org/a.safetensors]
    target_path: checkpoints/a.safetensors
    checksum: sha256:{SUM.upper()}
    size: 12
    licence: other tools have more keys
"""
    (entry,) = read(tmp_path, text)
    sources = ("hf://org/repo/a.safetensors@v1", "https://example.org/a.safetensors")
    assert entry == ModelEntry("base", "checkpoints/a.safetensors", sources, SUM, 12)
    assert read(tmp_path, json.dumps(yaml.safe_load(text)), "spec.json") == (entry,)


@pytest.mark.parametrize("text", ["", "models:\n", "models: []\n", '{"models": []}', "# nothing\n"])
def test_an_empty_spec_has_no_models(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == ()


def test_a_lock_is_read_for_its_models(tmp_path: Path) -> None:
    model = {"name": "a", "target_path": "vae/a.pt", "size": 3, "checksum": f"sha256:{SUM}", "sources": ["/x/a.pt"]}
    lock = {"schema_version": 1, "version_name": "v", "comfyui": {}, "models": [model], "digest": "sha256:1"}
    assert read(tmp_path, json.dumps(lock), "comfy-v.lock.json")[0].sources == ("/x/a.pt",)


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("checkpoints/a.pt", "checkpoints/a.pt"),
        ("./checkpoints//a.pt", "checkpoints/a.pt"),
        ("models/checkpoints/a.pt", "checkpoints/a.pt"),
        ("$MODELS_DIR/checkpoints/a.pt", "checkpoints/a.pt"),
        ("${MODELS_DIR}/a.pt", "a.pt"),
        ("$COMFY_HOME/models/vae/a.pt", "vae/a.pt"),
        ("loras/ünï 模型 🙂.pt", "loras/ünï 模型 🙂.pt"),
        ("loras/costs $5.pt", "loras/costs $5.pt"),
        ("loras/" + "x" * 252 + ".pt", "loras/" + "x" * 252 + ".pt"),
    ],
)
def test_targets(tmp_path: Path, written: str, target: str) -> None:
    assert one(tmp_path, target_path=written).target_path == target


@pytest.mark.parametrize(
    "written",
    [
        *("../a.pt", "checkpoints/../../a.pt", "/etc/passwd", "$COMFY_HOME/a.pt", "$MODELS_DIR/../a.pt", "~/a.pt", "."),
        *(
            "$MODELS_DIR/checkpoints/../../models/x",
            "$HOME/a.pt",
            "$AWS_SECRET_ACCESS_KEY",
            "C:/a.pt",
            "a\\b.pt",
            "a\nb",
        ),
        *("x" * 256, "🙂" * 64, "a\x00b", "/"),
    ],
)
def test_targets_that_leave_the_folder_or_cannot_be(tmp_path: Path, written: str, refused: Refused) -> None:
    with refused(Code.BAD_CONFIG):
        one(tmp_path, target_path=written)


def test_a_subfolder_takes_its_name_from_name_or_source(tmp_path: Path) -> None:
    assert one(tmp_path, name="n.pt", source="/x/y.pt", target_subdir="loras/").target_path == "loras/n.pt"
    assert one(tmp_path, name="my lora", source="https://h/y.pt?a=1", target_subdir="loras").target_path == "loras/y.pt"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"target_path": "a.pt", "target_subdir": "loras"},
        {"target_subdir": "loras"},
        {"target_subdir": "loras", "source": "civitai://1"},
        {"target_path": "a.pt", "checksum": "md5:123"},
        {"target_path": "a.pt", "checksum": "sha256:123"},
        {"target_path": "a.pt", "size": -1},
        {"target_path": "a.pt", "size": "12"},
        {"target_path": ["a.pt"]},
    ],
)
def test_entries_that_are_refused(tmp_path: Path, entry: dict[str, Any], refused: Refused) -> None:
    with refused(Code.BAD_CONFIG) as caught:
        one(tmp_path, **entry)
    assert "models[0]" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        *("models: 3", "- a", "3", "{", "models: [", "models: !!python/object:os.system x", "a: b"),
        *("models: []\nmodels: []", "models:\n- target_path: a.pt\n  source: x\n  source: y", "models: []\n[a]: b"),
        *('{"models": ' + "[" * 100_000, "models: " + "[" * 100_000 + "]" * 100_000),
    ],
    ids=range(12),
)
def test_texts_that_are_no_spec(tmp_path: Path, text: str, refused: Refused) -> None:
    with refused(Code.BAD_CONFIG):
        read(tmp_path, text)


def test_no_two_entries_are_one_file_on_any_system(tmp_path: Path, refused: Refused) -> None:
    for first, second in (("a.pt", "a.pt"), ("A.pt", "a.pt"), ("é.pt", "E\u0301.pt"), ("straße.pt", "STRASSE.pt")):
        with refused(Code.BAD_CONFIG) as caught:
            read(tmp_path, json.dumps({"models": [{"target_path": f"x/{name}"} for name in (first, second)]}))
        assert "one file" in caught.value.message


def test_an_entry_is_neither_a_folder_of_another_nor_the_spec(tmp_path: Path, refused: Refused) -> None:
    with refused(Code.BAD_CONFIG) as caught:
        read(tmp_path, json.dumps({"models": [{"target_path": "A/b.pt/c/d.pt"}, {"target_path": "a/B.pt"}]}))
    assert "which is a file" in caught.value.message
    (tmp_path / "models").mkdir()
    with refused(Code.BAD_CONFIG) as caught:
        read(tmp_path, '{"models": [{"target_path": "spec.yml"}]}', "models/spec.yml")
    assert "itself" in caught.value.message


def test_a_spec_that_is_a_folder_is_said(tmp_path: Path, refused: Refused) -> None:
    with refused(Code.BAD_CONFIG):
        spec.read(tmp_path, tmp_path / "models", None)


BLOCK = """\
# my models
models:
    # the base
    - name: a   # first
      source: https://example.org/a.pt
      target_path: checkpoints/a.pt   # here

    - {name: b, source: "https://example.org/b.pt", target_path: vae/b.pt}
    - target_path: vae/c.pt
      checksum: ""
      sources:
        - https://example.org/c.pt
        - https://mirror.example.org/c.pt
# the end
other: 1
"""


def test_recorded_sums_leave_the_rest_of_the_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "spec.yml"
    path.write_text(BLOCK)
    spec_writing.record(path, {0: (SUM, 1), 1: ("cd" * 32, 2), 2: ("ef" * 32, 3)})
    text = path.read_text()
    assert [entry.checksum for entry in spec.read(path, tmp_path / "models", None)] == [SUM, "cd" * 32, "ef" * 32]
    assert [entry.size for entry in spec.read(path, tmp_path / "models", None)] == [1, 2, 3]
    for line in BLOCK.splitlines():
        if line.strip() and "{" not in line and 'checksum: ""' not in line:
            assert line in text.splitlines()
    assert yaml.safe_load(text)["other"] == 1


@pytest.mark.parametrize(
    "text", [BLOCK, BLOCK.rstrip(), BLOCK.replace("\nother: 1\n", ""), '{"models": [{"target_path": "a.pt"}]}']
)
def test_entries_are_appended(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yml"
    path.write_text(text)
    before = spec.read(path, tmp_path / "models", None)
    entry = {"name": "new: one # x", "target_path": "vae/ñew.pt", "checksum": f"sha256:{SUM}", "size": 7}
    spec_writing.append(path, [entry])
    assert spec.read(path, tmp_path / "models", None) == (*before, ModelEntry("new: one # x", "vae/ñew.pt", (), SUM, 7))
    if "other" not in text and not text.startswith("{"):
        assert path.read_text().startswith(text.rstrip())


@pytest.mark.parametrize("first", ["- {target_path: vae/a.pt}", "- target_path: vae/a.pt", "-   target_path: vae/a.pt"])
@pytest.mark.parametrize("indent", ["", "  ", "      "])
def test_comments_survive_an_entry_more(tmp_path: Path, first: str, indent: str) -> None:
    path = tmp_path / "spec.yml"
    path.write_text(f"# mine\nmodels:\n{indent}{first}  # the first\n# the end\n")
    spec_writing.append(path, [{"name": "b", "target_path": "vae/b.pt"}])
    assert path.read_text().startswith(f"# mine\nmodels:\n{indent}{first}  # the first\n# the end\n")
    assert [entry.target_path for entry in spec.read(path, tmp_path / "models", None)] == ["vae/a.pt", "vae/b.pt"]


def test_a_spec_is_made(tmp_path: Path) -> None:
    path = tmp_path / "models" / "spec.yml"
    for name in ("a", "b"):
        spec_writing.append(path, [{"name": name, "target_path": f"vae/{name}.pt"}])
    assert [entry.name for entry in spec.read(path, tmp_path / "models", None)] == ["a", "b"]


def test_what_cannot_be_added_to_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "spec.yml"
    path.write_text("- a\n")
    with pytest.raises(GovError):
        spec_writing.append(path, [{"target_path": "a.pt"}])
    assert path.read_text() == "- a\n"
