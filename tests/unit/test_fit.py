"""What a pack says of itself, held against the machine."""

from __future__ import annotations

import pytest

from comfygov.resolve.fit import Machine, misfits
from comfygov.resolve.requirements import read_declared

HERE = Machine(python="3.11.7", comfyui="0.3.64", system="linux", has_accelerator=False)


@pytest.mark.parametrize(
    ("pyproject", "found"),
    [
        ("", []),
        ('[project]\nrequires-python = ">=3.10"', []),
        ('[project]\nrequires-python = ">=3.12"', [("fail", "it requires Python >=3.12, this home has 3.11.7")]),
        ('[tool.comfy]\nrequires-comfyui = ">=0.4"', [("fail", "it requires ComfyUI >=0.4, this home has 0.3.64")]),
        ('[tool.comfy]\nrequires-comfyui = "rubbish"', []),
        ('[project]\nclassifiers = ["Operating System :: OS Independent"]', []),
        ('[project]\nclassifiers = ["Operating System :: POSIX :: Linux", "Operating System :: MacOS"]', []),
        (
            '[project]\nclassifiers = ["Operating System :: Microsoft :: Windows"]',
            [("fail", "it is made for Operating System :: Microsoft :: Windows")],
        ),
        (
            '[project]\nclassifiers = ["Operating System :: POSIX :: BSD"]',
            [("fail", "it is made for Operating System :: POSIX :: BSD")],
        ),
    ],
)
def test_what_excludes_this_machine_fails(pyproject: str, found: list[tuple[str, str]]) -> None:
    declared = read_declared(lambda path: pyproject if path == "pyproject.toml" else None)
    assert list(misfits(declared, HERE)) == found


def test_a_missing_accelerator_is_a_warning() -> None:
    text = '[project]\nclassifiers = ["Environment :: GPU :: NVIDIA CUDA"]'
    declared = read_declared(lambda path: text if path == "pyproject.toml" else None)
    assert [verdict for verdict, _ in misfits(declared, HERE)] == ["warn"]
