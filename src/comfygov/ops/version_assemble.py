"""`gov version create` without a home: a lock made of repositories, requirements and a model spec that are named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.envs import record
from comfygov.errors import Code, GovError
from comfygov.model import builds
from comfygov.model.config import Config
from comfygov.model.config import Python as PythonSettings
from comfygov.model.names import canonical, group_of, id_from_source, is_node_id
from comfygov.model.state import Baseline, ComfyUIPin, Declaration, Resolution
from comfygov.model.version import VERSION_SCHEMA, LockedComfyUI, LockedModel, LockedNode, PatchedFile, VersionLock
from comfygov.ops import locking, version_code, version_create, version_widen
from comfygov.ops.context import Context
from comfygov.ops.version_capture import Captured, VersionFinding, locked_models_in, locked_python, said_of
from comfygov.ports import clones, fs, git_history
from comfygov.ports.git import parse_source, recorded_source
from comfygov.ports.source import without_credentials
from comfygov.resolve import requirements
from comfygov.truth.declaration import PYTORCH_PACKAGES
from comfygov.truth.home import Home, cache_root
from comfygov.versions import judging, lockfile, overlay, portable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfygov.ports.progress import Progress


class AssembleRequest(msgspec.Struct, frozen=True):
    """`custom_nodes` are texts `repo=URL,name=NAME[,ref=R|,commit=C|,path=P]`. `venv` is frozen as it is. `as_of`
    (a day, a time, or `commit`: that of ComfyUI's) says when the index is seen."""

    name: str
    comfy_repo: str | None = None
    comfy_ref: str | None = None
    comfy_path: str | None = None
    custom_nodes: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    models_spec: str | None = None
    models_dir: str | None = None
    venv: str | None = None
    python: str | None = None
    find_links: tuple[str, ...] = ()
    index_url: str = ""
    platforms: tuple[str, ...] = ()
    torch_backends: tuple[str, ...] = ()
    as_of: str | None = None
    output: str | None = None
    overwrite: bool = False
    pretty: bool = True


@dataclass
class _Parts:
    """What has been taken so far; `findings` name what is not as one would think."""

    groups: dict[str, tuple[str, ...]]
    findings: list[VersionFinding]


def assemble(request: AssembleRequest, command: str, progress: Progress) -> version_create.Created:
    """Raises GovError before the lock is written, or writes it whole."""
    lockfile.refuse_bad_name(request.name)
    work = fs.beside(cache_root() / "assemble", "work")
    fs.remove_tree(work)
    work.mkdir(parents=True)
    try:
        context = _context(request, work, command, progress)
        captured = _captured(context, request, work / "project")
        path = Path(request.output or f"lockfiles/{lockfile.file_name(request.name)}").expanduser().absolute()
        wanted = version_create.CreateRequest(request.name, str(path), request.overwrite, request.pretty)
        return version_create.write(captured, path, wanted)
    finally:
        fs.remove_tree(work)


def _context(request: AssembleRequest, work: Path, command: str, progress: Progress) -> Context:
    from comfygov.ops.init_settings import existing_directory, interpreter_of, without_secrets

    python = str(_venv(request) / "bin" / "python") if request.venv else request.python
    version_widen.refuse_odd(version_widen.Reach(request.platforms, request.torch_backends))
    settings = PythonSettings(
        interpreter=interpreter_of(python),
        find_links=tuple(map(existing_directory, request.find_links)),
        index_url=without_secrets("--index-url", request.index_url),
        platforms=request.platforms or (builds.LINUX,),
        torch_backends=request.torch_backends or _build_of(request),
    )
    return Context(Home(work, Config(python=settings)), command, progress)


def _build_of(request: AssembleRequest) -> tuple[str, ...]:
    """The build of the torch that is frozen: its local version names PyTorch's index."""
    frozen = record.freeze(_venv(request)) if request.venv else ()
    torch = next((line.partition(" @ ")[0] for line in frozen if line.startswith("torch==")), "")
    build = torch.partition("+")[2]
    return (build,) if builds.is_pytorch_build(build) else ()


def _venv(request: AssembleRequest) -> Path:
    path = Path(request.venv or "").expanduser().absolute()
    if not (path / "bin" / "python").exists():
        raise GovError(Code.NOT_FOUND, f"{path} is no environment: it has no bin/python", "check --venv")
    return path


def _captured(context: Context, request: AssembleRequest, project: Path) -> Captured:
    parts = _Parts({}, [])
    comfyui = _comfyui(context, request, parts)
    nodes = tuple(sorted((_node(context, text, parts) for text in request.custom_nodes), key=lambda node: node.name))
    _refuse_twice(nodes)
    _read_requirements(request, parts)
    declared = Declaration(ComfyUIPin(comfyui.repo, comfyui.ref, comfyui.commit), "", parts.groups)
    declared = locking.with_settings(declared, context.config, context.interpreter)
    declared = msgspec.structs.replace(declared, exclude_newer=_seen_at(context, request, comfyui))
    declared = _frozen(declared, request, parts) if request.venv else declared
    pyproject, uv_lock = locking.lock(context, project, declared, None)
    found = portable.portable(pyproject.decode(), uv_lock.decode())
    if request.venv:
        parts.findings += _not_as_frozen(_venv(request), found)
    models, said = _models(context, request)
    lock = VersionLock(
        schema_version=VERSION_SCHEMA,
        version_name=request.name,
        digest="",
        comfyui=comfyui,
        python=locked_python(found, context.interpreter),
        custom_nodes=nodes,
        models=models,
        expects=Baseline(),
    )
    return Captured(lockfile.sealed(lock), found.local, (*parts.findings, *said_of(lock), *said))


def _seen_at(context: Context, request: AssembleRequest, comfyui: LockedComfyUI) -> str:
    from comfygov.ops.init_settings import day_or_time

    if request.as_of != "commit":
        return day_or_time(request.as_of) if request.as_of else ""
    cache = context.git.cache_of(recorded_source(comfyui.repo))
    return git_history.committed_at(context.git, cache, comfyui.commit)


def _comfyui(context: Context, request: AssembleRequest, parts: _Parts) -> LockedComfyUI:
    if request.comfy_path and request.comfy_ref:
        problem = "--comfy-path is taken as it is, so --comfy-ref cannot choose another commit"
        raise GovError(Code.USAGE, problem, "leave one of them out")
    if request.comfy_path:
        tree = Path(request.comfy_path).expanduser().absolute()
        repo, commit, patch = _as_it_is(context, tree, request.comfy_repo, of_comfyui=True)
        ref = None
    elif request.comfy_repo:
        repo, commit = _resolved(context, request.comfy_repo, request.comfy_ref)
        ref, patch = request.comfy_ref, ()
        tree = context.git.cache_of(recorded_source(repo))
    else:
        raise GovError(Code.USAGE, "without a home, ComfyUI must be named", "--comfy-repo URL, or --comfy-path DIR")
    text = context.git.show(tree, commit, "requirements.txt")
    if text is None or context.git.show(tree, commit, "main.py") is None:
        raise GovError(Code.NOT_COMFYUI, f"{repo} at {ref or commit} is no ComfyUI", "check --comfy-repo")
    _take_lines(parts, locking.COMFYUI_GROUP, "ComfyUI", requirements.read_requirements_text(text, "requirements.txt"))
    return LockedComfyUI(repo, commit, context.git.tree_of(tree, commit), ref, patch)


def _resolved(context: Context, repo: str, ref: str | None) -> tuple[str, str]:
    source = parse_source(repo, Path.cwd())
    context.git.fetch(source, ref)
    commit = context.git.resolve(source, ref)
    clones.ensure_cached(context.git, source, commit)
    return source.public, commit


def _as_it_is(
    context: Context, tree: Path, repo: str | None, *, of_comfyui: bool = False
) -> tuple[str, str, tuple[PatchedFile, ...]]:
    """(repository, commit, edits) of a checkout on this machine. Its commit need not have been pushed."""
    commit = context.git.head(tree)
    if commit is None:
        raise GovError(Code.NOT_COMFYUI, f"{tree} is no git checkout, so its code cannot be pinned", "use a clone")
    source = parse_source(repo or context.git.origin(tree) or str(tree), tree)
    if not context.git.has_commit(source, commit):
        context.git.fetch(source)
    if not context.git.has_commit(source, commit):
        source = parse_source(str(tree), tree)  # a commit of one's own: only this folder has it
        context.git.fetch(source)
    clones.ensure_cached(context.git, source, commit)
    return source.public, commit, overlay.taken(context.git, tree, commit, of_comfyui=of_comfyui)


def _node(context: Context, text: str, parts: _Parts) -> LockedNode:
    words = _words(text)
    name = words.get("name") or id_from_source(words.get("repo") or words.get("path", ""))
    if not is_node_id(name):
        raise GovError(Code.BAD_ID, f"`{name}` cannot be the id of a pack", "give another with name=")
    patch: tuple[PatchedFile, ...] = ()
    content: tuple[PatchedFile, ...] = ()
    if "path" not in words:
        repo, commit = _resolved(context, words["repo"], words.get("commit") or words.get("ref"))
        _refuse_other(name, commit, words.get("commit", commit))
    else:
        folder = Path(words["path"]).expanduser().absolute()
        if not folder.is_dir():
            raise GovError(Code.NOT_FOUND, f"there is no folder {folder}", "check path=")
        if context.git.head(folder) is not None:
            repo, commit, patch = _as_it_is(context, folder, words.get("repo"))
        else:
            content = overlay.all_files(folder)
            commit, tree = version_code.commit_content(context.git, content)
            repo = f"{judging.CONTENT}{tree}"
    cache = context.git.cache_of(recorded_source(repo))
    declared = requirements.read_declared(lambda path: context.git.show(cache, commit, path))
    _take_lines(parts, group_of(name), name, declared)
    return LockedNode(
        name=name,
        repo=repo,
        commit=commit,
        tree=context.git.tree_of(cache, commit),
        ref=words.get("ref"),
        enabled=True,
        promoted=True,
        requirements=tuple(declared.requirements),
        patch=patch,
        content=content,
    )


def _refuse_other(name: str, commit: str, wanted: str) -> None:
    """`commit=` is a pin: a branch or tag of that name is none."""
    if not commit.startswith(wanted):
        problem = f"{name}: `{wanted[:80]}` is no commit; as a name it is at {commit[:10]}"
        raise GovError(Code.USAGE, problem, "say ref= for a branch or tag")


_KEYS = ("repo", "name", "ref", "commit", "path")


def _words(text: str) -> dict[str, str]:
    parts = [part.partition("=")[::2] for part in text.split(",")]
    words = dict(parts)
    odd = [key for key, value in parts if key not in _KEYS or not value]
    exclusive = [key for key in ("ref", "commit", "path") if key in words]
    if odd or len(parts) != len(words) or len(exclusive) > 1 or not ("repo" in words or "path" in words):
        shown, empty = without_credentials(text[:200]), [key for key in odd if words.get(key) == ""]
        why = f": {empty[0]}= is empty" if empty else ""
        raise GovError(
            Code.USAGE,
            f"`{shown}` is no custom node{why}",
            "--custom-node repo=URL,name=NAME[,ref=R|,commit=C|,path=P], each once",
        )
    return words


def _refuse_twice(nodes: Sequence[LockedNode]) -> None:
    groups = [group_of(node.name) for node in nodes]
    for node, group in zip(nodes, groups, strict=True):
        if groups.count(group) > 1:
            raise GovError(Code.USAGE, f"the pack {node.name} is named twice", "give each a name= of its own")


def _take_lines(parts: _Parts, group: str, name: str, declared: requirements.Declared) -> None:
    if declared.malformed:
        line = declared.malformed[0]
        raise GovError(
            Code.BAD_REQUIREMENTS, f"{name}: {line.file} line {line.line}: `{line.text}` is {line.reason}", "correct it"
        )
    for line in declared.rejected:
        problem = f"{line.file} line {line.line} `{line.text}` is not taken: {line.reason}"
        parts.findings.append(VersionFinding("requirement", name, problem))
    parts.groups[group] = tuple(declared.requirements)


def _read_requirements(request: AssembleRequest, parts: _Parts) -> None:
    for given in request.requirements:
        path = Path(given).expanduser().absolute()
        if not path.is_file():
            raise GovError(Code.NOT_FOUND, f"there is no file {path}", "check --requirements")

        before = parts.groups.get(locking.EXTRA_GROUP, ())
        declared = requirements.read_file(partial(_text_in, path.parent), path.name)
        _refuse_left_out(declared)
        _take_lines(parts, locking.EXTRA_GROUP, path.name, declared)
        parts.groups[locking.EXTRA_GROUP] = (*before, *parts.groups[locking.EXTRA_GROUP])


def _refuse_left_out(declared: requirements.Declared) -> None:
    """In a file of a person's own, a whole file that would be missing is more than a note."""
    for line in declared.rejected:
        if line.text.startswith(("-r", "--requirement")):
            problem = f"{line.file} line {line.line} `{line.text}` names a file outside of its folder"
            raise GovError(Code.BAD_REQUIREMENTS, problem, "name that file with a --requirements of its own")


def _text_in(folder: Path, path: str) -> str | None:
    file = folder / path
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def _frozen(declared: Declaration, request: AssembleRequest, parts: _Parts) -> Declaration:
    """Exactly the packages of the environment, whatever anybody asks for: what runs today is what is locked."""
    pins = []
    for line in record.freeze(_venv(request)):
        pin, _, origin = line.partition(" @ ")
        if declared.torch_backends and pin.partition("==")[0] in PYTORCH_PACKAGES:
            pin = pin.partition("+")[0]  # each of the builds has this version
        pins.append(pin)
        if origin:
            where = f"it was installed from {os.path.basename(origin.rstrip('/'))}; the lock takes it from the index"  # noqa: PTH119
            parts.findings.append(VersionFinding("package", pin, where))
    forced = tuple(Resolution(pin, forced=True, reason="frozen as it is") for pin in pins)
    return msgspec.structs.replace(declared, groups={locking.EXTRA_GROUP: tuple(pins)}, resolutions=forced)


def _not_as_frozen(venv: Path, found: portable.Project) -> list[VersionFinding]:
    frozen = {canonical(line.split("==")[0]) for line in record.freeze(venv)}
    locked = {package["name"] for package in portable.packages_in(found.uv_lock)}
    return [
        VersionFinding("package", name, "it is in the lock and not in the environment: another package needs it")
        for name in sorted(locked - frozen)
    ]


def _models(context: Context, request: AssembleRequest) -> tuple[tuple[LockedModel, ...], tuple[VersionFinding, ...]]:
    from comfygov.ops.models_place import Asked, open_place

    spec = Path(request.models_spec).expanduser().absolute() if request.models_spec else None
    if spec is not None and not spec.is_file():
        raise GovError(Code.NOT_FOUND, f"there is no file {spec}", "check --models-spec")
    beside = Path(request.comfy_path).expanduser() / "models" if request.comfy_path else spec and spec.parent
    folder = request.models_dir or beside
    if folder is None:
        return (), ()
    asked = Asked(models_dir=str(folder), spec=str(spec) if spec else None)
    return locked_models_in(open_place(asked, context.command, context.progress))
