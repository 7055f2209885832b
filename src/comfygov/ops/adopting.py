"""The packs of an install that people have already: found in every form they come in, pinned, and not changed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from comfygov.errors import GovError
from comfygov.model.names import NODE_ID_RULE, group_of, is_file_id, is_node_id
from comfygov.model.state import Plugin
from comfygov.ops import change, planning
from comfygov.ports import clock, clones, fs, git_apart, git_content
from comfygov.ports.git import parse_source, recorded_source
from comfygov.truth.home import cache_root
from comfygov.versions import judging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.ops.context import Context
    from comfygov.ports.git import Git, Source
    from comfygov.resolve.requirements import Declared

SHIPPED = frozenset({"websocket_image_save.py", "example_node.py.example", "__pycache__"})
MAX_CONTENT_BYTES = 50_000_000
_BY_PRODUCT = frozenset({"__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_SHOWN_FILES = 5


class AdoptionFinding(msgspec.Struct, frozen=True):
    """Something of an install that was not taken, or not as one would think, and what helps."""

    kind: str
    subject: str
    problem: str
    hint: str = ""


@dataclass(frozen=True)
class Entry:
    """One pack below custom_nodes. `place` is where it lies when it is switched off."""

    id: str
    path: Path
    enabled: bool
    place: str = ""


@dataclass
class Adopted:
    """`declared` holds what each pack asks for, by id; `loads_others` says that ComfyUI loads entries that cannot be
    registered."""

    plugins: list[Plugin] = field(default_factory=list)
    declared: dict[str, Declared] = field(default_factory=dict)
    findings: list[AdoptionFinding] = field(default_factory=list)
    loads_others: bool = False

    def say(self, kind: str, subject: str, problem: str, hint: str = "") -> None:
        self.findings.append(AdoptionFinding(kind, _shown(subject), _shown(problem), hint))


def _shown(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def take(context: Context, *, promoted: bool) -> Adopted:
    """Register every pack that is there. `promoted` says that the environment is the one that they run in today, so
    that those that are switched on stay so. Nothing below custom_nodes is written."""
    found = Adopted()
    for entry in _entries(context.home.custom_nodes, found):
        git_apart.leave(context.git, entry.path)  # of an adoption that did not come to its end
        try:
            plugin = _pinned(context, entry, found)
            declared = planning.read_declared(context, plugin)
        except (GovError, OSError) as error:
            _not_taken(found, entry, str(error))
            continue
        if entry.place:
            problem = f"is switched off, and stays so; once promoted it lies in custom_nodes/{entry.id}"
            found.say("node", entry.id, problem, f"gov tx run {entry.id}")
        runs = promoted and entry.enabled
        lines = tuple(declared.requirements)
        found.plugins.append(msgspec.structs.replace(plugin, managed_deps=lines, enabled=runs, promoted=runs))
        found.declared[plugin.id] = declared
    found.plugins.sort(key=lambda plugin: plugin.id)
    return found


def _not_taken(found: Adopted, entry: Entry, problem: str) -> None:
    found.loads_others |= entry.enabled
    loaded = "; production loads it as before, trials do not see it" if entry.enabled else ""
    found.say("node", entry.path.name, f"is not taken: {problem}{loaded}", "gov node add SOURCE")


def _entries(folder: Path, found: Adopted) -> Iterator[Entry]:
    """Every entry that ComfyUI would load or that somebody switched off; an id is given once."""
    known: set[str] = set()
    for entry in sorted(_candidates(folder), key=lambda entry: (not entry.enabled, entry.path.name)):
        problem = _speaks_against(entry)
        group = group_of(entry.id)
        if problem:
            _not_taken(found, entry, problem)
        elif group in known:
            _not_taken(found, entry, f"another pack has the name `{entry.id}`")
        else:
            known.add(group)
            yield entry


def _speaks_against(entry: Entry) -> str:
    reserved = entry.id.lower() in (change.COMFYUI.lower(), change.PACKAGES)
    if reserved or not (is_node_id(entry.id) or (entry.path.is_file() and is_file_id(entry.id))):
        return f"`{entry.id}` cannot be the id of a pack: {NODE_ID_RULE}"
    if entry.path.is_file() and entry.place:
        return "it is a single file that is switched off, and stays as it is"
    if entry.path.is_dir() and not (entry.path / "__init__.py").is_file():
        return "it has no __init__.py, so ComfyUI cannot load it"
    return ""


def _candidates(folder: Path) -> Iterator[Entry]:
    """`X`, `X.disabled`, `x.py`, and `.disabled/x@1_0_0` (ComfyUI-Manager's second way to switch a pack off)."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    for name in names:
        path = folder / name
        bare = name.removesuffix(".disabled")
        if name in SHIPPED or name.startswith(".") or not (path.is_dir() or bare.endswith(".py")):
            continue
        yield Entry(bare, path, enabled=bare == name, place="" if bare == name else name)
    parked = folder / ".disabled"
    for name in sorted(os.listdir(parked)) if parked.is_dir() else ():
        if (parked / name).is_dir():
            yield Entry(name.partition("@")[0], parked / name, enabled=False, place=f".disabled/{name}")


def _pinned(context: Context, entry: Entry, found: Adopted) -> Plugin:
    commit = context.git.head(entry.path) if entry.path.is_dir() else None
    missing = _missing_submodule(context.git, entry.path, commit) if commit else ""
    if commit is None or missing:
        if missing:
            problem = f"{missing}, so its files are taken as they are, without its repository"
            hint = f"to follow the repository again: gov node remove {entry.id} --purge-code, then gov node add URL"
            found.say("node", entry.id, problem, hint)
        return _as_content(context, entry, found)
    source, ref = _origin_of(context, entry, commit, found)
    _cache(context.git, source, entry.path, commit)
    _say_edits(context.git, entry, found)
    return _plugin(context, entry, source, commit, ref)


def _plugin(context: Context, entry: Entry, source: Source, commit: str, ref: str | None = None) -> Plugin:
    return Plugin(
        id=entry.id,
        source=source.public,
        commit=commit,
        tree=context.git.tree_of(context.git.cache_of(source), commit),
        group=group_of(entry.id),
        ref=ref,
        added_at=clock.now(),
        place=entry.place,
    )


def _missing_submodule(git: Git, checkout: Path, commit: str) -> str:
    for path, _, sub_commit in git.submodules(checkout, commit):
        at = git.head(checkout / path)
        if at != sub_commit:
            return f"its submodule {path} is {f'at {at[:10]}, not {sub_commit[:10]}' if at else 'not checked out'}"
        deeper = _missing_submodule(git, checkout / path, sub_commit)
        if deeper:
            return deeper
    return ""


def _origin_of(context: Context, entry: Entry, commit: str, found: Adopted) -> tuple[Source, str | None]:
    """(source, branch that it follows; None is the default one). A commit that was never pushed is this folder's."""
    git, folder = context.git, entry.path
    try:
        source = parse_source(git.origin(folder), folder)
    except GovError:
        found.say("node", entry.id, f"has no origin that could be fetched, so its source is {folder}")
        return parse_source(str(folder), folder), None
    if not git.ask(folder, "for-each-ref", "--count=1", "--contains", commit, "refs/remotes", "refs/tags"):
        problem = f"its commit {commit[:10]} was never pushed to {source.public}, so its source is {folder}"
        found.say("node", entry.id, problem, "push it, then gov node remove and gov node add the repository")
        return parse_source(str(folder), folder), None
    branch = git.ask(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    upstream = git.ask(folder, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD") or ""
    default = upstream.partition("/")[2]
    known = branch and git.ask(folder, "rev-parse", "--verify", "--quiet", f"refs/remotes/origin/{branch}")
    return source, branch if known and default and branch != default else None


def _cache(git: Git, source: Source, checkout: Path, commit: str) -> None:
    """Have the commit and those of its submodules in the object cache, from the folders that are here."""
    if not git.has_commit(source, commit):
        git.receive(source, checkout, commit)
    git.keep(source, commit)
    for path, url, sub_commit in git.submodules(checkout, commit):
        _cache(git, clones.submodule_source(source, url), checkout / path, sub_commit)


def _say_edits(git: Git, entry: Entry, found: Adopted) -> None:
    edits = [*git.edited(entry.path), *(f"{name} (new)" for name in git.untracked(entry.path, ignored=False))]
    edits = [name for name in edits if not _BY_PRODUCT & set(name.split("/"))]
    if edits:
        more = f" and {len(edits) - _SHOWN_FILES} more" if len(edits) > _SHOWN_FILES else ""
        problem = f"has edits of yours, which stay and which trials do not see: {', '.join(edits[:_SHOWN_FILES])}{more}"
        found.say("edits", entry.id, problem, f"git -C {entry.path} diff; a version (gov version create) holds them")


def _as_content(context: Context, entry: Entry, found: Adopted) -> Plugin:
    """A pack without git: its files as a commit of their own, its repository apart from it."""
    folder = git_apart.work_tree(entry.path) if entry.path.is_file() else entry.path
    names = [entry.path.name] if entry.path.is_file() else _content_names(entry, found)
    scratch = fs.beside(cache_root() / "git" / "content", "adopting")
    fs.remove_tree(scratch)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        commit, tree = git_content.store(context.git, folder, scratch, names)
        source = recorded_source(f"{judging.CONTENT}{tree}")
        git_content.into_cache(context.git, source, scratch)
    finally:
        fs.remove_tree(scratch)
    git_apart.stand(context.git, entry.path, source, commit)
    version = _registry_version(entry.path)
    what = f"a registry archive ({version})" if version else "without git"
    found.say("node", entry.id, f"is {what}: its files as they are now are its commit; nothing newer is looked for")
    return _plugin(context, entry, source, commit)


def _content_names(entry: Entry, found: Adopted) -> list[str]:
    """The files of the pack: those that `.tracking` lists (a registry archive), else all but by-products."""
    tracking = entry.path / ".tracking"
    if tracking.is_file():
        listed = tracking.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        tracked = {name for name in map(str.strip, listed) if name and _is_inside(entry.path, name)}
        if "__init__.py" in tracked:
            return sorted({*tracked, ".tracking"})
    names: list[str] = []
    large: list[str] = []
    for path in _walk(entry.path):
        size = os.lstat(path).st_size
        (large if size > MAX_CONTENT_BYTES else names).append(os.path.relpath(path, entry.path))
    for name in sorted(large):
        found.say("file", f"{entry.id}/{name}", f"has more than {MAX_CONTENT_BYTES} bytes: it is not pinned")
    return sorted(names)


def _is_inside(folder: Path, name: str) -> bool:
    path = folder / name
    return ".." not in Path(name).parts and not Path(name).is_absolute() and (path.is_file() or path.is_symlink())


def _walk(folder: Path) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]  # noqa: PTH114, PTH118
        folders[:] = sorted(name for name in folders if name not in _BY_PRODUCT and name != ".git")
        for name in (*files, *links):
            if not name.endswith((".pyc", ".pyo")) and name != ".git":
                yield os.path.join(here, name)  # noqa: PTH118


def _registry_version(folder: Path) -> str:
    """`id 1.2.3` when the folder is an archive of the node registry (`.tracking`, or pyproject alone)."""
    from comfygov.ports import toml

    try:
        project = toml.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return f"{project['name']} {project['version']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "of no named version" if (folder / ".tracking").is_file() else ""
