"""The torch family, and which build fits the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.errors import Code
from comfygov.resolve import torch_backend, torch_family

from .conftest import Refused


def family(torch: str, vision: str, audio: str) -> dict[str, str]:
    return {"torch": torch, "torchvision": vision, "torchaudio": audio}


def test_what_the_index_gives_without_constraints_is_a_misfit() -> None:
    found = torch_family.misfit(family("2.15.0", "0.29.0", "2.11.0"))
    assert found is not None
    words, pins = found
    assert "torch 2.15.0, torchvision 0.29.0, torchaudio 2.11.0" in words
    assert pins == ("torch==2.11.*", "torchvision==0.26.*", "torchaudio==2.11.*")


@pytest.mark.parametrize(
    "versions",
    [
        family("2.11.0", "0.26.0", "2.11.0"),
        family("2.11.0+cu130", "0.26.0+cu130", "2.11.0+cu130"),
        family("2.0.1", "0.15.2", "2.0.2"),
        {"torch": "2.11.0"},
        {"torch": "2.11.0", "torchaudio": "2.11.1"},
        {"torchvision": "0.29.0", "torchaudio": "2.11.0"},
        {"torch": "1.13.1", "torchvision": "0.14.1"},
        {"torch": "main", "torchvision": "0.14.1"},
        {},
    ],
)
def test_what_fits_or_is_not_known_is_no_misfit(versions: dict[str, str]) -> None:
    assert torch_family.misfit(versions) is None


def test_pins_name_only_the_members_that_are_there() -> None:
    found = torch_family.misfit({"torch": "2.12.0+cpu", "torchaudio": "2.11.0+cpu"})
    assert found is not None
    assert found[1] == ("torch==2.11.*", "torchaudio==2.11.*")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_a_family_fits_exactly_when_all_belong_to_one_torch(torch: int, vision: int, audio: int) -> None:
    found = torch_family.misfit(family(f"2.{torch}.0", f"0.{vision + 15}.0", f"2.{audio}.0"))
    assert (found is None) == (torch == vision == audio)
    if found:
        mended = {pin.split("==")[0]: pin.split("==")[1].removesuffix(".*") for pin in found[1]}
        assert torch_family.misfit(mended) is None


def test_versions_are_read_from_a_lock() -> None:
    lock = 'version = 1\n\n[[package]]\nname = "torch"\nversion = "2.11.0+cu130"\nsource = { registry = "x" }\n'
    lock += '\n[[package]]\nname = "comfy-env"\nversion = "0"\nsource = { virtual = "." }\n'
    assert torch_family.locked_versions(lock) == {"torch": "2.11.0+cu130", "comfy-env": "0"}


@pytest.mark.parametrize(
    "name", ["cuda", "cu13", "cu1300", "CPU", "rocm6", "rocm6.", "cu130 ", "gpu", "../cu130", "cu130/x", "-x"]
)
def test_a_name_that_is_no_build_is_refused(name: str, refused: Refused) -> None:
    with refused(Code.USAGE) as caught:
        torch_backend.backend_for(name, "linux")
    assert name in caught.value.message


def test_digits_of_other_scripts_are_no_build(refused: Refused) -> None:
    with refused(Code.USAGE):
        torch_backend.backend_for("cu\u0661\u0663\u0660", "linux")


@pytest.mark.parametrize(
    ("choice", "system", "backend"),
    [
        *(("cpu", "linux", "cpu"), ("cpu", "darwin", ""), ("skip", "linux", ""), ("", "linux", "")),
        *(("cu130", "linux", "cu130"), ("rocm6.4", "linux", "rocm6.4"), ("auto", "darwin", "")),
    ],
)
def test_a_choice_becomes_the_name_of_an_index(choice: str, system: str, backend: str) -> None:
    assert torch_backend.backend_for(choice, system) == backend


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(script)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("driver", "backend"),
    [
        *(("580.65.06", "cu130"), ("610.10", "cu130"), ("579.99", "cu128"), ("570.00", "cu128"), ("569.1", "cu126")),
        *(("560.35.03", "cu126"), ("550.54.15", "cu118"), ("520.61", "cu118"), ("470.256.02", "cpu")),
    ],
)
def test_the_driver_decides_the_build(
    driver: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(tmp_path, monkeypatch, f"#!/bin/sh\nprintf '{driver}\\n{driver}\\n'\n")
    assert torch_backend.backend_for("auto", "linux") == backend
    assert torch_backend.has_accelerator("linux")


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver.'\nexit 9\n",
        "#!/bin/sh\necho 580.65.06\nexit 1\n",
        "#!/bin/sh\necho No devices were found\n",
        "#!/bin/sh\nexit 0\n",
    ],
)
def test_a_gpu_that_does_not_answer_is_none(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, script)
    assert torch_backend.nvidia_driver() is None
    assert torch_backend.backend_for("auto", "linux") == "cpu"


def test_no_tool_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert torch_backend.nvidia_driver() is None


@pytest.mark.parametrize("script", ["#!/no/such/interpreter\n", "no program at all\n"])
def test_a_tool_that_cannot_start_means_no_gpu(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, monkeypatch, script)
    assert torch_backend.nvidia_driver() is None
