"""`gov outdated`: what could be updated, with the command that tries it. Production is only read."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.kit.repos import commit_all, git, make_pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.governed import Governed


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def home(governed: Governed) -> Iterator[Governed]:
    """Whatever a test does upstream, looking at it changes nothing here."""
    yield governed
    before = governed.world()
    governed.gov("outdated")
    assert governed.world() == before
    work = governed.home / "state" / "work"
    assert not work.exists() or list(work.iterdir()) == []


def commits(repository: Path, count: int) -> str:
    """Move the repository on, and return its newest commit."""
    return [commit_all(repository, f"change {number}") for number in range(count)][-1]


def packs(data: Any) -> dict[str, Any]:
    return {row["name"]: row for row in data["packs"]}


def test_nothing_is_outdated(home: Governed) -> None:
    home.gov("node", "add", str(home.pack("one"))).ok()
    data = home.json("outdated")
    assert not data["comfyui"]["outdated"]
    assert data["release"] is None
    assert [row["outdated"] for row in data["packs"]] == [False]
    assert data["packages"] == {"locked": 1, "outdated": [], "added": [], "removed": [], "problem": ""}
    ran = home.gov("outdated").ok()
    for line in ("ComfyUI: is the newest", "packs: 0 of 1 can be newer", "  the newest: one"):
        assert line in ran.stdout.splitlines(), ran
    assert "packages: 0 of 1 can move within what is declared" in ran.stdout


def test_packs_are_compared_with_what_they_follow(home: Governed) -> None:
    sources = {name: home.pack(name) for name in ("default", "branch", "tag", "commit", "same")}
    pinned = git(sources["commit"], "rev-parse", "HEAD")
    git(sources["tag"], "tag", "v1")
    git(sources["branch"], "branch", "dev")
    for name, ref in (("default", ""), ("branch", "dev"), ("tag", "v1"), ("commit", pinned), ("same", "")):
        home.gov("node", "add", str(sources[name]), *(["--ref", ref] if ref else [])).ok()
    newest = {name: commits(sources[name], 2) for name in ("default", "branch", "tag", "commit")}
    git(sources["branch"], "checkout", "-q", "dev")
    on_dev = commits(sources["branch"], 3)
    git(sources["branch"], "checkout", "-q", "main")

    found = packs(home.json("outdated"))
    assert [(name, row["behind"], row["pinned"], row["command"]) for name, row in sorted(found.items())] == [
        ("branch", 3, False, "gov tx run branch --ref dev"),
        ("commit", 2, True, "gov tx run commit --ref main"),
        ("default", 2, False, "gov tx run default --ref main"),
        ("same", 0, False, ""),
        ("tag", 2, True, "gov tx run tag --ref main"),
    ]
    assert {name: row["newest"] for name, row in found.items() if row["outdated"]} == {**newest, "branch": on_dev}
    assert {name: row["follows"] for name, row in found.items()} == {
        "branch": "branch", "commit": "commit", "default": "default branch", "same": "default branch", "tag": "tag",
    }  # fmt: skip
    assert {row["state"] for row in found.values()} == {"not promoted"}
    ran = home.gov("outdated").ok()
    assert "packs: 4 of 5 can be newer" in ran.stdout
    assert f"  gov tx run default --ref main  {found['default']['commit'][:7]} -> {newest['default'][:7]}" in ran.stdout
    for words in ("2 commits behind main", "3 commits behind dev", "pinned to a commit; ", "pinned to tag v1; "):
        assert words in " ".join(ran.stdout.split()), ran
    assert max(map(len, ran.stdout.splitlines())) <= 80, ran


def test_a_tag_that_moved_is_followed_and_a_history_that_was_rewritten_is_said(home: Governed) -> None:
    tagged, rewritten = home.pack("tagged"), home.pack("rewritten")
    git(tagged, "tag", "v1")
    home.gov("node", "add", str(tagged), "--ref", "v1").ok()
    home.gov("node", "add", str(rewritten)).ok()
    commits(tagged, 1)
    git(tagged, "tag", "-f", "v1")
    git(rewritten, "commit", "--amend", "-q", "-m", "other")
    found = packs(home.json("outdated"))
    assert (found["tagged"]["command"], found["tagged"]["newest_of"]) == ("gov tx run tagged --ref v1", "v1")
    assert (found["rewritten"]["behind"], found["rewritten"]["ahead"]) == (1, 1)
    assert "1 commit of its own" in " ".join(home.gov("outdated").ok().stdout.split())


def test_comfyui_is_compared_with_its_branch_and_its_releases(home: Governed) -> None:
    source = home.comfyui_source
    for tag in ("v0.9.0", "nightly", "v0.10.0-rc1"):
        git(source, "tag", tag)
    assert home.json("outdated")["release"]["included"]
    newest = commits(source, 4)
    for tag in ("v0.10.0", "latest"):
        git(source, "tag", tag)
    data = home.json("outdated")
    row = data["comfyui"]
    assert (row["outdated"], row["newest"], row["behind"]) == (True, newest, 4)
    assert row["command"] == "gov tx run --comfyui main"
    assert data["release"] == {
        "tag": "v0.10.0", "commit": newest, "included": False, "command": "gov tx run --comfyui v0.10.0",
    }  # fmt: skip
    ran = home.gov("outdated").ok()
    assert "ComfyUI: can be newer" in ran.stdout
    assert "gov tx run --comfyui v0.10.0  " in ran.stdout


def test_packages_are_what_the_resolver_would_take(home: Governed) -> None:
    """Within what is declared: `held` may not move, `basis` may."""
    for name in ("held", "numpy"):
        home.wheel(name, "1.0")
    home.gov("node", "add", str(home.pack("one", "held<2\nnumpy\n"))).ok()
    home.gov("tx", "run", "one").ok()
    home.gov("tx", "promote", "tx0001", "--approve-core", "--reason", "first").ok()
    commits(home.root / "packs" / "one", 1)
    assert packs(home.json("outdated"))["one"]["command"] == "gov tx run one"
    for name in ("held", "numpy"):
        home.wheel(name, "2.0")
    home.wheel("basis", "1.5", ("more",))
    home.wheel("more", "7.0")
    packages = home.json("outdated")["packages"]
    assert packages["outdated"] == [
        {"name": "basis", "version": "1.0", "newest": "1.5", "is_core": False, "command": "gov tx run --upgrade basis"},
        {"name": "numpy", "version": "1.0", "newest": "2.0", "is_core": True, "command": "gov tx run --upgrade numpy"},
    ]
    assert packages["added"] == [{"name": "more", "version": "7.0"}]
    said = home.gov("outdated").ok().stdout
    assert "  gov tx run --upgrade numpy  1.0 -> 2.0  core\n" in said
    assert "with all of them would come: + more 7.0" in said
    assert home.installed() == {"basis-1.0", "held-1.0", "numpy-1.0"}


def test_what_cannot_be_asked_is_named_and_the_rest_is_shown(home: Governed) -> None:
    add_far_pack(home)
    gone, left = home.pack("gone"), home.pack("left")
    git(left, "branch", "dev")
    home.gov("node", "add", str(gone)).ok()
    home.gov("node", "add", str(left), "--ref", "dev").ok()
    near = home.pack("near")
    home.gov("node", "add", str(near)).ok()
    commits(near, 1)
    gone.rename(home.root / "elsewhere")
    git(left, "branch", "-D", "dev")
    home.wheels.rename(home.root / "no-wheels")

    ran = home.gov("outdated", "--json")
    assert ran.exit_code == 5, ran
    assert ran.envelope["error"]["code"] == "network"
    found = packs(ran.data)
    assert found["near"]["command"] == "gov tx run near --ref main"
    assert "does not answer" in found["far"]["problem"]
    assert "no branch, tag or commit `dev`" in found["left"]["problem"]
    assert "not a git repository" in found["gone"]["problem"]
    assert ran.data["packages"]["problem"]
    assert [(one["kind"], one["subject"]) for one in ran.envelope["findings"]] == [
        ("pack", "far"), ("pack", "gone"), ("pack", "left"), ("packages", "packages"),
    ]  # fmt: skip
    text = home.gov("outdated")
    assert text.exit_code == 5, text
    for words in ("gov tx run near", "not known: far: http://127.0.0.1", "not known: packages: ", "No such file"):
        assert words in text.stdout, text
    (home.root / "no-wheels").rename(home.wheels)


@contextmanager
def silent(address: str) -> Iterator[None]:
    """Somebody takes every connection there, and says nothing."""
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])), backlog=20):
        yield


def add_far_pack(home: Governed) -> str:
    """A pack that comes from a server, which is gone now; returns where that was."""
    git(make_pack(home.root / "served" / "far"), "update-server-info")
    with served(home.root / "served") as address:
        home.gov("node", "add", f"{address}/far/.git", "--id", "far").ok()
    return address


def test_a_server_that_says_nothing_does_not_hold_the_rest(home: Governed) -> None:
    home.env["GIT_HTTP_LOW_SPEED_TIME"] = "1"
    with silent(add_far_pack(home)):
        ran = home.gov("outdated", "--json")
    assert ran.exit_code == 5, ran
    assert [one["subject"] for one in ran.envelope["findings"]] == ["far"]
    assert "does not answer" in ran.envelope["findings"][0]["problem"]


def test_an_interrupt_does_not_wait_for_the_network(home: Governed) -> None:
    with silent(add_far_pack(home)):
        child = home.start("outdated")
        deadline = time.monotonic() + 60
        while not any("git-remote-http" in line for line in commands_below(child.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert child.returncode == 130, said
    assert "mistake" not in said
    home.gov("node", "add", str(home.pack("near"))).ok()


def commands_below(pid: int) -> list[str]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return found


def test_an_index_that_does_not_answer_leaves_the_code_rows(bare: Governed) -> None:
    index = bare.root / "index"
    bare.env["UV_HTTP_TIMEOUT"] = "2"
    bare.wheel("basis", "1.0")
    (index / "basis").mkdir(parents=True)
    wheel = next(bare.wheels.iterdir())
    wheel.rename(index / "basis" / wheel.name)
    (index / "basis" / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    with served(index) as address:
        bare.init("--index-url", address, requirements="basis\n").ok()
    commits(bare.comfyui_source, 1)
    before = bare.world()
    ran = bare.gov("outdated", "--json")
    assert ran.exit_code == 5, ran
    assert "the package index does not answer" in ran.data["packages"]["problem"]
    assert ran.data["comfyui"]["behind"] == 1
    assert bare.world() == before
    assert list((bare.home / "state" / "work").iterdir()) == []


def test_many_repositories_are_asked_at_once(home: Governed) -> None:
    """One cache, many threads: locks come and go while children start."""
    for number in range(12):
        home.gov("node", "add", str(home.pack(f"pack-{number}"))).ok()
    for number in range(12):
        commits(home.root / "packs" / f"pack-{number}", number + 1)
    data = home.json("outdated")
    assert {name: row["behind"] for name, row in packs(data).items()} == {f"pack-{n}": n + 1 for n in range(12)}
