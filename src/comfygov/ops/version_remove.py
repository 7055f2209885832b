"""`gov version remove`: take a home away, and nothing that comfygov did not make."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.version import WHEELS
from comfygov.ops import production
from comfygov.ops.context import LOCK_WAIT_SECONDS, open_home
from comfygov.ports import fs, lock
from comfygov.ports.git import recorded_source
from comfygov.truth import checkouts
from comfygov.truth.home import is_home, refuse_source_checkout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context
    from comfygov.ports.git import Git
    from comfygov.ports.progress import Progress

_BY_PRODUCTS = ("__pycache__",)


class RemoveRequest(msgspec.Struct, frozen=True):
    target: str
    remove_models: bool = False
    dry_run: bool = False


class Removal(msgspec.Struct, frozen=True):
    """`kept` are paths that stay, and why: what is yours, and models unless they were asked for. `gone` says that
    nothing is left at all."""

    home: str
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    dry_run: bool
    gone: bool


def remove(request: RemoveRequest, command: str, progress: Progress) -> Removal:
    """Raises `not_a_home`, `usage` for places that are no home to be removed, `running`, `busy`."""
    root = Path(request.target).expanduser().absolute()
    _refuse_odd(root)
    context = open_home(str(root), command, progress)
    _refuse_running(context)
    if request.dry_run:
        return _removal(context, request)
    with lock.exclusive(context.home.lock_file, command, LOCK_WAIT_SECONDS):
        _refuse_running(context)
        plan = _removal(context, request)
        with fs.explained(root):
            _carry_out(context, request)
    return msgspec.structs.replace(plan, gone=_drop_empty(root))


def _refuse_odd(root: Path) -> None:
    refuse_source_checkout(root)
    if root.is_symlink():
        raise GovError(Code.USAGE, f"{root} is a link", f"name what it leads to: {root.resolve()}")
    real = root.resolve()
    if real in (Path("/"), Path.home().resolve()) or Path.home().resolve().is_relative_to(real):
        raise GovError(Code.USAGE, f"{root} holds a person's files and is never removed", "name a home with --target")
    if not is_home(root):
        raise GovError(Code.NOT_A_HOME, f"{root} is no governed home, so nothing of it is removed", "check --target")


def _refuse_running(context: Context) -> None:
    running = production.running(context)
    if running is not None:
        raise GovError(Code.RUNNING, f"ComfyUI of {context.home.root} runs (pid {running.pid})", "gov stop")


def _own(context: Context) -> Iterator[Path]:
    """What comfygov made as a whole, in the order in which it goes; what says that this is a home goes last."""
    home = context.home
    yield from (home.production_link, home.activate_link, home.venvs, home.candidates)
    yield from (home.root / WHEELS, home.model_paths_file, home.root / "uv.lock", home.root / "pyproject.toml")
    yield from (home.snapshots, home.state)
    yield home.config_file


def _removal(context: Context, request: RemoveRequest) -> Removal:
    root = context.home.root
    own = [path for path in _own(context) if os.path.lexists(path)]
    kept = [f"{path}: {_why_kept(path)}" for path in _others(context, own)]
    inside = _is_inside(context, context.home.comfyui)
    if inside:
        kept += [f"{context.home.comfyui / name}: yours" for name in _yours(context)]
    elif context.home.comfyui.exists():
        kept.append(f"{context.home.comfyui}: it was there before, and is not in the home")
    code = [context.home.comfyui] if inside else []
    models = [context.home.models] if _has_models(context) else []
    if models and not request.remove_models:
        kept.append(f"{context.home.models}: models stay (--remove-models)")
    removed = [*code, *(models if request.remove_models and _is_inside(context, context.home.models) else []), *own]
    return Removal(str(root), tuple(map(str, removed)), tuple(kept), request.dry_run, gone=False)


def _why_kept(path: Path) -> str:
    return "versions stay: they are how to make it again" if path.name == "lockfiles" else "not made by comfygov"


def _has_models(context: Context) -> bool:
    folder = context.home.models
    return folder.is_dir() and any(files for _, _, files in os.walk(folder))


def _is_inside(context: Context, path: Path) -> bool:
    """Whether a folder is really in the home: not by a link, and not given from elsewhere."""
    return path.is_dir() and not path.is_symlink() and path.resolve().is_relative_to(context.home.root.resolve())


def _others(context: Context, own: list[Path]) -> list[Path]:
    known = {*own, context.home.comfyui, context.home.models}
    return [
        path for path in sorted(context.home.root.iterdir()) if path not in known and fs.leftover_of(path.name) is None
    ]


def _yours(context: Context) -> list[str]:
    """Files below ComfyUI that no commit of head has as they are, and what comfygov does not know. Where that
    cannot be told, after a removal that was killed, it is everything."""
    tree = context.home.comfyui
    everything = sorted(path.name for path in tree.iterdir())
    if not context.home.snapshots.is_dir() or context.git.head(tree) is None:
        return everything
    found: list[str] = []
    packs = set()
    for _, checkout, source, _ in checkouts.targets(context.home, context.head_state()):
        inside = checkout.relative_to(tree).as_posix()
        if checkout.is_symlink() or context.git.head(checkout) is None:
            continue  # what is there is none of ours, and ComfyUI's own listing has it
        if _has_own_commits(context, checkout, source):
            found += [inside] if checkout != tree else everything
            continue
        packs.add(f"{inside}/")
        found += [f"{inside}/{name}".removeprefix("./") for name in _yours_in(context.git, checkout)]
    return sorted({name for name in found if name not in packs})


def _has_own_commits(context: Context, checkout: Path, source: str) -> bool:
    git = context.git
    return git.has_stash(checkout) or git.own_commits(checkout, git.cache_of(recorded_source(source)))


def _yours_in(git: Git, checkout: Path) -> Iterator[str]:
    yield from (name for name in git.edited(checkout) if os.path.lexists(checkout / name))
    for name in git.untracked(checkout, ignored=True):
        if not any(part in _BY_PRODUCTS for part in name.split("/")):
            yield name
    at = git.head(checkout)
    if at is not None:
        for path, _, _ in git.submodules(checkout, at):
            if git.head(checkout / path) is not None:
                yield from (f"{path}/{name}" for name in _yours_in(git, checkout / path))


def _carry_out(context: Context, request: RemoveRequest) -> None:
    if _is_inside(context, context.home.comfyui):
        _remove_but(context.home.comfyui, _yours(context))
    may_go = request.remove_models or not _has_models(context)
    if may_go and _is_inside(context, context.home.models):
        fs.remove_tree(context.home.models)
    for path in _own(context):
        if os.path.lexists(path):
            fs.remove_tree(path)


def _remove_but(tree: Path, yours: list[str]) -> None:
    """Remove `tree`; files of yours stay where they are."""
    if not yours:
        fs.remove_tree(tree)
        return
    kept = {str(tree / name).rstrip("/") for name in yours}
    folders = {parent for name in kept for parent in map(str, Path(name).parents)}
    for folder, names, files in os.walk(tree, topdown=True):
        for name in list(names):
            path = os.path.join(folder, name)  # noqa: PTH118
            if path in kept:
                names.remove(name)
            elif os.path.islink(path):  # noqa: PTH114
                os.unlink(path)  # noqa: PTH108
                names.remove(name)
            elif path not in folders:
                shutil.rmtree(path)
                names.remove(name)
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118
            if path not in kept:
                os.unlink(path)  # noqa: PTH108


def _drop_empty(root: Path) -> bool:
    if any(root.iterdir()):
        return False
    root.rmdir()
    return True
