"""Does the driver of this machine run the torch of the image? Asked at every start, answered in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfygov.model.image import ImageRecord

# Lowest Linux driver by CUDA major version: within one, newer builds run on older drivers (NVIDIA, CUDA Compatibility,
# "Minor Version Compatibility").
DRIVER_FLOOR = {11: 450, 12: 525, 13: 580}


def driver_cuda() -> str | None:
    """The newest CUDA that the driver here knows, such as `12.4`; None without a driver."""
    import ctypes

    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int(0)
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value <= 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


AMD_DEVICE = Path("/dev/kfd")
"""What the kernel's driver gives to programs that compute on an AMD GPU (ROCm, "Running Docker containers")."""


def misfit(record: ImageRecord, found: str | None, amd: Path = AMD_DEVICE) -> str:
    """What is wrong with a driver that knows the CUDA `found`, or with there being no `amd`; empty when nothing is."""
    torch = record.torch
    if torch is None or torch.is_for_processor:
        return ""
    if torch.rocm:
        needs = f"torch {torch.version} of this image needs an AMD GPU with a driver for ROCm {torch.rocm}"
        return "" if amd.exists() else f"{needs}, and there is no {amd} in this container (--device {amd})"
    needed = int(torch.cuda.partition(".")[0])
    floor = DRIVER_FLOOR.get(needed, 0)
    wants = f"torch {torch.version} of this image needs a driver for CUDA {needed}" + (
        f" (version {floor} or newer)" if floor else ""
    )
    if found is None:
        return f"{wants}, and there is no NVIDIA driver in this container"
    if not re.fullmatch(r"\d+\.\d+", found) or int(found.partition(".")[0]) >= needed:
        return ""
    return f"{wants}, and the driver here knows CUDA {found} at most"
