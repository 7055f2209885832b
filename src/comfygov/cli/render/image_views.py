"""Results of `gov image …` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfygov.cli.render.care_views import size
from comfygov.cli.render.text import MANY, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.image_build import Built, Verified
    from comfygov.ops.image_context import ContextMade
    from comfygov.ops.image_inside import ImageChecked


_SOURCES = (
    "note: the version may build packages from source: their programs run as root of the build, without its secrets "
    "and cache ([policy] source_builds in config.toml)"
)


def context_lines(result: ContextMade) -> Iterator[str]:
    yield result.path
    counts = (plural(result.codes - 1, "pack"), plural(result.packages, "package"), plural(result.models, "model"))
    yield f"version {result.version}: {', '.join(counts)}, {size(result.bytes)}"
    yield f"base {result.base}"
    if not result.is_pinned:
        yield "note: the base has no digest; name one with --base NAME@sha256:... to build the same twice"
    if result.builds_sources:
        yield _SOURCES
    yield f"sum {result.sum}"


def built_lines(result: Built) -> Iterator[str]:
    yield result.tag
    yield f"image {result.id}  {size(result.bytes)}"
    yield f"version {result.version}  {result.digest}"
    yield f"base {result.base}"
    if result.builds_sources:
        yield _SOURCES
    if result.pushed:
        yield f"pushed {result.pushed}"


def verified_lines(result: Verified) -> Iterator[str]:
    yield from _problems(result.problems)
    yield f"{'identical' if result.identical else 'different'}: {result.digest}"


def checked_lines(result: ImageChecked) -> Iterator[str]:
    yield from _problems(result.problems)
    counts = (plural(result.files, "file"), plural(result.packages, "package"), plural(result.models, "model"))
    yield f"version {result.version}: {', '.join(counts)} checked"
    yield result.digest


def _problems(found: tuple[str, ...]) -> Iterator[str]:
    yield from found[:MANY]
    if len(found) > MANY:
        yield f"… and {len(found) - MANY} more (--json shows all)"
