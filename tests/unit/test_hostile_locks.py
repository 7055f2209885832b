"""Locks that somebody damaged, edited or made up: an error of ours before anything is written, or a safe lock."""

from __future__ import annotations

import copy
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfygov.errors import GovError
from comfygov.model.names import is_file_id, is_node_id
from comfygov.model.state import ComfyUIPin, Declaration
from comfygov.model.version import (
    VERSION_SCHEMA,
    LockedComfyUI,
    LockedModel,
    LockedNode,
    LockedPython,
    PatchedFile,
    VersionLock,
)
from comfygov.ops.version_find import read_judged
from comfygov.truth import declaration
from comfygov.versions import lockfile, portable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT, TREE = "1" * 40, "2" * 40
REPO = "https://example.org/o/ComfyUI"
SUM = "sha256:" + "a" * 64
UV_LOCK = f"""version = 1
requires-python = "==3.11.*"

[[package]]
name = "basis"
version = "1.0"
source = {{ registry = "https://example.org/simple" }}
wheels = [{{ url = "https://example.org/basis-1.0-py3-none-any.whl", hash = "{SUM}" }}]

[[package]]
name = "own"
version = "2.0"
source = {{ registry = "wheels" }}
wheels = [{{ path = "wheels/own-2.0-py3-none-any.whl" }}]
"""
FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def made() -> dict[str, Any]:
    declared = Declaration(ComfyUIPin(REPO, "v1", COMMIT), "==3.11.*", {"comfyui": ("basis",)}, find_links=("wheels",))
    pyproject = declaration.render(declared, "")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    edits = (PatchedFile("a/b.py", empty, content=""), PatchedFile("gone.py"))
    content = (PatchedFile("__init__.py", empty, content=""), PatchedFile("l", _sum("a"), "120000", "a"))
    python = LockedPython(
        version="3.11.7",
        requires="==3.11.*",
        platform="linux-x86_64",
        platforms=(),
        indexes=portable.indexes(pyproject),
        packages=portable.locked_packages(UV_LOCK, {"own-2.0-py3-none-any.whl": SUM}),
        pyproject=pyproject,
        uv_lock=UV_LOCK,
    )
    lock = VersionLock(
        schema_version=VERSION_SCHEMA,
        version_name="v",
        digest="",
        comfyui=LockedComfyUI(REPO, COMMIT, TREE, "v1", edits),
        python=python,
        custom_nodes=(
            LockedNode("by-git", "https://example.org/o/p", COMMIT, TREE, patch=edits),
            LockedNode("plain", f"content:{TREE}", COMMIT, TREE, content=content),
        ),
        models=(LockedModel("m", "loras/m.safetensors", SUM, 5, ("https://example.org/m",)),),
    )
    found: dict[str, Any] = json.loads(lockfile.encode(lockfile.sealed(lock)))
    return found


def _sum(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


LOCK = made()


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


PLACES = [path for path in places(LOCK) if path]
HOSTILE: list[Any] = [
    *(None, True, -1, 2**63, 10**400, 1e308, "", [], {}, [[]], {"": ""}, "\0", "\ud800", "x" * 5_000),
    *(
        "../../x",
        "/etc/passwd",
        "a/../../b",
        ".git/hooks/x",
        ".GIT/config",
        ".g\u200cit/config",
        "C:\\x",
        "~/x",
        "a\\..\\b",
        "$COMFY_HOME/x",
    ),
    *("--upload-pack=touch x", "ext::sh -c id", "https://u:p@example.org/x", "https://example.org/x?token=1#-c", "-c"),
    *("file:///etc", "git@-oProxyCommand=x:y", "ssh://-oProxyCommand=x/y", "ssh://a/-x", "http://[::1", "//host/x"),
    *("content:../x", "content:" + "3" * 40, "by-git", "plain", "BY-GIT", "x.disabled", "x.py", "nul\n", ".."),
]


def sealed(document: Any) -> Any:
    """With the digest that its maker would have given it, so that every word of it is judged."""
    try:
        document["digest"] = lockfile.digest_of(msgspec.convert(document, VersionLock))
    except (msgspec.MsgspecError, TypeError, KeyError, UnicodeError, OverflowError):
        pass
    return document


def judged(folder: Path, data: bytes) -> VersionLock | None:
    """The lock; None when it was refused by an error of ours, in words that can be shown."""
    path = folder / "given.lock.json"
    path.write_bytes(data)
    try:
        found = read_judged(path)
    except GovError as error:
        found, shown = None, f"{error.message} {error.hint}"
    else:
        shown = "taken"
    assert 0 < len(shown.encode()) < 3000, "words that can be shown"
    assert [entry.name for entry in folder.iterdir()] == [path.name], "nothing is written"
    return found


def safe(lock: VersionLock) -> None:
    """What a judged lock never holds."""
    for node in lock.custom_nodes:
        assert is_node_id(node.name) or is_file_id(node.name)
        for file in (*node.patch, *node.content):
            assert inside(file.path)
    for model in lock.models:
        assert inside(model.target_path)
        assert not model.target_path.startswith("~")
        assert 0 <= (model.size or 0) < 2**53
    pin, nodes = lock.comfyui, lock.custom_nodes
    for repo, ref in ((pin.repo, pin.ref), *((node.repo, node.ref) for node in nodes)):
        assert not repo.startswith("-")
        assert "::" not in repo
        assert not (ref or "").startswith("-")
        assert "@" not in repo.partition("://")[2].partition("/")[0] or repo.startswith("ssh://")


def inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and ".git" not in map(str.lower, parts)


def test_the_lock_itself_is_taken(tmp_path: Path) -> None:
    found = judged(tmp_path, json.dumps(LOCK).encode())
    assert found is not None
    safe(found)


@FEW
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    assert judged(tmp_path, data) is None


@FEW
@given(st.integers(0, len(json.dumps(LOCK)) - 1))
def test_a_lock_that_is_cut_off(tmp_path: Path, at: int) -> None:
    assert judged(tmp_path, json.dumps(LOCK).encode()[:at]) is None


@settings(FEW, max_examples=400)
@given(st.sampled_from(PLACES), st.sampled_from(HOSTILE), st.booleans())
def test_one_word_is_another(tmp_path: Path, place: tuple[Any, ...], value: Any, seals: bool) -> None:
    document = copy.deepcopy(LOCK)
    holder: Any = document
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    found = judged(tmp_path, json.dumps(sealed(document) if seals else document).encode(errors="surrogatepass"))
    if found is not None:
        safe(found)
        assert seals or lockfile.digest_of(found) == LOCK["digest"], "an edit that is not seen changes nothing"


@settings(FEW, max_examples=150)
@given(st.sampled_from(PLACES), st.booleans())
def test_something_is_missing_or_there_twice(tmp_path: Path, place: tuple[Any, ...], doubles: bool) -> None:
    document = copy.deepcopy(LOCK)
    holder: Any = document
    for key in place[:-1]:
        holder = holder[key]
    if doubles and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[place[-1]]))
    else:
        del holder[place[-1]]
    found = judged(tmp_path, json.dumps(sealed(document)).encode())
    if found is not None:
        safe(found)
        names = [node.name.casefold() for node in found.custom_nodes]
        targets = [model.target_path.casefold() for model in found.models]
        assert len(set(names)) == len(names)
        assert len(set(targets)) == len(targets)


