"""`gov demo`: the whole life of a change on an embedded stand-in for ComfyUI, with real uv, git and PyPI."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.demo import repositories
from comfygov.errors import Code, GovError
from comfygov.ops import history, init, nodes, planning, run, sync, tx_promote, tx_run, tx_view
from comfygov.ops.context import Context, open_home
from comfygov.ops.init_settings import InitRequest
from comfygov.ports import fs
from comfygov.ports.comfy_api import ComfyApi, free_port
from comfygov.ports.git import Git
from comfygov.ports.progress import Silent
from comfygov.truth import checkouts
from comfygov.truth.home import cache_root, is_home

if TYPE_CHECKING:
    from comfygov.model.tx import Transaction
    from comfygov.ports.progress import Progress

WORKFLOW_SECONDS = 60.0


class DemoResult(msgspec.Struct, frozen=True):
    """`production_untouched` compares all of production before and after the trial that failed."""

    home: str
    picture: str
    picture_sha256: str
    promoted: str
    failed: str
    production_untouched: bool
    rollback_seconds: float


class _Demo:
    """The steps, each of which says the command that it stands for and what came of it."""

    def __init__(self, directory: Path, progress: Progress) -> None:
        self.directory = directory
        self.progress = progress
        self.home = directory / "home"

    def say(self, command: str, outcome: str) -> None:
        self.progress.note(f"$ {command}")
        self.progress.note(f"    {outcome}")

    def context(self) -> Context:
        return open_home(str(self.home), "gov demo", Silent())

    def source(self, name: str) -> str:
        """Write an embedded tree as a git repository of its own."""
        path = self.directory / "sources" / name
        if name == "ComfyUI":
            repositories.write_standin(path)
        else:
            repositories.write_pack(name, path)
        Git(cache_root() / "git").make_repository(path, f"{name} of the comfygov demo")
        return str(path)


def demo(directory: Path, progress: Progress) -> DemoResult:
    """Play the life of a change in `directory` and leave the home there to explore."""
    directory = directory.absolute()
    _clear_unfinished(directory)
    if directory.exists() and any(directory.iterdir()):
        raise GovError(
            Code.ALREADY_EXISTS, f"{directory} is not empty", "gov demo --path NEW_DIR, or remove that folder"
        )
    play = _Demo(directory, progress)
    _init(play)
    promoted = _good_pack(play)
    failed, untouched = _bad_pack(play)
    seconds = _there_and_back(play, promoted)
    picture = _picture(play)
    return DemoResult(
        home=str(play.home),
        picture=str(picture),
        picture_sha256=hashlib.sha256(picture.read_bytes()).hexdigest(),
        promoted=promoted.txid,
        failed=failed.txid,
        production_untouched=untouched,
        rollback_seconds=seconds,
    )


def _clear_unfinished(directory: Path) -> None:
    """A demo that came to no snapshot (no network) is begun anew, not refused."""
    home, sources = directory / "home", directory / "sources"
    there = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
    is_ours = there == {"home", "sources"} and is_home(home) and (sources / "ComfyUI" / "main.py").is_file()
    if is_ours and not any((home / "state" / name).exists() for name in ("head.json", "audit.jsonl", "run.json")):
        fs.remove_tree(home)
        fs.remove_tree(sources)


def _init(play: _Demo) -> None:
    source = play.source("ComfyUI")
    play.progress.note("A small stand-in plays ComfyUI here; uv, git, PyPI and the sandbox are real.")
    result = init.initialise(InitRequest(root=play.home, repo=source), "gov demo", Silent())
    play.say(
        f"gov init --path {play.home} --repo {source}",
        f"packages locked and sealed ({result.packages}), ComfyUI booted once: snapshot {result.snapshot}",
    )


def _try(play: _Demo, name: str) -> Transaction:
    source = play.source(name)
    added = nodes.add(play.context(), nodes.AddRequest(source))
    play.say(f"gov node add {source}", f"registered at {added.plugin.commit[:10]}; production does not load it yet")
    tx = tx_run.run(play.context(), planning.TxRequest(((name, None),)))
    verdict = "may be promoted" if tx.status == "completed" else f"refused: {'; '.join(tx_view.blockers(tx))}"
    changes = ", ".join(tx.diff.lines()) or "no package changes"
    play.say(f"gov tx run {name}", f"{tx.txid} booted on a full copy ({changes}): {verdict}")
    return tx


def _good_pack(play: _Demo) -> Transaction:
    tx = _try(play, "qr-picture")
    done = tx_promote.promote(play.context(), tx_promote.PromoteRequest(tx.txid))
    took = sum(done.stage_seconds.values())
    play.say(f"gov tx promote {tx.txid}", f"in production after {took:.2f} s: snapshot {done.snapshot.id}")
    return done.transaction


def _bad_pack(play: _Demo) -> tuple[Transaction, bool]:
    source = play.source("boot-breaker")
    nodes.add(play.context(), nodes.AddRequest(source))
    before = _production_digest(play.context())
    tx = tx_run.run(play.context(), planning.TxRequest((("boot-breaker", None),)))
    play.say(f"gov node add {source}; gov tx run boot-breaker", f"{tx.txid} refused: {tx.error}")
    tx = tx_view.abort(play.context(), tx.txid)
    untouched = _production_digest(play.context()) == before
    same = "is bit for bit what it was" if untouched else "HAS CHANGED"
    play.say(f"gov tx abort {tx.txid}", f"production {same} (sha256 {before[:16]}…)")
    return tx, untouched


def _production_digest(context: Context) -> str:
    """sha256 over head, truth, every commit, the link, and every file of the environment."""
    state = context.head_state()
    digest = hashlib.sha256(context.home.head_file.read_bytes())
    for name in sorted(state.truth()):
        digest.update(context.home.truth_path(name).read_bytes())
    for _, checkout, _, _ in checkouts.targets(context.home, state):
        digest.update(str(context.git.head(checkout)).encode())
    digest.update(os.readlink(context.home.production_link).encode())  # noqa: PTH115
    for path in sorted(context.generations.path(state.generation).rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _there_and_back(play: _Demo, promoted: Transaction) -> float:
    before = str(promoted.promotion.snapshot_pre)
    after = play.context().snapshots.require_head().snapshot
    back = history.rollback(play.context(), before, restart=False, reason="demo")
    play.say(f"gov rollback {before}", f"{', '.join(back.difference.packages.lines())}: after {back.seconds:.3f} s")
    forth = history.rollback(play.context(), after, restart=False, reason="demo")
    play.say(f"gov rollback {after}", f"and forward again, after {forth.seconds:.3f} s")
    if sync.drift(play.context(), play.context().head_state(), thorough=True):
        raise GovError(Code.HOME_DAMAGED, "production is not what head says", f"gov status --home {play.home}")
    return back.seconds


def _picture(play: _Demo) -> Path:
    port = free_port()
    started = run.run(play.context(), run.RunRequest(("--port", str(port)), detach=True))
    try:
        play.say(f"gov run --detach -- --port {port}", f"production answers on {started.url}")
        picture = play.directory / "picture.png"
        fs.write_atomic(picture, _run_workflow(ComfyApi("127.0.0.1", port), repositories.workflow_path("qr")))
    finally:
        run.stop(play.context())
    play.say("a workflow through production's HTTP API", f"its picture is {picture}")
    return picture


def _run_workflow(api: ComfyApi, workflow: Path) -> bytes:
    prompt_id = secrets.token_hex(16)
    api.submit(msgspec.json.decode(workflow.read_bytes()), prompt_id)
    outputs = api.result(prompt_id, WORKFLOW_SECONDS)["outputs"]
    image = next(image for output in outputs.values() for image in output.get("images", ()))
    return api.view(image["filename"], image["subfolder"], image["type"])
