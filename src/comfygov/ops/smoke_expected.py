"""What a smoke workflow is expected to give: what it gave when production was promoted, or what a file beside it says.

`NAME.expect.json` beside `NAME.json`:

    {"outputs": {"9": {"images": 1}},
     "pictures": [{"node": "9", "number": 0, "file": "cat.png", "tolerance": 0.02}]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.errors import GovError
from comfygov.trial import png

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from comfygov.model.state import WorkflowRun
    from comfygov.ports.comfy_api import ComfyApi

Outputs = dict[str, dict[str, int]]


class ExpectedPicture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `number`th image of a node is the PNG `file` (beside this one), but for a mean difference of `tolerance`
    (0 to 1) over all samples."""

    node: str
    file: str
    number: int = 0
    tolerance: float = 0.02


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`outputs` is node id -> kind (`images`, `audio`, …) -> how many; empty takes what production gave."""

    outputs: Outputs = {}
    pictures: tuple[ExpectedPicture, ...] = ()


def declared(workflow: Path) -> Expected | None:
    """What the file beside a workflow says; None without one. Raises OSError and msgspec.MsgspecError."""
    path = workflow.with_suffix(".expect.json")
    return msgspec.json.decode(path.read_bytes(), type=Expected) if path.is_file() else None


def counted(entry: Mapping[str, Any]) -> Outputs:
    """Node id -> kind -> how many, of a history entry: what a ComfyUI on trial says is taken as it comes."""
    outputs = entry.get("outputs")
    found: Outputs = {}
    for node, kinds in outputs.items() if isinstance(outputs, dict) else ():
        if isinstance(kinds, dict):
            found[str(node)] = {str(kind): len(v) if isinstance(v, list) else 1 for kind, v in kinds.items()}
    return found


def differences(wanted: Outputs, given: Outputs) -> Iterator[str]:
    """A line for each kind of each node of which there are not as many as wanted."""
    for node in sorted({*wanted, *given}):
        before, now = wanted.get(node, {}), given.get(node, {})
        for kind in sorted({*before, *now}):
            if before.get(kind, 0) != now.get(kind, 0):
                yield f"node {node}: {now.get(kind, 0)} {kind}, expected are {before.get(kind, 0)}"


def wanted(expected: Expected | None, before: WorkflowRun | None, digest: str) -> Outputs | None:
    """What to hold the outputs against; None where there is nothing yet, or the workflow was edited since."""
    if expected and expected.outputs:
        return expected.outputs
    return before.outputs if before and before.digest == digest else None


def picture_problems(api: ComfyApi, entry: Mapping[str, Any], expected: Expected, folder: Path) -> Iterator[str]:
    for picture in expected.pictures:
        problem = _problem(api, entry, picture, folder)
        if problem:
            yield f"node {picture.node}, image {picture.number}: {problem}"


def _problem(api: ComfyApi, entry: Mapping[str, Any], wanted_one: ExpectedPicture, folder: Path) -> str:
    try:
        image = entry["outputs"][wanted_one.node]["images"][wanted_one.number]
        place = [str(image.get(key, "")) for key in ("filename", "subfolder", "type")]
    except (KeyError, IndexError, TypeError, AttributeError):
        return "there is none"
    try:
        apart = png.difference(png.read((folder / wanted_one.file).read_bytes()), png.read(api.view(*place)))
    except (OSError, GovError, png.UnreadablePictureError) as error:
        return f"it cannot be compared with {wanted_one.file}: {error}"
    if apart <= wanted_one.tolerance:
        return ""
    return f"it differs from {wanted_one.file} by {apart:.4f}, allowed are {wanted_one.tolerance:g}"
