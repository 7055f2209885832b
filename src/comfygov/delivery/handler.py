"""A job, from what a client sent to what the client gets. Everything that a job made is gone afterwards."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery import execution, inputs, kept, outputs, refusals, workflow
from comfygov.delivery import job as jobs
from comfygov.delivery.comfyui import Comfy, Supervisor
from comfygov.delivery.deadline import Deadline
from comfygov.delivery.execution import Prompt
from comfygov.delivery.failure import JobFailed
from comfygov.delivery.outputs import FileOutput, OutputMissing
from comfygov.delivery.results import Delivery
from comfygov.errors import GovError
from comfygov.model.delivery import JobResult, RunningVersion, Timing
from comfygov.ports import fs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from comfygov.delivery.events import Report
    from comfygov.delivery.inputs import Placed
    from comfygov.delivery.refusals import Knowledge
    from comfygov.model.delivery import Artifact
    from comfygov.model.handler import Settings

_BROKEN_GPU = ("CUDA error", "device-side assert", "an illegal memory access", "HIP error")
"""After these a process cannot use its GPU any more (CUDA documentation: sticky errors)."""


class Turns:
    """One at a time, in the order of coming."""

    def __init__(self) -> None:
        self._waiting: deque[object] = deque()
        self._mutex = threading.Lock()
        self._wakes: dict[object, threading.Event] = {}

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[None]:
        me = object()
        with self._mutex:
            self._waiting.append(me)
            self._wakes[me] = deadline.wake
        try:
            while self._waiting[0] is not me:
                deadline.pause(1.0, "the job waited for its turn")
            yield
        finally:
            with self._mutex:
                self._waiting.remove(me)
                del self._wakes[me]
                if self._waiting:
                    self._wakes[self._waiting[0]].set()


@dataclass
class _Work:
    """One job under way."""

    job: jobs.Job
    token: str
    deadline: Deadline
    report: Callable[[Report], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


@dataclass
class Handler:
    """Does jobs on the supervisor's ComfyUI. Usable from several threads: what is in ComfyUI takes turns, the rest
    overlaps."""

    supervisor: Supervisor
    settings: Settings
    knowledge: Knowledge
    _turns: Turns = field(default_factory=Turns)

    def deadline(self, raw: object) -> Deadline:
        """The time that a job has from now on; a wrong `timeout` is told when the job is read."""
        wanted = raw.get("timeout") if isinstance(raw, dict) else None
        is_number = isinstance(wanted, (int, float)) and not isinstance(wanted, bool)
        seconds = float(wanted) if is_number and wanted and wanted > 0 else self.settings.job_seconds
        return Deadline(min(seconds, jobs.MAX_TIMEOUT_SECONDS))

    def run(self, job_id: str, raw: object, deadline: Deadline, report: Callable[[Report], None]) -> JobResult:
        """Raises JobFailed, and nothing else."""
        try:
            job = jobs.read(job_id, raw)
            if isinstance(raw, str) and job.timeout_seconds:
                deadline.seconds = job.timeout_seconds
            return self._run(_Work(job, jobs.new_id(), deadline, report))
        except JobFailed:
            raise
        except RecursionError as error:
            raise JobFailed("bad_job", "the job is nested too deeply") from error
        except Exception as error:
            raise _as_failure(error) from error

    def warm_up(self, comfy: Comfy, document: workflow.Graph, deadline: Deadline) -> None:
        """Run a workflow on a ComfyUI that no job has yet, and throw its results away. Raises JobFailed."""
        graph = workflow.judge(document)
        work = _Work(jobs.Job("warm-up", graph), jobs.new_id(), deadline, lambda _report: None)
        found: Sequence[outputs.FileOutput | outputs.ValueOutput] = ()
        try:
            _, entry = self._executed(comfy, work, graph, inputs.Placed())
            found = outputs.collect(entry, self.supervisor.work, work.token)
        finally:
            self._clear(work.token, found)

    def _run(self, work: _Work) -> JobResult:
        root = self.supervisor.work
        work.deadline.check("the job waited")
        with work.timed("inputs"):
            graph = self._graph(work)
            placed = inputs.place(work.job.files, root.input, work.token, self.settings, work.deadline)
        found: Sequence[outputs.FileOutput | outputs.ValueOutput] = ()
        try:
            delivery = Delivery(work.job, self.settings.storage, work.deadline)
            delivery.prepare()
            prompt_id, entry = self._in_turn(work, graph, placed)
            found = self._collected(work, graph, entry)
            artifacts = self._delivered(work, delivery, _wanted(found, previews=work.job.previews))
        finally:
            placed.remove()
            self._clear(work.token, found)
        return self._result(work, prompt_id, artifacts)

    def _delivered(
        self, work: _Work, delivery: Delivery, found: Sequence[outputs.FileOutput | outputs.ValueOutput]
    ) -> Sequence[Artifact]:
        """Raises JobFailed; then the files are kept, and it says where, unless nobody wants them any more."""
        try:
            with work.timed("outputs"):
                return delivery.deliver(found)
        except Exception as error:
            failure = _as_failure(error)
            if failure.error.code == "cancelled":
                raise failure from error
            lines = kept.keep(self.supervisor.work, work.token, found)
            failure.error = msgspec.structs.replace(failure.error, details=(*failure.error.details, *lines))
            raise failure from error

    def _graph(self, work: _Work) -> workflow.Graph:
        document = work.job.workflow
        if document is None:
            document = inputs.fetch_workflow(work.job.workflow_url, self.settings, work.deadline)
        return workflow.judge(document)

    def _in_turn(self, work: _Work, graph: workflow.Graph, placed: Placed) -> tuple[str, dict[str, Any]]:
        started = time.monotonic()
        with self._turns.turn(work.deadline):
            comfy = self.supervisor.ready(work.deadline)
            work.seconds["waiting"] = time.monotonic() - started
            with work.timed("execution"):
                try:
                    return self._taken(comfy, work, graph, placed)
                finally:
                    last = self.supervisor.now  # another than `comfy` where that one had ended
                    if work.job.refresh_worker and last is not None:
                        self.supervisor.end(last, "the job asked for a fresh one")

    def _taken(self, comfy: Comfy, work: _Work, graph: workflow.Graph, placed: Placed) -> tuple[str, dict[str, Any]]:
        """By this ComfyUI, or by the next one when it ends before it takes the workflow."""
        try:
            return self._executed(comfy, work, graph, placed)
        except execution.NotTaken:
            return self._executed(self.supervisor.ready(work.deadline), work, graph, placed)

    def _executed(
        self, comfy: Comfy, work: _Work, graph: workflow.Graph, placed: Placed, *, again: bool = False
    ) -> tuple[str, dict[str, Any]]:
        refusals.refuse_unknown_classes(graph, comfy.classes, self.knowledge)
        own = workflow.own(graph, work.token, comfy.classes, placed.new_name)
        api_key = work.job.api_key or os.environ.get("COMFY_ORG_API_KEY", "")
        prompt = Prompt(f"{work.token}{'-again' if again else ''}", own, api_key)
        try:
            entry = execution.run(comfy, prompt, work.deadline, work.report, self.knowledge)
            outputs.collect(entry, self.supervisor.work, work.token)
        except OutputMissing:
            if again:
                raise
            comfy.api.post("/free", {"free_memory": True})
            return self._executed(comfy, work, graph, placed, again=True)
        except JobFailed as failure:
            self._settle(comfy, prompt.id, failure)
            for path in outputs.previews(execution.entry_of_failed(comfy, prompt.id), self.supervisor.work):
                path.unlink(missing_ok=True)
            raise
        finally:
            execution.forget(comfy, prompt.id)
        return prompt.id, entry

    def _settle(self, comfy: Comfy, prompt_id: str, failure: JobFailed) -> None:
        """After a failed job the next one finds a ComfyUI that is free: one that goes on is ended."""
        if any(word in line for word in _BROKEN_GPU for line in (failure.error.message, *failure.error.details)):
            self.supervisor.end(comfy, "its GPU is in an error state")
        elif not execution.is_gone(comfy, prompt_id, self.settings.interrupt_seconds):
            self.supervisor.end(comfy, f"a workflow did not stop when it was interrupted ({failure.error.code})")

    def _collected(
        self, work: _Work, graph: workflow.Graph, entry: dict[str, Any]
    ) -> list[outputs.FileOutput | outputs.ValueOutput]:
        found = outputs.collect(entry, self.supervisor.work, work.token)
        comfy = self.supervisor.now
        told = {one.node_id for one in found}
        silent = [node for node in workflow.savers(graph, comfy.classes if comfy else {}) if node not in told]
        if silent and "" not in told:
            names = ", ".join(f"{node} ({graph[node]['class_type']})" for node in silent[:5])
            message = f"the workflow ended, and node {names} saved nothing"
            raise JobFailed("no_output", message, "a node before it blocks its inputs; the worker's log may say why")
        return found

    def _clear(self, token: str, found: Sequence[outputs.FileOutput | outputs.ValueOutput]) -> None:
        """The job's folder, and previews that its nodes named. What lies elsewhere may be others' too."""
        root = self.supervisor.work
        for one in found:
            if isinstance(one, FileOutput) and one.path.is_relative_to(root.temp):
                one.path.unlink(missing_ok=True)
        fs.remove_tree(root.output / token)
        fs.remove_tree(root.temp / token)

    def _result(self, work: _Work, prompt_id: str, artifacts: Sequence[Any]) -> JobResult:
        took = {name: round(seconds, 4) for name, seconds in work.seconds.items()}
        images = tuple(one for one in artifacts if one.media_type.startswith("image/"))
        runtime = self.supervisor.runtime
        return JobResult(
            images=images,
            artifacts=tuple(one for one in artifacts if not one.media_type.startswith("image/")),
            timing=Timing(**took, total=round(work.deadline.passed(), 4)),
            version=RunningVersion(runtime.version, runtime.digest),
            prompt_id=prompt_id,
        )


def _as_failure(error: Exception) -> JobFailed:
    """Any error as the failure of a job."""
    if isinstance(error, JobFailed):
        return error
    if isinstance(error, (GovError, OSError)):
        known = error if isinstance(error, GovError) else fs.explain_os_error(error)
        return JobFailed(known.code.text, known.message, known.hint, retryable=True)
    return JobFailed("internal", f"comfygov made a mistake: {type(error).__name__}: {error}")


def _wanted(
    found: Sequence[outputs.FileOutput | outputs.ValueOutput], *, previews: bool
) -> list[outputs.FileOutput | outputs.ValueOutput]:
    """Previews come along when they are asked for, or when nothing else was made."""
    saved = [one for one in found if not (isinstance(one, FileOutput) and one.preview)]
    has_files = any(isinstance(one, FileOutput) for one in saved)
    return list(found) if previews or not has_files else saved
