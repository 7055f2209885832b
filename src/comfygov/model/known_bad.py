"""Packs and package releases that are known to do harm. `[policy] deny` of a home extends the list.

Sources: the security check of ComfyUI-Manager, and the maintainers' own notices of the releases that were taken over.
"""

from __future__ import annotations

from typing import NamedTuple

DATED = "2026-08-19"


class KnownBad(NamedTuple):
    """`versions` empty means all of them."""

    name: str
    why: str
    versions: tuple[str, ...] = ()


PACKS = (KnownBad("ComfyUI_LLMVISION", "steals passwords, cookies and cards and sends them away"),)
"""By the name of the pack or of its repository."""

OWNERS = (KnownBad("AppleBotzz", "published ComfyUI_LLMVISION, which steals passwords"),)
"""By the owner in the address of a repository."""

PACKAGES = (
    KnownBad("ultralytics", "these releases mine cryptocurrency", ("8.3.41", "8.3.42", "8.3.45", "8.3.46")),
    KnownBad("litellm", "these releases send keys and passwords away, from a .pth file too", ("1.82.7", "1.82.8")),
    KnownBad("num2words", "these releases were taken over", ("0.5.15", "0.5.16")),
    KnownBad("lolminer", "mines cryptocurrency"),
    KnownBad("torchtriton", "took the place of PyTorch's own package and sent files away"),
)
