"""What uv's words say, as far as anything is read from them (texts of uv 0.13)."""

from __future__ import annotations

import pytest

from comfygov.model.state import ComfyUIPin, Declaration
from comfygov.resolve import alternatives, conflict, lockfile
from comfygov.resolve.conflict import CONSTRAINTS, Line

TWO = """error: No solution found when resolving dependencies
  cause: Because comfy-env:node-a depends on numpy==1.26.4 and comfy-env:node-b depends on
         numpy>=2.2, we can conclude that comfy-env:node-b and comfy-env:node-a are incompatible.
         And because your project requires comfy-env:node-a and comfy-env:node-b, we can conclude that
         your project's requirements are unsatisfiable.
"""
DEEP = """error: No solution found when resolving dependencies
  cause: Because mediapipe==0.10.9 depends on protobuf>=3.11,<4 and comfy-env:node-new depends on protobuf>=5, we can
         conclude that comfy-env:node-new and mediapipe==0.10.9 are incompatible.
         And because comfy-env:node-face depends on mediapipe==0.10.9, we can conclude that they are incompatible.
"""
DECLARED = Declaration(
    ComfyUIPin("r", None, "c"),
    "==3.11.*",
    {"comfyui": ("torch", "numpy>=1.25"), "node-a": ("numpy==1.26.4", "einops"), "node-b": ("numpy>=2.2",)},
    constraints=("numpy<3", "torch==2.11.*"),
)


def test_suspects_are_the_lines_that_uv_speaks_about() -> None:
    assert conflict.suspects(TWO, DECLARED) == [
        Line("node-a", "numpy==1.26.4"),
        Line("node-b", "numpy>=2.2"),
        Line(CONSTRAINTS, "numpy<3"),
    ]


def test_the_package_that_they_disagree_about() -> None:
    lines = [Line("node-a", "numpy==1.26.4"), Line("node-b", "numpy>=2.2")]
    assert conflict.contested(TWO, lines) == "numpy"
    deep = [Line("node-face", "mediapipe==0.10.9"), Line("node-new", "protobuf>=5")]
    assert conflict.contested(DEEP, deep) == "protobuf"
    assert conflict.contested("nothing that is understood", deep) == ""


def test_sentences_are_unwrapped_and_packs_have_their_names() -> None:
    first, second = conflict.reasons(TWO)
    assert first.startswith("Because a depends on numpy==1.26.4 and b depends on numpy>=2.2, we can conclude")
    assert second.startswith("And because your project requires a and b")


@pytest.mark.parametrize(
    ("words", "form"),
    [
        ("Because nope was not found in the package registry and", "missing_package"),
        ("Because there is no version of numpy==99 and", "missing_version"),
        ("Because only basis<=2.0 is\n   available and comfy-env:node-a depends on basis>=3", "missing_version"),
        ("Because torch==1.4.0 has no wheels with a matching Python version tag (e.g., `cp311`)", "requires_python"),
        ("Because future==1.0 requires Python >=3.99 and only future==1.0 is available", "requires_python"),
        ("Because x==1 has no wheels with a matching platform tag", "no_wheel"),
        ("x has no usable wheels hint: (--no-build)", "no_wheel"),
        ("something new", "no_solution"),
    ],
)
def test_what_one_line_cannot_get(words: str, form: str) -> None:
    assert conflict.form_of(words, [Line("node-a", "x")], ()) == form


@pytest.mark.parametrize(
    ("groups", "form"),
    [
        (("node-a", "node-b"), "two_packs"),
        (("node-a", "comfyui"), "comfyui"),
        (("node-a", CONSTRAINTS), "core_packages"),
        (("node-a", "node-a"), "one_pack"),
    ],
)
def test_what_several_cannot_share(groups: tuple[str, ...], form: str) -> None:
    assert conflict.form_of("requires Python", [Line(name, "numpy<2") for name in groups], ["NumPy"]) == form


def test_settings_about_another_package_are_the_persons_own_wishes() -> None:
    assert conflict.form_of("", [Line("node-a", "x"), Line(CONSTRAINTS, "x<2")], ["numpy"]) == "own_wishes"


@pytest.mark.parametrize(
    ("there", "keep", "production", "kept"),
    [
        (("opencv-contrib-python", "opencv-python"), (), {"opencv-python"}, "opencv-contrib-python"),
        (("opencv-python-headless", "opencv-python"), (), {"opencv-python"}, "opencv-python"),
        (("opencv-python-headless", "opencv-python"), (), set(), "opencv-python-headless"),
        (("opencv-contrib-python", "opencv-python"), ("OpenCV_Python",), set(), "opencv-python"),
        (("onnxruntime-gpu", "onnxruntime"), (), {"onnxruntime"}, "onnxruntime-gpu"),
        (("onnxruntime-gpu", "onnxruntime"), ("onnxruntime",), set(), "onnxruntime"),
        (("onnxruntime-gpu", "onnxruntime"), ("opencv-python",), set(), "onnxruntime-gpu"),
    ],
)
def test_which_of_a_family_is_kept(
    there: tuple[str, ...], keep: tuple[str, ...], production: set[str], kept: str
) -> None:
    assert alternatives.chosen(there, keep, production) == kept


def test_what_was_chosen_is_undone_and_the_persons_exclusions_stay() -> None:
    chosen = alternatives.with_one(DECLARED, ("opencv-python-headless", "opencv-python"), "opencv-python")
    assert chosen.exclude == ("opencv-python-headless",)
    assert chosen.groups[alternatives.GROUP] == ("opencv-python",)
    assert alternatives.undone(chosen, ()) == DECLARED
    assert alternatives.undone(chosen, ("opencv-python-headless",)).exclude == ("opencv-python-headless",)


def test_a_lock_knows_who_depends_on_what() -> None:
    text = """
[[package]]
name = "comfy-env"
version = "0"
[[package]]
name = "a"
version = "1.0"
dependencies = [{ name = "b" }]
[package.optional-dependencies]
more = [{ name = "c" }]
[[package]]
name = "b"
version = "2.0"
"""
    found = lockfile.read(text)
    assert found.versions == {"a": "1.0", "b": "2.0"}
    assert (found.dependents_of("b"), found.dependents_of("c")) == (["a 1.0"], ["a 1.0"])
