"""A handler with its ComfyUI, for as long as a block runs."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery import kept, refusals, sinks, work
from comfygov.delivery.comfyui import Comfy, Supervisor
from comfygov.delivery.deadline import Deadline
from comfygov.delivery.failure import JobFailed, sentence
from comfygov.delivery.handler import Handler
from comfygov.delivery.results import refuse_bad_template
from comfygov.errors import Code, GovError
from comfygov.model.state import Baseline
from comfygov.models import workflow as model_names
from comfygov.models.folders import Folders, read_extra_paths
from comfygov.ops import handler_runtime
from comfygov.ops.handler_runtime import VersionChoice
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfygov.model.delivery import Runtime
    from comfygov.model.handler import Settings, Storage
    from comfygov.model.version import VersionLock
    from comfygov.ports.progress import Progress

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAST_BYTES = 16 << 20
_MAX_WORKFLOW_BYTES = 200_000_000


class WorkerRequest(msgspec.Struct, frozen=True):
    """`warm_up` is a workflow that is run before ComfyUI counts as ready; `work_dir` "" is a fresh temporary one."""

    choice: VersionChoice
    work_dir: str = ""
    warm_up: str = ""


@contextmanager
def worker(
    request: WorkerRequest, settings: Settings, command: str, progress: Progress, say: Callable[[str], None]
) -> Iterator[Handler]:
    """ComfyUI is being started when the block begins; it and all that it started are gone when it ends. Ctrl-C and
    SIGTERM end the block."""
    refuse_bad_storage(settings.storage)
    runtime, locked = handler_runtime.choose(request.choice, command, progress)
    graph = read_workflow(Path(request.warm_up)) if request.warm_up else None
    with _ended_by_signals() as ending, work.held(request.work_dir, command) as place:
        with fs.explained(place.root):
            kept.take_over(place)
        work.refuse_little_space(place, _LEAST_BYTES)
        expects = locked.expects if locked else Baseline()
        supervisor = Supervisor(runtime, place, settings, expects, say)
        handler = Handler(supervisor, settings, knowledge(runtime, locked))
        if graph is not None:
            supervisor.prepare = lambda comfy: _warm_up(supervisor, comfy, handler, graph)
        supervisor.start()
        try:
            yield handler
        finally:
            ending.set()
            supervisor.stop()


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and a closed terminal become KeyboardInterrupt, so that everything is cleared away. Once the
    event is set they do nothing: another one would leave ComfyUI running."""
    ending = threading.Event()

    def hand_on(_number: int, _frame: object) -> None:
        if not ending.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {number: signal.signal(number, hand_on) for number in _ENDS}
    try:
        yield ending
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def refuse_bad_storage(storage: Storage) -> None:
    """Raises GovError before anything is started."""
    try:
        refuse_bad_template(storage.object_name)
    except ValueError as error:
        raise GovError(Code.USAGE, f"--object-name: {error}", "--object-name '{job_id}/{filename}'") from error
    mode = sinks.default_output(storage)
    if mode == "file" and not storage.folder:
        raise GovError(Code.USAGE, "--output file needs a folder", "--out-dir DIR")


def _warm_up(supervisor: Supervisor, comfy: Comfy, handler: Handler, graph: dict[str, Any]) -> None:
    try:
        handler.warm_up(comfy, graph, Deadline(supervisor.settings.job_seconds))
    except JobFailed as failure:
        raise GovError(
            Code.NOT_READY,
            "the warm-up workflow failed",
            "check --warm-up",
            tuple(sentence(failure.error).splitlines()),
        ) from failure


def knowledge(runtime: Runtime, locked: VersionLock | None) -> refusals.Knowledge:
    """What the version knows about classes and models, for the errors of jobs."""
    packs = locked.expects.packs if locked else ()
    pack_of = {name: pack.name for pack in packs for name in pack.classes}
    models = {model.target_path: (model.sources or ("",))[0] for model in (locked.models if locked else ())}
    extra = read_extra_paths([Path(file) for file in runtime.model_paths_files])
    folders = Folders(Path(runtime.comfyui, "models"), extra=extra)

    def model(class_type: str, name: str, value: str) -> refusals.Missing | None:
        found = model_names.models_of({"1": {"class_type": class_type, "inputs": {name: value}}})
        if not found:
            return None
        folder = found[0].folder
        places = tuple(str(place / found[0].name) for place in folders.of_kind(folder)) if folder else ()
        locked_at = next((path for path in models if path.split("/")[-1] == found[0].name.split("/")[-1]), "")
        return refusals.Missing(folder or "its kind of models", places, models.get(locked_at) or locked_at)

    return refusals.Knowledge(runtime.version, pack_of, model)


def read_workflow(path: Path) -> dict[str, Any]:
    """Raises `not_found`, `bad_source`."""
    try:
        data = path.expanduser().read_bytes()
        if len(data) > _MAX_WORKFLOW_BYTES:
            raise GovError(Code.BAD_SOURCE, f"{path} is too large for a workflow")
        return msgspec.json.decode(data, type=dict[str, Any])
    except (FileNotFoundError, IsADirectoryError) as error:
        raise GovError(Code.NOT_FOUND, f"there is no workflow {path}", "check the path") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        hint = "export it in ComfyUI with Workflow > Export (API)"
        raise GovError(Code.BAD_SOURCE, f"{path} is no workflow: {error}", hint) from error
