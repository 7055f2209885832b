"""`gov handler check`: does this version come up here, with every pack?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.model.handler import Settings
from comfygov.model.state import PackHealth
from comfygov.ops.handler_worker import WorkerRequest, worker
from comfygov.ports.progress import Stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.ports.progress import Progress


class Checked(msgspec.Struct, frozen=True):
    """A ComfyUI that came up. `packs` are those of the version; `missing_classes` and `core_failures` (ComfyUI's own
    modules that do not import) are what was well when the version was made and is not here."""

    version: str
    digest: str
    comfyui_version: str
    python_version: str
    pytorch_version: str
    device: str
    boot_seconds: float
    packs: tuple[PackHealth, ...]
    core_failures: tuple[str, ...]
    missing_classes: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not (self.missing_classes or self.core_failures)


def check(
    request: WorkerRequest, start_seconds: float, command: str, progress: Progress, say: Callable[[str], None]
) -> Checked:
    """Raises GovError `not_ready` when it does not come up, or a pack does not load."""
    settings = Settings(start_seconds=start_seconds)
    with worker(request, settings, command, progress, say) as handler:
        with Stages(progress).stage("start of ComfyUI"):
            comfy = handler.supervisor.first()
        supervisor, found = handler.supervisor, comfy.health
        runtime, expects = supervisor.runtime, supervisor.expects
        named = [pack for name in runtime.packs if (pack := found.pack(name))]
        wanted = {*expects.core_classes, *(name for pack in expects.packs for name in pack.classes)}
        # Classes of packs that this runtime does not load are not missed.
        wanted -= {name for pack in expects.packs if pack.name not in runtime.packs for name in pack.classes}
        return Checked(
            version=runtime.version,
            digest=runtime.digest,
            comfyui_version=found.comfyui_version,
            python_version=found.python_version,
            pytorch_version=found.pytorch_version,
            device=comfy.device,
            boot_seconds=found.boot_seconds,
            packs=tuple(named),
            core_failures=tuple(name for name in found.core_failures if name not in expects.core_failures),
            missing_classes=tuple(sorted(wanted - comfy.classes.keys())),
        )