DEEP = 200_000
PATCH = '"patch": ['
TEXTS = {
    "nested lists": "[" * DEEP + "]" * DEEP,
    "nested in a field of ours": json.dumps(LOCK).replace(
        '"patch": [', '"patch": [' + "[" * DEEP + "]" * DEEP + ",", 1
    ),
    "nested in a field of nobody": '{"other": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "," + json.dumps(LOCK)[1:],
    "a newer schema": json.dumps({**LOCK, "schema_version": VERSION_SCHEMA + 1}),
    "a huge number": json.dumps(LOCK).replace('"size": 5', '"size": ' + "9" * 100_000, 1),
    "key twice": json.dumps(LOCK)[:-1] + ', "digest": "sha256:0"}',
}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_what_is_deep_huge_or_newer(tmp_path: Path, name: str) -> None:
    assert judged(tmp_path, TEXTS[name].encode()) is None


ODD_PROJECTS = {
    "nested": "x = " + "[" * 5000 + "]" * 5000,
    "dotted": "a." * 3000 + "b = 1",
    "empty": "",
    "null": "\0",
    "list": "[[package]]\nname = []",
    "scalar": "[[package]]\nname = 'b'\nsource = 1",
    "folder": "[[package]]\nname = 'b'\nsource = { directory = '/etc' }",
    "git": "[[package]]\nname = 'b'\nsource = { git = 'ext::sh -c id' }",
}


@pytest.mark.parametrize("where", ["pyproject", "uv_lock"])
@pytest.mark.parametrize("name", sorted(ODD_PROJECTS))
def test_project_files_of_a_lock(tmp_path: Path, where: str, name: str) -> None:
    text = LOCK["python"][where]
    for whole in (ODD_PROJECTS[name], f"{text}\n{ODD_PROJECTS[name] or '['}"):
        document = copy.deepcopy(LOCK)
        document["python"][where] = whole
        assert judged(tmp_path, json.dumps(sealed(document)).encode()) is None


@pytest.mark.parametrize("sign", ["\n", "\r", " ", "\u2028", "\x1b"])
@pytest.mark.parametrize("field", ["index_url", "find_links"])
def test_an_address_is_one_printable_word(tmp_path: Path, field: str, sign: str) -> None:
    """It comes into a Dockerfile and into command lines."""

    def lock_with(address: str) -> bytes:
        document = copy.deepcopy(LOCK)
        given = (address,) if field == "find_links" else address
        declared = msgspec.structs.replace(declaration.parse(document["python"]["pyproject"]), **{field: given})
        document["python"]["pyproject"] = declaration.render(declared, "")
        document["python"]["indexes"] = list(portable.indexes(document["python"]["pyproject"]))
        return json.dumps(sealed(document)).encode()

    assert judged(tmp_path, lock_with("https://example.org/simple")) is not None
    assert judged(tmp_path, lock_with(f"https://example.org/simple{sign}RUN id")) is None


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "none" / "below"):
        with pytest.raises(GovError):
            read_judged(path)
