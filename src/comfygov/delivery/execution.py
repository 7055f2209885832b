"""One prompt on a ComfyUI, to its end. The history is the truth; the deadline holds whatever ComfyUI does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfygov.delivery import refusals
from comfygov.delivery.events import Watched
from comfygov.delivery.failure import JobFailed
from comfygov.errors import GovError

if TYPE_CHECKING:
    from collections.abc import Callable

    from comfygov.delivery.comfyui import Comfy
    from comfygov.delivery.deadline import Deadline
    from comfygov.delivery.events import Report
    from comfygov.delivery.refusals import Knowledge

_LEAST_SECONDS = 0.003
_MOST_SECONDS = 0.25
_SHARE = 0.02
"""Of the time that a prompt has taken: a long one is asked for rarely, and the answer is never late by more."""
_QUEUE_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
_POST_TRIES = 3
_DENIALS = 2
_LOOK_SECONDS = 0.5
_SILENT_SECONDS = 60.0
_DURING = "the workflow was running in ComfyUI"
Entry = dict[str, Any]


class NotTaken(JobFailed):
    """ComfyUI ended before it took the workflow: the next one may."""


@dataclass(frozen=True)
class Prompt:
    """A workflow as it is handed over, under an id of ours: a lost answer is found again by it."""

    id: str
    workflow: dict[str, Any]
    api_key: str = ""

    def body(self, client_id: str) -> dict[str, Any]:
        extra = {"api_key_comfy_org": self.api_key} if self.api_key else {}
        return {"prompt": self.workflow, "prompt_id": self.id, "client_id": client_id, "extra_data": extra}


def run(
    comfy: Comfy, prompt: Prompt, deadline: Deadline, report: Callable[[Report], None], knowledge: Knowledge
) -> Entry:
    """The history entry of a prompt that succeeded. Raises JobFailed; then it runs no more, or `Stuck`."""
    comfy.events.watch(Watched(prompt.id, len(prompt.workflow), report, deadline.wake))
    try:
        _submit(comfy, prompt, deadline, knowledge)
        entry = _wait(comfy, prompt.id, deadline)
    except JobFailed:
        comfy.events.watch(None)
        take_back(comfy, prompt.id)
        raise
    finally:
        comfy.events.watch(None)
    refusals.refuse_failed(entry)
    return entry


def _submit(comfy: Comfy, prompt: Prompt, deadline: Deadline, knowledge: Knowledge) -> None:
    """Hand it over exactly once: before another try it is looked for."""
    for attempt in range(1, _POST_TRIES + 1):
        _refuse_dead(comfy)
        try:
            status, answer = comfy.api.post("/prompt", prompt.body(comfy.client_id))
        except GovError as error:
            if _has_come(comfy, prompt.id, deadline):
                return
            if attempt == _POST_TRIES:
                raise JobFailed("comfyui_silent", error.message, retryable=True) from error
            continue
        refusals.refuse_refused(status, answer, prompt.workflow, knowledge)
        return


def _has_come(comfy: Comfy, prompt_id: str, deadline: Deadline) -> bool:
    """Whether ComfyUI has a prompt for which it gave no answer. A busy one knows it late, so that it is asked until it
    says twice that there is none: handed over again meanwhile, it would run twice. Raises JobFailed."""
    denials, until = 0, time.monotonic() + _SILENT_SECONDS
    while denials < _DENIALS:
        _refuse_dead(comfy)
        try:
            if _is_known(comfy, prompt_id):
                return True
            denials += 1
        except GovError as error:
            if time.monotonic() > until:
                raise JobFailed("comfyui_silent", error.message, retryable=True) from error
        deadline.pause(_LOOK_SECONDS, "the workflow was being handed to ComfyUI")
    return False


def _refuse_dead(comfy: Comfy) -> None:
    try:
        comfy.refuse_dead()
    except JobFailed as failure:
        error = failure.error
        raise NotTaken(error.code, error.message, error.hint, details=error.details, retryable=True) from failure


def _is_known(comfy: Comfy, prompt_id: str) -> bool:
    """Whether a prompt waits, runs or is done. Raises GovError when ComfyUI says nothing."""
    return bool(_entry(comfy, prompt_id)) or _is_queued(comfy, prompt_id) or bool(_entry(comfy, prompt_id))


def entry_of_failed(comfy: Comfy, prompt_id: str) -> Entry:
    """What a prompt that failed has made nevertheless; {} when ComfyUI says nothing."""
    try:
        return _entry(comfy, prompt_id)
    except GovError:
        return {}


def _entry(comfy: Comfy, prompt_id: str) -> Entry:
    found = comfy.api.get(f"/history/{prompt_id}").get(prompt_id)
    return found if isinstance(found, dict) else {}


def _is_queued(comfy: Comfy, prompt_id: str) -> bool:
    queue = comfy.api.get("/queue")
    items = [*(queue.get("queue_running") or ()), *(queue.get("queue_pending") or ())]
    return any(len(item) > 1 and item[1] == prompt_id for item in items)


def _wait(comfy: Comfy, prompt_id: str, deadline: Deadline) -> Entry:
    started = looked = time.monotonic()
    missing = 0
    while True:
        comfy.refuse_dead()
        deadline.check(_DURING)
        try:
            if entry := _entry(comfy, prompt_id):
                return entry
            if time.monotonic() - looked > _QUEUE_SECONDS:
                looked = time.monotonic()
                missing = 0 if _is_known(comfy, prompt_id) else missing + 1
        except GovError:
            pass  # busy: whether it lives is asked above, and the deadline holds
        if missing > 1:
            raise JobFailed("lost", "ComfyUI neither runs the workflow nor remembers it", retryable=True)
        passed = time.monotonic() - started
        deadline.pause(min(_MOST_SECONDS, max(_LEAST_SECONDS, passed * _SHARE)), _DURING)


def take_back(comfy: Comfy, prompt_id: str) -> None:
    """Out of the queue, and interrupted if it runs; errors are left to whoever looks whether it is gone."""
    try:
        comfy.api.post("/queue", {"delete": [prompt_id]})
        comfy.api.post("/interrupt", {"prompt_id": prompt_id})
    except GovError:
        pass


def is_gone(comfy: Comfy, prompt_id: str, seconds: float) -> bool:
    """Wait until a prompt that was taken back has left the queue; False when it does not, or ComfyUI is silent."""
    until = time.monotonic() + seconds
    again = time.monotonic() + _AGAIN_SECONDS
    while time.monotonic() < until:
        if comfy.service.exit_code() is not None:
            return True
        try:
            if not _is_queued(comfy, prompt_id):
                return True
        except GovError:
            pass
        if time.monotonic() > again:  # an interrupt between the queue and the first node is forgotten by ComfyUI
            again = time.monotonic() + _AGAIN_SECONDS
            take_back(comfy, prompt_id)
        time.sleep(0.05)
    return False


def forget(comfy: Comfy, prompt_id: str) -> None:
    """ComfyUI keeps 10 000 entries in memory, and each holds its whole workflow."""
    try:
        comfy.api.post("/history", {"delete": [prompt_id]})
    except GovError:
        pass  # it is gone with the process, or stays in memory
