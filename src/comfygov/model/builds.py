"""Words for what one lock can hold several of: platforms, and builds of torch."""

from __future__ import annotations

import re

DEFAULT_BUILD = "default"
"""The torch of the ordinary index, beside the builds of PyTorch's own indexes."""
LINUX = "linux-x86_64"
BUILD_RULE = "cpu, cuNNN, rocmN.N or default"
PLATFORM_RULE = "for example linux-x86_64, linux-aarch64, darwin-arm64 or win32-AMD64"
_PYTORCH_BUILD = re.compile(r"cpu|cu[0-9]{3}|rocm[0-9]+\.[0-9]+")
_PLATFORM = re.compile(r"(linux|darwin|win32)-([A-Za-z0-9_]{1,20})")
_FLOOR = re.compile(r"python_full_version >= '([0-9.]+)'")
_MARKER = re.compile(
    rf"sys_platform == '([a-z0-9]+)' and platform_machine == '([A-Za-z0-9_]+)'(?: and {_FLOOR.pattern})?"
)


def is_pytorch_build(text: str) -> bool:
    """Whether `text` can name one of PyTorch's own indexes."""
    return _PYTORCH_BUILD.fullmatch(text) is not None


def is_build(text: str) -> bool:
    return text == DEFAULT_BUILD or is_pytorch_build(text)


def is_platform(text: str) -> bool:
    return _PLATFORM.fullmatch(text) is not None


def marker_of(platform: str) -> str:
    """`linux-x86_64` as the marker (PEP 508) that uv's `environments` takes."""
    system, _, machine = platform.partition("-")
    return f"sys_platform == '{system}' and platform_machine == '{machine}'"


def platform_of(marker: str) -> str:
    """The reverse; empty for any other marker."""
    match = _MARKER.fullmatch(marker)
    return f"{match[1]}-{match[2]}" if match else ""


def markers(platforms: tuple[str, ...], oldest_python: str = "") -> tuple[str, ...]:
    """In one order, whoever asks: the order is part of a lock's bytes. `oldest_python` (3.11.5) is for packages that
    older patch releases do not take."""
    floor = f" and python_full_version >= '{oldest_python}'" if oldest_python else ""
    return tuple(marker_of(platform) + floor for platform in sorted(set(platforms)))


def floor_of(environments: tuple[str, ...]) -> str:
    """The `oldest_python` that markers were made with."""
    return next(iter(_FLOOR.findall(" ".join(environments))), "")


def several(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The builds that one lock carries for `wanted`; empty when it needs no choice. With any other build the
    ordinary one is there too: it is what a sync without a choice gives."""
    return tuple(sorted({*wanted, DEFAULT_BUILD})) if len(set(wanted)) > 1 else ()


def chosen(wanted: tuple[str, ...]) -> str:
    """The build that a home with these settings uses: the first. Empty for the ordinary one, where there is no
    choice of others."""
    first = next(iter(wanted), "")
    return first if several(wanted) or first != DEFAULT_BUILD else ""


def settings(chosen_build: str, carried: tuple[str, ...]) -> list[str]:
    """What `[python] torch_backends` says of such a state: the chosen build first."""
    if not carried:
        return [chosen_build] if chosen_build else []
    return [chosen_build, *(build for build in carried if build != chosen_build)]


def beyond_one(environments: tuple[str, ...]) -> list[str]:
    """What `[python] platforms` says of such a state; nothing where the lock is for one platform."""
    found = [platform_of(marker) for marker in environments]
    return [platform for platform in found if platform] if len(found) > 1 else []
