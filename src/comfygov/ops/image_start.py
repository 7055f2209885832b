"""What the first program of an image starts: a worker, one job, or ComfyUI's page; and whether that is well."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from comfygov.delivery import work as places
from comfygov.delivery.image import fit, init
from comfygov.errors import Code, GovError
from comfygov.model.image import HANDLER, ROOT, WORK
from comfygov.ops import handler_runtime, handler_status
from comfygov.ops.handler_status import Health
from comfygov.ops.image_inside import read_record
from comfygov.ports import fs, lock, process
from comfygov.ports.comfy_api import ComfyApi
from comfygov.trial import command

if TYPE_CHECKING:
    from comfygov.model.image import ImageRecord, Mode

HTTP_PORT = 8000
PAGE_PORT = 8188
CPU_VARIABLE = "COMFYGOV_CPU"
"""Set, it lets a container with a CUDA torch run on the processor."""
_GOV = f"{HANDLER}/env/bin/gov"
_RUNTIME = f"{ROOT}/runtime.json"
_PROBE_SECONDS = 10.0
_PLACE_SECONDS = 60.0
_HELD = "held"


def start(mode: Mode | None, arguments: tuple[str, ...]) -> NoReturn:
    """Become what the container shall do. Raises `torch_misfit` before anything is started."""
    chosen = mode or ("runpod" if os.environ.get("RUNPOD_WEBHOOK_GET_JOB") else "http")
    if chosen != "smoke":
        _refuse_misfit(read_record(Path(ROOT)), arguments)
    runtime = _placed()
    if chosen == "page":
        argv, environment = _page(runtime)
        init.replace([*argv, *arguments], environment, signal.SIGINT)  # by which ComfyUI ends without an error
    init.replace([*_program(chosen, runtime), *arguments], dict(os.environ))


def _placed() -> Path:
    """A copy of the code in the work folder, and the runtime file that names it: many packs write beside their code,
    and the image's own is not theirs to write."""
    work = Path(WORK)
    with fs.explained(work):
        place = new_place(work)
        shutil.copytree(f"{ROOT}/ComfyUI", place / "ComfyUI", symlinks=True)
        found = msgspec.structs.replace(handler_runtime.read(Path(_RUNTIME)), comfyui=str(place / "ComfyUI"))
        (place / "runtime.json").write_bytes(msgspec.json.encode(found))
    return place / "runtime.json"


def new_place(work: Path) -> Path:
    """A new folder for a copy of the code. Those of starts that have ended are taken away; one that runs, also in
    another container on the same volume, holds the lock of its own."""
    with lock.exclusive(work / ".code.lock", "gov image start", _PLACE_SECONDS):
        for old in work.glob("code-*"):
            if lock.holder(old / _HELD) is None:
                fs.remove_tree(old)
        place = Path(tempfile.mkdtemp(prefix="code-", dir=work))
        lock.keep(place / _HELD)
    return place


def _uses_processor(arguments: tuple[str, ...] = ()) -> bool:
    return "--cpu" in arguments or os.environ.get(CPU_VARIABLE, "0").lower() not in ("", "0", "false", "no", "off")


def _refuse_misfit(found: ImageRecord, arguments: tuple[str, ...]) -> None:
    problem = "" if _uses_processor(arguments) else fit.misfit(found, fit.driver_cuda())
    if problem:
        raise GovError(
            Code.TORCH_MISFIT,
            problem,
            f"take a machine with a newer driver, or another --torch-backend; {CPU_VARIABLE}=1 uses the processor",
        )


def _program(mode: Mode, file: Path) -> list[str]:
    runtime = ["--runtime", str(file), "--work-dir", WORK]
    if mode == "smoke":
        return [_GOV, "handler", "check", "--cpu", *runtime]
    if mode == "job":
        return [_GOV, "handler", "run", *runtime, "--workflow"]
    return [_GOV, "handler", "serve", *runtime, *(["--http", f"0.0.0.0:{HTTP_PORT}"] if mode == "http" else [])]


def _page(file: Path) -> tuple[list[str], dict[str, str]]:
    """ComfyUI itself, as people see it; what it writes goes to the work folder."""
    runtime, work = handler_runtime.read(file), places.make(WORK)
    processor = ("--cpu",) if _uses_processor() and "--cpu" not in runtime.extra_args else ()
    argv = command.arguments(
        runtime.python,
        packs=runtime.packs,
        host="0.0.0.0",  # noqa: S104 (a container's ports are closed until they are published)
        port=PAGE_PORT,
        model_paths=[Path(file) for file in runtime.model_paths_files],
        extra=[*work.arguments(), *runtime.extra_args, *processor],
    )
    argv[1] = f"{runtime.comfyui}/{argv[1]}"
    environment = places.environment(work, Path(runtime.python), Path(runtime.comfyui))
    return argv, {**process.child_environment(), **environment}


def health() -> Health:
    """Of the worker in this container, else of ComfyUI's page."""
    found = handler_status.health(None)
    if found.status is None and ComfyApi("127.0.0.1", PAGE_PORT, _PROBE_SECONDS).alive():
        return Health(alive=True, ready=True, reason="ComfyUI answers")
    return found
