"""`gov init`: one command from a machine to a governed ComfyUI; running it again repairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import Code, GovError
from comfygov.model.state import Baseline, ComfyUIPin, Declaration, Head, Registry
from comfygov.model.version import WHEELS
from comfygov.ops import adoption, claims, committing, locking, recovering, sync, trying
from comfygov.ops.adopting import Adopted, AdoptionFinding
from comfygov.ops.context import Context, changing, open_home, work_directory
from comfygov.ops.init_settings import (
    InitRequest,
    adopted_environment,
    as_of_time,
    refuse_late_changes,
    wanted_settings,
)
from comfygov.ports import clones, faults, fs
from comfygov.ports.git import parse_source, recorded_source
from comfygov.ports.progress import Stages
from comfygov.resolve import requirements, torch_family
from comfygov.trial import boot, command
from comfygov.truth import audit, checkouts, rescue, settings
from comfygov.truth.home import Home, is_home, refuse_source_checkout
from comfygov.truth.snapshots import Origin, State

if TYPE_CHECKING:
    from comfygov.model.state import SnapshotMeta
    from comfygov.ports.git import Git
    from comfygov.ports.progress import Progress

OFFICIAL_REPOSITORY = "https://github.com/comfyanonymous/ComfyUI.git"
_INIT_WORK = "init"
_FIRST_FILES = frozenset({"state", "config.toml", WHEELS})


class InitResult(msgspec.Struct, frozen=True):
    """`created` is False when the home was there already and was checked and repaired. `adopted` are the packs of an
    existing install that are registered, `findings` what of it was not taken, or not as one would think."""

    home: str
    created: bool
    snapshot: str
    generation: str
    comfyui_commit: str
    packages: int
    baseline: Baseline
    unmanaged: tuple[str, ...]
    repaired: tuple[str, ...]
    stage_seconds: dict[str, float]
    adopted: tuple[str, ...] = ()
    findings: tuple[AdoptionFinding, ...] = ()


def initialise(request: InitRequest, command_line: str, progress: Progress) -> InitResult:
    """Make or repair the home at `request.root`."""
    root = request.root.expanduser().absolute()
    refuse_source_checkout(root)
    before = _Before.of(root)
    try:
        return _initialise(root, request, command_line, progress)
    except BaseException as error:
        if not (isinstance(error, GovError) and error.code is Code.BUSY):  # what is there is another init's
            _take_back(root, before)
        raise


@dataclass(frozen=True)
class _Before:
    """What was there before an init: none of it goes when the init fails."""

    root: bool
    state: bool
    config: bytes | None

    @staticmethod
    def of(root: Path) -> _Before:
        config = root / "config.toml"
        return _Before(root.exists(), (root / "state").exists(), config.read_bytes() if config.is_file() else None)


def _take_back(root: Path, before: _Before) -> None:
    """An init that failed before it had any code leaves nothing: not even settings that would rule the next."""
    config, state = root / "config.toml", root / "state"
    there = {entry.name for entry in root.iterdir()} if root.is_dir() else set()
    if (
        not there <= {"config.toml", "state", WHEELS}
        or (state / "head.json").exists()
        or (state / "audit.jsonl").exists()
    ):
        return
    try:
        if before.config is None:
            config.unlink(missing_ok=True)
        else:
            fs.write_if_changed(config, before.config)
        if not before.state:
            fs.remove_tree(state)
            fs.remove_tree(root / WHEELS)
        if not before.root:
            root.rmdir()
    except OSError:
        return  # what stopped the init is what is to be said; the next init takes these up again


def _initialise(root: Path, request: InitRequest, command_line: str, progress: Progress) -> InitResult:
    if recovering.lost_its_config(root):
        recovering.write_again(root, request.comfyui_dir, progress)
    if not is_home(root):
        _refuse_foreign(root)
    if (root / "state" / "audit.jsonl").is_file() and not (root / "state" / "head.json").is_file():
        found = open_home(str(root), command_line, progress)
        with changing(found):
            _find_again(found)
    if (root / "state" / "head.json").is_file():
        context = open_home(str(root), command_line, progress)
        refuse_late_changes(context, request)
    else:
        context = _prepare(root, request, command_line, progress)
    stages = Stages(progress)
    with changing(context):
        if context.snapshots.head() is not None:
            return _repair(context, stages)
        return _create(context, request, stages)


def _prepare(root: Path, request: InitRequest, command_line: str, progress: Progress) -> Context:
    """The directory and the settings of a home to be, or of one whose init did not finish."""
    if (root / "config.toml").exists():
        settings.read_config(root / "config.toml")
    changes = wanted_settings(request)
    _refuse_comfyui(root, request)
    with fs.explained(root):
        (root / "state").mkdir(parents=True, exist_ok=True)
        settings.update_config(root / "config.toml", changes)
    faults.point("init.settings")
    return open_home(str(root), command_line, progress)


def _refuse_comfyui(root: Path, request: InitRequest) -> None:
    """What speaks against the ComfyUI that is named is said before anything is written."""
    if request.ref and request.comfyui_dir:
        raise GovError(
            Code.USAGE,
            "--ref does not go with --comfyui-dir",
            f"git -C {request.comfyui_dir} checkout {request.ref}, then the same init without --ref",
        )
    if request.comfyui_dir:
        tree = Path(request.comfyui_dir).expanduser().absolute()
        command.refuse_other_tree(tree)
        claims.refuse_governed(tree, root)


def _refuse_foreign(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise GovError(Code.USAGE, f"{root} is not a directory", "name another with --path")
    there = [entry.name for entry in root.iterdir()] if root.is_dir() else []
    if any(name not in _FIRST_FILES and fs.leftover_of(name) is None for name in there):
        looks = (root / "main.py").is_file() and (root / "nodes.py").is_file()
        hint = (
            f"gov init --path NEW_DIR --comfyui-dir {root}" if looks else "name an empty or new directory with --path"
        )
        raise GovError(Code.ALREADY_EXISTS, f"{root} is not empty and is no governed home", hint)


def _find_again(context: Context) -> None:
    """Write a lost head.json anew from the audit: a home with a history is not started over."""
    lines = audit.entries(context.home.audit_file)
    if not lines or not context.snapshots.ids():
        return
    moves = [line for line in lines if line.before != line.after and line.action != "manual"]
    last = moves[-1].after or ""
    if last not in context.snapshots.ids():
        raise GovError(
            Code.HOME_DAMAGED, f"head.json is lost, and the last state, {last}, is not there", "gov snapshot list"
        )
    meta = context.snapshots.meta(last)
    context.snapshots.write_head(Head(last, meta.generation, meta.created_at, moves[-1].before, lines[-1].digest))
    context.progress.warn(f"head.json was lost: by the audit, production is {last}")


def _repair(context: Context, stages: Stages) -> InitResult:
    with stages.stage("check and repair"):
        done = sync.repair(context)
    head = context.snapshots.require_head()
    return _result(context, context.snapshots.meta(head.snapshot), stages, created=False, repaired=done.repaired)


def _create(context: Context, request: InitRequest, stages: Stages) -> InitResult:
    with stages.stage("ComfyUI's code"):
        pin = _take_comfyui(context, request)
        claims.claim(context)
        _see_index_as_of(context, request, pin)
    faults.point("init.code")
    venv = adopted_environment(request)
    with stages.stage("packs"):
        found = adoption.packs(context, venv) if request.comfyui_dir else Adopted()
    with stages.stage("lock"):
        work = work_directory(context, _INIT_WORK)
        declared = _declare(context, request, pin)
        if venv:
            pyproject, uv_lock = adoption.environment(context, work, declared, venv, found)
        else:
            pyproject, uv_lock = _lock(context, work, declared)
            _refuse_misfit(uv_lock.decode())
    generation = locking.identify(context, work, pyproject, uv_lock)
    with stages.stage("environment"):
        context.generations.build(work, generation, context.interpreter, None)
    state = State(pyproject, uv_lock, Registry(tuple(found.plugins)), Baseline(), generation)
    with stages.stage("first boot (baseline)"):
        state = _first_boot(context, state, request)
    with stages.stage("commit"):
        reason = "adopted as it was" if venv else "first state"
        meta = committing.commit_state(context, state, Origin("init", reason)).meta
        fs.remove_tree(work)
    result = _result(context, meta, stages, created=True, repaired=())
    ids = tuple(plugin.id for plugin in found.plugins)
    return msgspec.structs.replace(result, adopted=ids, findings=tuple(found.findings))


def _see_index_as_of(context: Context, request: InitRequest, pin: ComfyUIPin) -> None:
    """`--as-of commit` can be said as a time only when the commit is there."""
    if request.as_of:
        seen = as_of_time(context, request.as_of, pin.commit)
        settings.update_config(context.home.config_file, {"python": {"exclude_newer": seen}})
        context.home = Home(context.home.root, settings.read_config(context.home.config_file))


def _first_boot(context: Context, state: State, request: InitRequest) -> State:
    try:
        return trying.with_baseline(context, state, _INIT_WORK, request.timeout_seconds)
    except boot.BootFailed as failed:
        missing = boot.missing_module("\n".join(failed.details))
        if missing:
            failed.hint = (
                f"run the same init with --require {missing} (or the package that has this module), or with "
                "--as-of commit, which sees the packages as they were when this ComfyUI was made"
            )
        raise


def _take_comfyui(context: Context, request: InitRequest) -> ComfyUIPin:
    """An existing tree as it is, else a clone of the repository at the ref."""
    tree, git = context.home.comfyui, context.git
    claims.refuse_governed(tree, context.home.root)
    if tree.exists() and (request.repo or request.ref):
        return _take_again(context, request.repo or git.origin(tree), request.ref)
    if tree.exists() or request.comfyui_dir:
        command.refuse_other_tree(tree)
        commit = git.head(tree)
        if commit is None:
            raise GovError(
                Code.NOT_COMFYUI,
                f"{tree} is not a git checkout, so its code cannot be pinned",
                "use a cloned ComfyUI",
            )
        pin = ComfyUIPin(_origin(context, tree), request.ref, commit)
        _keep_own_commit(git, tree, pin)
        return pin
    source = parse_source(request.repo or OFFICIAL_REPOSITORY, Path.cwd())
    git.fetch(source, request.ref)
    commit = git.resolve(source, request.ref)
    clones.ensure_cached(git, source, commit)
    staging = tree.with_name(f".{tree.name}.comfygov-staging")
    fs.remove_tree(staging)
    clones.place(git, source, commit, staging)
    try:
        command.refuse_other_tree(staging, source.public)
        staging.rename(tree)
    except BaseException:
        fs.remove_tree(staging)
        raise
    return ComfyUIPin(source.public, request.ref, commit)


def _keep_own_commit(git: Git, tree: Path, pin: ComfyUIPin) -> None:
    """A commit that was never pushed is in this folder alone: the cache takes it too, should the folder be lost."""
    pushed = git.ask(tree, "for-each-ref", "--count=1", "--contains", pin.commit, "refs/remotes")
    source = recorded_source(pin.repo)
    if not pushed and not git.has_commit(source, pin.commit):
        git.receive(source, tree, pin.commit)
        git.keep(source, pin.commit)


def _take_again(context: Context, repo: str, ref: str | None) -> ComfyUIPin:
    """The tree of an init that did not finish: the same repository, at the ref that is wanted now."""
    tree, git, source = context.home.comfyui, context.git, parse_source(repo, Path.cwd())
    origin = git.origin(tree)
    if origin != source.public:
        raise GovError(
            Code.ALREADY_EXISTS,
            f"{tree} is {f'a clone of {origin}' if origin else f'no clone of {source.public}'}",
            f"remove it: rm -r {tree}" if tree.is_relative_to(context.home.root) else "leave --repo out to take it",
        )
    git.fetch(source, ref)
    commit = git.resolve(source, ref)
    if git.head(tree) != commit and git.edited(tree):
        raise GovError(Code.LOCAL_EDITS, f"{tree} has edited files", "commit or stash them (`git stash`)")
    checkouts.bring(git, tree, source, commit, rescue.place(context.home))
    command.refuse_other_tree(tree)
    return ComfyUIPin(source.public, ref, commit)


def _origin(context: Context, tree: Path) -> str:
    """Where an existing tree comes from; its own path when it names no origin that we would fetch."""
    try:
        return parse_source(context.git.origin(tree), tree).public
    except GovError:
        return str(tree)


def _declare(context: Context, request: InitRequest, pin: ComfyUIPin) -> Declaration:
    text = context.git.show(context.home.comfyui, pin.commit, "requirements.txt") or ""
    declared = requirements.read_requirements_text(text, "requirements.txt")
    if declared.malformed:
        line = declared.malformed[0]
        raise GovError(
            Code.BAD_REQUIREMENTS,
            f"ComfyUI's requirements.txt line {line.line}: `{line.text}` is {line.reason}",
            "check --ref",
        )
    for line in declared.rejected:
        context.progress.warn(f"requirements.txt line {line.line} is not taken: {line.reason}")
    groups = {locking.COMFYUI_GROUP: tuple(declared.requirements)}
    if request.require:
        groups[locking.EXTRA_GROUP] = request.require
    bare = Declaration(comfyui=pin, requires_python="", groups=groups)
    return locking.with_settings(bare, context.config, context.interpreter)


def _lock(context: Context, work: Path, declared: Declaration) -> tuple[bytes, bytes]:
    try:
        return locking.lock(context, work, declared, None)
    except locking.NoSolution as problem:
        raise GovError(
            Code.NO_SOLUTION,
            "ComfyUI's own requirements have no solution here",
            _other_wishes(declared),
            problem.details,
        ) from problem


def _other_wishes(declared: Declaration) -> str:
    """What to try, and which settings of an earlier init are in force still."""
    hint = "try another --python, --ref, --constraint, --require or --install-torch"
    if declared.constraints:
        hint += f"; in force, until config.toml says otherwise: constraints = {list(declared.constraints)}"
    if declared.exclude_newer:
        hint += f"; the index is seen as of {declared.exclude_newer} (--as-of)"
    return hint


def _refuse_misfit(uv_lock: str) -> None:
    found = torch_family.misfit(torch_family.locked_versions(uv_lock))
    if found:
        problem, pins = found
        options = " ".join(f"--constraint '{pin}'" for pin in pins)
        raise GovError(
            Code.TORCH_MISFIT, f"{problem}: ComfyUI would fail at import", f"run the same init with {options}"
        )


def _result(
    context: Context, meta: SnapshotMeta, stages: Stages, *, created: bool, repaired: tuple[str, ...]
) -> InitResult:
    state = context.snapshots.read(meta.id)
    return InitResult(
        home=str(context.home.root),
        created=created,
        snapshot=meta.id,
        generation=meta.generation,
        comfyui_commit=meta.comfyui_commit,
        packages=len(context.generations.seal_of(meta.generation).packages),
        baseline=state.baseline,
        unmanaged=tuple(sync.unmanaged(context, state)),
        repaired=repaired,
        stage_seconds=stages.seconds,
    )
