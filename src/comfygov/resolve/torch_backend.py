"""Which torch build fits this machine (`gov init --install-torch`)."""

from __future__ import annotations

import re
import shutil

from comfygov.errors import Code, GovError
from comfygov.model.builds import is_pytorch_build
from comfygov.ports import process

# Lowest Linux driver of each CUDA toolkit (NVIDIA, CUDA release notes, table of driver versions).
_DRIVER_FLOOR = ((580, "cu130"), (570, "cu128"), (560, "cu126"), (520, "cu118"))


def backend_for(choice: str, system: str) -> str:
    """The name of PyTorch's wheel index for `choice`; empty for the ordinary build of the index.

    Raises `usage` for anything but auto, cpu, skip, cuNNN and rocmN.N.
    """
    if choice == "auto":
        choice = detect(system)
    if choice in ("skip", "") or (choice == "cpu" and system == "darwin"):
        return ""
    if is_pytorch_build(choice):
        return choice
    raise GovError(Code.USAGE, f"`{choice}` is no torch build", "--install-torch auto|cpu|skip|cuNNN|rocmN.N")


def detect(system: str) -> str:
    """The newest build that this machine's driver runs."""
    if system == "darwin":
        return "skip"
    driver = nvidia_driver()
    if driver is None:
        return "cpu"
    return next((name for floor, name in _DRIVER_FLOOR if driver >= floor), "cpu")


def driver_for(build: str) -> int | None:
    """The lowest driver (major number) that runs a CUDA build (`cu130`); None for every other build. A build that is
    not in the table needs what the next older one of it needs."""
    if not re.fullmatch(r"cu[0-9]{3}", build):
        return None
    return next((floor for floor, name in _DRIVER_FLOOR if int(build[2:]) >= int(name[2:])), None)


def nvidia_driver() -> int | None:
    """The major number of the NVIDIA driver; None without a GPU that answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        done = process.run([tool, "--query-gpu=driver_version", "--format=csv,noheader"], timeout_seconds=20)
    except GovError:
        return None
    match = re.match(r"\s*([0-9]+)\.", done.stdout)
    return int(match[1]) if done.exit_code == 0 and match else None


def has_accelerator(system: str) -> bool:
    """True when ComfyUI can use something better than the processor here."""
    from pathlib import Path

    if system == "darwin":
        import platform

        return platform.machine() == "arm64"
    return nvidia_driver() is not None or Path("/dev/kfd").exists()
