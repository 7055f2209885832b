"""One running ComfyUI, and the supervisor that always wants there to be one."""

from __future__ import annotations

import signal
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from comfygov.delivery import work as places
from comfygov.delivery.events import Events
from comfygov.delivery.failure import JobFailed
from comfygov.delivery.logs import Follower
from comfygov.delivery.websocket import Listener
from comfygov.errors import Code, GovError
from comfygov.ports import process
from comfygov.ports.comfy_api import ComfyApi, free_port
from comfygov.trial import boot, command, health

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.delivery.deadline import Deadline
    from comfygov.delivery.work import Work
    from comfygov.model.delivery import Runtime
    from comfygov.model.handler import Settings
    from comfygov.model.state import Baseline

_STOP_SECONDS = 10.0
_API_SECONDS = 10.0
_MOST_STARTS = 3
_AGAIN_SECONDS = 1.0
State = Literal["starting", "ready", "failed", "stopping"]
_NO_GPU = ("Torch not compiled with CUDA enabled", "Found no NVIDIA driver", "No CUDA GPUs are available")


@dataclass(frozen=True)
class NodeClass:
    """What matters here of a node class: where it comes from, and whether it makes results."""

    module: str
    is_output: bool


@dataclass
class Comfy:
    """A ComfyUI that was ready. `number` counts the starts of this worker."""

    number: int
    api: ComfyApi
    service: process.Service
    follower: Follower
    events: Events
    client_id: str
    health: Baseline
    classes: dict[str, NodeClass]
    device: str
    why_ended: str = ""

    def refuse_dead(self) -> None:
        """Raises JobFailed `comfyui_died` with the end of its log when it runs no more."""
        code = self.service.exit_code()
        if code is None:
            return
        how = "was killed (out of memory?)" if code == -signal.SIGKILL else f"ended with {_ending(code)}"
        message = self.why_ended or f"ComfyUI {how} while the job ran"
        raise JobFailed("comfyui_died", message, "the end of its log says why", details=self.follower.tail())


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@dataclass
class Supervisor:
    """Starts ComfyUI, and again when it has ended. `prepare` is called with each before it counts as ready, `say`
    with its log lines, `changed` when `state` is another; `expects` is what the version showed when it was made."""

    runtime: Runtime
    work: Work
    settings: Settings
    expects: Baseline
    say: Callable[[str], None]
    prepare: Callable[[Comfy], None] = lambda _comfy: None
    changed: Callable[[], None] = lambda: None
    starts: int = 0
    restarts: int = 0
    _now: Comfy | None = None
    _failed: GovError | None = None
    _stopping: bool = False
    _service: process.Service | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None

    # -- for the outside ---------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="comfyui supervisor", daemon=True)
        self._thread.start()

    @property
    def now(self) -> Comfy | None:
        """The ComfyUI that is ready, if there is one."""
        return self._now

    @property
    def failure(self) -> GovError | None:
        """Why there will be none any more."""
        return self._failed

    @property
    def state(self) -> State:
        if self._stopping:
            return "stopping"
        if self._failed:
            return "failed"
        return "ready" if self._now is not None else "starting"

    def first(self) -> Comfy:
        """Wait for the first one; raises GovError with the reason that there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._now or self._failed or self._stopping)
            if self._failed:
                raise self._failed
            if self._now is None:
                raise GovError(Code.INTERRUPTED, "the worker was stopped while ComfyUI started")
            return self._now

    def ready(self, deadline: Deadline) -> Comfy:
        """Wait for one that is ready; raises JobFailed."""
        while True:
            now = self._now
            if now is not None and now.service.exit_code() is None:
                return now
            if self._failed:
                raise JobFailed("not_ready", self._failed.message, details=self._failed.details, retryable=True)
            deadline.pause(0.05, "ComfyUI was being started")

    def end(self, comfy: Comfy, why: str) -> None:
        """End this one; the next is started by itself. One that has ended already stays as it is."""
        if comfy.service.exit_code() is not None:
            return
        comfy.why_ended = why
        self.say(f"comfygov: ComfyUI is started anew: {why}")
        comfy.service.stop(signal.SIGKILL, 0.0)

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._service is not None:
            self._service.stop(signal.SIGTERM, _STOP_SECONDS)
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS + 10)
        places.end_left_running(self.work)

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                comfy = self._boot()
            except Exception as error:  # noqa: BLE001 (it must not die unheard)
                failures += 1
                if self.starts == 0 or failures >= _MOST_STARTS or self._stopping:
                    self._give_up(error)
                    return
                self.say(f"comfygov: ComfyUI did not start: {error}")
                self._rest(_AGAIN_SECONDS * failures)
                continue
            failures = 0
            self._attend(comfy)

    def _give_up(self, error: Exception) -> None:
        known = error if isinstance(error, GovError) else GovError(Code.INTERNAL, f"comfygov made a mistake: {error!r}")
        with self._changed:
            self._failed = known
            self._changed.notify_all()
        self.changed()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _attend(self, comfy: Comfy) -> None:
        """Until it ends; then nothing of it is left."""
        with self._changed:
            self._now = comfy
            self.restarts += self.starts > 0
            self.starts += 1
            self._changed.notify_all()
        self.changed()
        comfy.service.wait()
        self._now = None
        self.changed()
        comfy.events.wake()
        self._clear(comfy.service, comfy.follower, comfy.events)

    @staticmethod
    def _clear(service: process.Service, follower: Follower, events: Events) -> None:
        service.stop(signal.SIGKILL, 0.0)
        process.end_marked(service.run_id)
        events.stop()
        follower.stop()

    def _boot(self) -> Comfy:
        runtime, port = self.runtime, free_port()
        python, tree = Path(runtime.python), Path(runtime.comfyui)
        argv = command.arguments(
            runtime.python,
            packs=runtime.packs,
            host=command.DEFAULT_HOST,
            port=port,
            model_paths=[Path(file) for file in runtime.model_paths_files],
            extra=[*self.work.arguments(), *runtime.extra_args],
        )
        self.work.log.unlink(missing_ok=True)
        follower = Follower(self.work.log, self.say)
        follower.start()
        environment = places.environment(self.work, python, tree)
        run_id = places.new_run_id(self.work)
        service = process.start_service(argv, cwd=tree, env=environment, run_id=run_id, stdout=self.work.log)
        client_id = uuid.uuid4().hex
        events = Events(lambda heard: Listener(command.DEFAULT_HOST, port, client_id, heard))
        try:
            self._service = service
            comfy = self._readied(service, port, follower, events, client_id)
            self.prepare(comfy)
        except BaseException:
            self._clear(service, follower, events)
            raise
        return comfy

    def _readied(
        self, service: process.Service, port: int, follower: Follower, events: Events, client_id: str
    ) -> Comfy:
        if self._stopping:
            raise GovError(Code.INTERRUPTED, "the worker was stopped while ComfyUI started")
        api = ComfyApi(command.DEFAULT_HOST, port, _API_SECONDS)
        try:
            seconds = boot.wait_until_ready(api, service, self.settings.start_seconds, self.work.log)
            patient = ComfyApi(command.DEFAULT_HOST, port, self.settings.start_seconds)
            stats, info = patient.system_stats(), patient.object_info()
        except boot.BootFailed as error:
            raise _explained(error) from error
        found = health.judge(stats, info, boot.end_of(self.work.log), seconds)
        refuse_unhealthy(self.runtime, self.expects, found)
        device = _device(stats)
        if device == "cpu" and "--cpu" not in self.runtime.extra_args:
            message = "ComfyUI came up on the processor, and was not told to"
            raise GovError(Code.NOT_READY, message, "start it where a GPU is visible, or with --cpu")
        events.start()
        return Comfy(self.starts + 1, api, service, follower, events, client_id, found, _classes(info), device)


def refuse_unhealthy(runtime: Runtime, expects: Baseline, found: Baseline) -> None:
    """Raises GovError `not_ready` when a pack of the version did not load that loaded when it was made."""
    lines = []
    for name in runtime.packs:
        known, now = expects.pack(name), found.pack(name)
        if known is not None and not known.loaded:
            continue
        if now is None or not now.loaded:
            lines.append(f"{name}: {now.reason if now else 'ComfyUI does not list it'}")
    if lines:
        what = f"{len(lines)} of {len(runtime.packs)} packs of version {runtime.version} did not load"
        raise GovError(Code.NOT_READY, what, "gov tx run shows why a pack does not load", tuple(lines))


def _explained(error: boot.BootFailed) -> GovError:
    if any(words in line for line in error.details for words in _NO_GPU):
        message = "ComfyUI ended while it started: no GPU is there that its torch can use"
        return GovError(
            Code.NOT_READY, message, "start it where a GPU and its driver are visible, or with --cpu", error.details
        )
    return error


def _device(stats: dict[str, Any]) -> str:
    devices = stats.get("devices") or [{}]
    return str(devices[0].get("type", "")) if isinstance(devices[0], dict) else ""


def _classes(info: dict[str, Any]) -> dict[str, NodeClass]:
    return {
        name: NodeClass(str(schema.get("python_module", "")), schema.get("output_node") is True)
        for name, schema in info.items()
        if isinstance(schema, dict)
    }
