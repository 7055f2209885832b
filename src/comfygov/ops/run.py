"""`gov run|stop|logs`: production as head says, from its sealed environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.ops import production, sync
from comfygov.ops.context import changing
from comfygov.truth import checkouts

if TYPE_CHECKING:
    from comfygov.ops.context import Context


class RunRequest(msgspec.Struct, frozen=True):
    """`args` are handed to ComfyUI as they are; `quiet_stdout` keeps its words off our standard output."""

    args: tuple[str, ...] = ()
    sync_first: bool = False
    detach: bool = False
    wait_seconds: float | None = None
    quiet_stdout: bool = False


class LogText(msgspec.Struct, frozen=True):
    path: str
    lines: tuple[str, ...]


def run(context: Context, request: RunRequest) -> production.Started:
    """Start production; in the foreground it returns when ComfyUI ends."""
    with changing(context):
        if request.sync_first or context.config.run.sync_before_run:
            sync.repair(context)
        _refuse_damage(context)
        launched = production.launch(context, request.args, detach=request.detach, quiet_stdout=request.quiet_stdout)
    if not request.detach:
        context.progress.note(f"ComfyUI starts on {launched.url} (Ctrl-C ends it)")
        return production.attend(context, launched)
    return production.until_ready(context, launched, request.wait_seconds or context.config.tx.timeout_seconds)


def _refuse_damage(context: Context) -> None:
    state = context.head_state()
    checkouts.refuse_lost_place(context.home, context.git, state)
    found = sync.drift(context, state, thorough=True)
    if found:
        raise GovError(
            Code.ENVIRONMENT_DAMAGED,
            "production is not what head says",
            "gov sync repairs it (or: gov run --sync)",
            tuple(found[:20]),
        )


def stop(context: Context) -> production.Stopped:
    return production.stop(context)


def logs(context: Context, lines: int, txid: str | None) -> LogText:
    """The end of production's log, or of a trial's (standard error: ComfyUI logs there)."""
    if txid is None:
        path = context.home.logs / "comfyui.log"
    else:
        path = context.home.root / context.transactions.load(txid).logs.stderr
    if not path.is_file():
        raise GovError(Code.NOT_FOUND, f"there is no log {path}", "gov run --detach writes one")
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return LogText(str(path), tuple(text[-lines:] if lines else text))
