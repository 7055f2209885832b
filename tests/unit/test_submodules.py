"""Packs with repositories inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfygov.errors import Code
from comfygov.model.config import Config
from comfygov.model.state import Baseline, ComfyUIPin, Declaration, Plugin, Registry
from comfygov.ports import clones, faults, fs
from comfygov.ports.git import Git
from comfygov.truth import checkouts, declaration
from comfygov.truth.home import Home
from comfygov.truth.snapshots import State

from .conftest import NewUpstream, Refused, Upstream


def obstacles(git: Git, upstream: Upstream, checkout: Path, commit: str) -> list[str]:
    """What `checkouts.obstacles` says of a checkout that is to be at `commit`."""
    home = Home(checkout.parent / "home", Config())
    home.custom_nodes.mkdir(parents=True, exist_ok=True)
    if not (home.custom_nodes / "pack").exists():
        checkout.rename(home.custom_nodes / "pack")
        checkout.symlink_to(home.custom_nodes / "pack")
    clones.make_known(git, upstream.source, commit, home.custom_nodes / "pack")
    plugin = Plugin("pack", str(upstream.path), commit, "", "node-pack")
    text = declaration.render(Declaration(ComfyUIPin("", None, ""), ">=3.10"), "")
    state = State(text.encode(), b"", Registry((plugin,)), Baseline(), "")
    found = checkouts.obstacles(home, git, state)
    return [line.removeprefix("pack: ") for line in found if line.startswith("pack: ")]


class Nest:
    """`outer` holds `inner`, which holds `innermost`."""

    def __init__(self, new_upstream: NewUpstream, git: Git, root: Path, url: str) -> None:
        self.git, self.root = git, root
        self.innermost, self.inner, self.outer = map(new_upstream, ("innermost", "inner", "outer"))
        self.innermost.commit({"c": "1"})
        self.inner.commit({"b": "1"})
        self._add(self.inner, self.innermost, url, "deep")
        self.outer.commit({"a": "1"})
        self._add(self.outer, self.inner, url, "libs/inner")
        self.before = self.outer.git("rev-parse", "HEAD")

    def _add(self, parent: Upstream, child: Upstream, url: str, path: str) -> None:
        where = f"../{child.path.name}" if url == "relative" else str(child.path)
        # A relative URL starts at the remote that a clone of the parent has: itself.
        parent.git("config", "remote.origin.url", str(parent.path))
        parent.git("submodule", "--quiet", "add", "--", where, path)
        parent.commit({})

    def update_inner(self) -> str:
        new = self.inner.commit({"b": "2"})
        self.outer.git("-C", "libs/inner", "fetch", "--quiet", "origin")
        self.outer.git("-C", "libs/inner", "checkout", "--quiet", new)
        return self.outer.commit({"a": "2"})

    def update_innermost(self) -> str:
        """`inner` stays what it is but for the submodule in it."""
        new = self.innermost.commit({"c": "2"})
        self.inner.git("-C", "deep", "fetch", "--quiet", "origin")
        self.inner.git("-C", "deep", "checkout", "--quiet", new)
        self.inner.commit({})
        return self.update_inner()

    def obstacles(self, commit: str) -> list[str]:
        return obstacles(self.git, self.outer, self.root / "out", commit)

    def place(self, commit: str) -> Path:
        target = self.root / "out"
        clones.ensure_cached(self.git, self.outer.source, commit)
        clones.place(self.git, self.outer.source, commit, target)
        return target

    def at_hand(self, commit: str) -> None:
        """Make the commit known in the checkout, without the cache's own way of doing so."""
        repository = clones.ensure_cached(self.git, self.outer.source, commit)
        where = ["-C", str(self.root / "out")]
        self.outer.git(*where, "fetch", "--quiet", "--no-recurse-submodules", str(repository), f"{commit}:refs/t")

    def bring(self, commit: str) -> bool:
        return checkouts.bring(self.git, self.root / "out", self.outer.source, commit, self.root / "rescue")


@pytest.fixture(params=["relative", "absolute"])
def nest(request: pytest.FixtureRequest, new_upstream: NewUpstream, git: Git, tmp_path: Path) -> Nest:
    return Nest(new_upstream, git, tmp_path, request.param)


def test_submodules_are_placed_at_their_commits(nest: Nest) -> None:
    target = nest.place(nest.before)
    assert (target / "libs/inner/b").read_text() == "1"
    assert (target / "libs/inner/deep/c").read_text() == "1"
    assert nest.git.edited(target) == []
    assert nest.git.head(target / "libs/inner") == nest.outer.git("rev-parse", "HEAD:libs/inner")


def test_submodules_are_placed_from_the_cache_alone(nest: Nest) -> None:
    clones.ensure_cached(nest.git, nest.outer.source, nest.before)
    for upstream in (nest.outer, nest.inner, nest.innermost):
        upstream.path.rename(upstream.path.with_suffix(".away"))
        upstream.path.mkdir()
    assert (nest.place(nest.before) / "libs/inner/deep/c").read_text() == "1"


def test_submodules_follow_an_update(nest: Nest) -> None:
    target = nest.place(nest.before)
    assert nest.bring(nest.update_inner())
    assert (target / "libs/inner/b").read_text() == "2"


def test_submodules_follow_to_commits_that_are_at_hand(nest: Nest) -> None:
    target = nest.place(nest.before)
    (target / "libs/inner/mine").write_text("m")
    after = nest.update_inner()
    nest.at_hand(after)
    for commit, text in ((after, "2"), (nest.before, "1")):
        assert nest.bring(commit)
        assert (target / "a").read_text() == (target / "libs/inner/b").read_text() == text
    assert (target / "libs/inner/mine").read_text() == "m"


def test_submodules_of_submodules_follow_there_and_back(nest: Nest) -> None:
    target = nest.place(nest.before)
    (target / "libs/inner/deep/mine").write_text("m")
    after = nest.update_innermost()
    for commit, text in ((after, "2"), (nest.before, "1")):
        assert nest.bring(commit)
        assert (target / "libs/inner/deep/c").read_text() == text
        assert clones.in_place(nest.git, target, commit)
        assert not nest.bring(commit)
    assert (target / "libs/inner/deep/mine").read_text() == "m"


def test_a_submodule_of_a_submodule_that_alone_is_elsewhere_is_brought_back(nest: Nest) -> None:
    after = nest.update_innermost()
    target = nest.place(after)
    nest.outer.git("-C", str(target / "libs/inner/deep"), "checkout", "--quiet", "HEAD~1")
    assert nest.bring(after)
    assert (target / "libs/inner/deep/c").read_text() == "2"


def test_an_edit_in_a_submodule_of_a_submodule_is_an_obstacle_and_is_rescued(nest: Nest) -> None:
    target = nest.place(nest.before)
    (target / "libs/inner/deep/c").write_text("mine")
    after = nest.update_innermost()
    assert nest.obstacles(after) == ["libs/inner/deep/c (edited)"]
    assert nest.bring(after)
    assert (nest.root / "rescue/out/libs/inner/deep/c").read_text() == "mine"


def test_an_edit_in_a_submodule_is_one_of_the_submodule(nest: Nest) -> None:
    target = nest.place(nest.before)
    (target / "libs/inner/b").write_text("mine")
    assert nest.git.edited(target) == []
    assert nest.git.edited(target / "libs/inner") == ["b"]


def test_an_untracked_file_in_a_submodule_is_no_edit(nest: Nest) -> None:
    target = nest.place(nest.before)
    (target / "libs/inner/__pycache__").mkdir()
    (target / "libs/inner/__pycache__/b.pyc").write_text("x")
    assert nest.git.edited(target) == []


def test_a_kill_between_a_checkout_and_its_submodules_is_finished(nest: Nest) -> None:
    target = nest.place(nest.before)
    after = nest.update_inner()
    nest.at_hand(after)
    nest.git.checkout(target, after)
    nest.bring(after)
    assert (target / "libs/inner/b").read_text() == "2"


def test_a_submodule_may_have_a_space_in_its_name(new_upstream: NewUpstream, git: Git, tmp_path: Path) -> None:
    inner, outer = new_upstream("inner"), new_upstream("outer")
    inner.commit({"b": "1"})
    outer.commit({"a": "1"})
    outer.git("submodule", "--quiet", "add", "--name", "my lib", "--", str(inner.path), "my lib")
    commit = outer.commit({})
    clones.ensure_cached(git, outer.source, commit)
    clones.place(git, outer.source, commit, tmp_path / "out")
    assert (tmp_path / "out/my lib/b").read_text() == "1"


def gitlink(outer: Upstream, path: str, commit: str, url: str | None) -> str:
    """A submodule as an attacker, or a slip (`git add` of a clone), writes it."""
    if url is not None:
        (outer.path / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = "{path}"\n\turl = "{url}"\n')
        outer.git("add", ".gitmodules")
    outer.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    outer.git("commit", "--quiet", "-m", "x")
    return outer.git("rev-parse", "HEAD")


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% ran", "--upload-pack=touch ran", "-u./x", "https://-x/", "ftp://h/x"]
)
def test_a_hostile_submodule_stops_the_pack_before_git_sees_it(
    url: str, upstream: Upstream, git: Git, refused: Refused
) -> None:
    commit = gitlink(upstream, "sub", "1" * 40, url)
    with refused(Code.BAD_SOURCE):
        clones.ensure_cached(git, upstream.source, commit)
    assert not list(upstream.path.parent.rglob("ran"))


def test_a_submodule_through_a_link_does_not_leave_the_repository(
    new_upstream: NewUpstream, git: Git, tmp_path: Path, refused: Refused
) -> None:
    inner, outer = new_upstream("inner"), new_upstream("outer")
    sub = inner.commit({"b": "1"})
    (tmp_path / "victim").mkdir()
    (outer.path / "link").symlink_to(tmp_path / "victim")
    outer.commit({})
    commit = gitlink(outer, "elsewhere", sub, str(inner.path))
    clones.ensure_cached(git, outer.source, commit)
    clones.place(git, outer.source, commit, tmp_path / "good")
    target = tmp_path / "out"
    target.mkdir()
    (target / "elsewhere").symlink_to(tmp_path / "victim")
    with refused(Code.BAD_SOURCE) as caught:
        clones.place_submodules(git, outer.source, git.cache_of(outer.source), commit, target, shared=False)
    assert "leaves its repository" in caught.value.message
    assert not list((tmp_path / "victim").iterdir())


def test_a_link_entry_without_an_address_is_left_empty_as_git_does(
    upstream: Upstream, git: Git, tmp_path: Path
) -> None:
    upstream.commit({"a": "1"})
    commit = gitlink(upstream, "sub", "1" * 40, None)
    clones.ensure_cached(git, upstream.source, commit)
    clones.place(git, upstream.source, commit, tmp_path / "out")
    assert (tmp_path / "out/a").read_text() == "1"


class Vendored:
    """A pack whose first commit has the submodule `flat`, and whose second has files in its place."""

    def __init__(self, new_upstream: NewUpstream, git: Git, root: Path, extra: str = "") -> None:
        self.git, self.root, self.path = git, root, root / "out"
        self.inner, self.outer = new_upstream("inner"), new_upstream("outer")
        self.inner.commit({"x.py": "1", "y.py": "1"})
        self.outer.commit({"a": "1"})
        self.outer.git("submodule", "--quiet", "add", "--", str(self.inner.path), "flat")
        if extra:
            self.outer.git("config", "-f", ".gitmodules", "submodule.flat.ignore", extra)
        self.before = self.outer.commit({})
        self.outer.git("rm", "--quiet", "-f", "flat", ".gitmodules")
        self.after = self.outer.commit({"flat/x.py": "2", "flat/z.py": "2"})
        clones.ensure_cached(git, self.outer.source, self.before)
        clones.place(git, self.outer.source, self.before, self.path)
        clones.make_known(git, self.outer.source, self.after, self.path)

    def obstacles(self, commit: str) -> list[str]:
        return obstacles(self.git, self.outer, self.path, commit)

    def bring(self, commit: str, other: str | None = None) -> bool:
        return checkouts.bring(self.git, self.path, self.outer.source, commit, self.root / "rescue", other)

    def flat(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted((self.path / "flat").iterdir()) if path.is_file()}

    def rescued(self) -> dict[str, str]:
        there = self.root / "rescue"
        return {p.relative_to(there).as_posix(): p.read_text() for p in there.rglob("*") if p.is_file()}


OLD, NEW = {"x.py": "1", "y.py": "1"}, {"x.py": "2", "z.py": "2"}


@pytest.fixture
def vendored(new_upstream: NewUpstream, git: Git, tmp_path: Path) -> Vendored:
    return Vendored(new_upstream, git, tmp_path)


def test_a_submodule_becomes_files_and_a_submodule_again(vendored: Vendored) -> None:
    (vendored.path / "flat/__pycache__").mkdir()
    (vendored.path / "flat/__pycache__/x.pyc").write_text("bytecode")
    (vendored.path / "flat/settings.json").write_text("mine")
    for commit, files in ((vendored.after, NEW), (vendored.before, OLD), (vendored.after, NEW)):
        assert vendored.obstacles(commit) == []
        assert vendored.bring(commit)
        assert vendored.flat() == {"settings.json": "mine", **files}
        assert vendored.git.edited(vendored.path) == []
        assert (vendored.path / "flat/.git").exists() == (files is OLD)
    assert (vendored.path / "flat/__pycache__/x.pyc").exists()
    assert vendored.rescued() == {}
    assert not list((vendored.path / ".git").glob(".submodule*"))


def test_a_submodule_that_goes_for_nothing_is_gone(vendored: Vendored) -> None:
    vendored.outer.git("rm", "--quiet", "-r", "flat")
    nothing = vendored.outer.commit({})
    assert vendored.bring(nothing)
    assert not (vendored.path / "flat").exists()


def test_edits_in_a_submodule_that_goes_are_obstacles_and_are_rescued(vendored: Vendored) -> None:
    (vendored.path / "flat/x.py").write_text("mine")
    (vendored.path / "flat/z.py").write_text("mine too")
    assert sorted(vendored.obstacles(vendored.after)) == ["flat/x.py (edited)", "flat/z.py (would be overwritten)"]
    assert vendored.bring(vendored.after)
    assert vendored.flat() == NEW
    assert vendored.rescued() == {"out/flat/x.py": "mine", "out/flat/z.py": "mine too"}


def test_commits_in_a_submodule_that_goes_are_an_obstacle(vendored: Vendored) -> None:
    (vendored.path / "flat/x.py").write_text("mine")
    vendored.outer.git("-C", str(vendored.path / "flat"), "commit", "--quiet", "-am", "mine")
    mine = vendored.git.head(vendored.path / "flat")
    assert mine
    assert "flat/.git (holds commits or a stash of yours" in vendored.obstacles(vendored.after)[0]
    assert vendored.bring(vendored.after)
    kept = vendored.root / "rescue/out/flat/.git"
    assert vendored.git.ask(kept, "cat-file", "-t", mine) == "commit"


def test_a_file_in_the_way_of_a_submodule_that_comes_is_an_obstacle(vendored: Vendored) -> None:
    vendored.bring(vendored.after)
    (vendored.path / "flat/y.py").write_text("mine")
    assert vendored.obstacles(vendored.before) == ["flat/y.py (would be overwritten)"]


def test_a_file_in_the_folder_of_a_submodule_that_is_not_there_is_an_obstacle(vendored: Vendored) -> None:
    """git looks into no such folder. What is the same, or no file of the submodule, is in nobody's way."""
    fs.remove_tree(vendored.path / "flat")
    (vendored.path / "flat").mkdir()
    (vendored.path / "flat/notes.txt").write_text("mine")
    (vendored.path / "flat/x.py").write_text("1")
    assert vendored.obstacles(vendored.before) == []
    (vendored.path / "flat/y.py").write_text("mine")
    assert vendored.obstacles(vendored.before) == ["flat/y.py (would be overwritten)"]
    (vendored.path / "flat/y.py").unlink()
    assert vendored.bring(vendored.before)
    assert vendored.flat() == {"notes.txt": "mine", **OLD}


def test_a_repair_that_was_killed_in_a_submodule_leaves_edits_around_it(vendored: Vendored) -> None:
    """`gov sync` goes from anywhere to one commit: there is no other end, and nothing else is to move."""
    (vendored.path / "a").write_text("mine")
    vendored.git.leave_commit(vendored.path / "flat")
    vendored.git.remove_tracked(vendored.path / "flat")
    (vendored.path / "flat/.git/index.lock").touch()
    assert vendored.bring(vendored.before, vendored.before)
    assert vendored.flat() == OLD
    assert (vendored.path / "a").read_text() == "mine"


@pytest.mark.parametrize("there", ["submodule", "nothing"])
def test_a_repository_of_the_users_in_the_way_is_an_obstacle(vendored: Vendored, there: str) -> None:
    """Where the new commit has files, and where it has a submodule."""
    if there == "nothing":
        vendored.after = vendored.outer.commit({"own/a.py": "theirs"})
        name = "own"
    else:
        vendored.outer.git("rm", "--quiet", "-r", "flat")
        nothing = vendored.outer.commit({})
        vendored.bring(nothing)
        vendored.after, name = vendored.before, "flat"
    mine = Upstream(vendored.path / name)
    mine.commit({"a.py": "1"})
    (mine.path / "a.py").write_text("uncommitted")
    found = vendored.obstacles(vendored.after)
    assert f"{name} (is a repository of your own, where the new commit has files)" in found


def test_a_submodule_that_diffs_shall_ignore_is_seen(new_upstream: NewUpstream, git: Git, tmp_path: Path) -> None:
    """`ignore = all` in .gitmodules hides a submodule from `git diff`."""
    vendored = Vendored(new_upstream, git, tmp_path, "all")
    vendored.bring(vendored.after)
    (vendored.path / "flat/y.py").write_text("mine")
    assert vendored.obstacles(vendored.before) == ["flat/y.py (would be overwritten)"]
    (vendored.path / "flat/y.py").unlink()
    vendored.bring(vendored.before)
    assert vendored.flat() == OLD


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [*faults.SUBMODULE_POINTS, "checkout.moving", "checkout.moved"])
@pytest.mark.parametrize("towards", ["files", "submodule"])
@pytest.mark.parametrize("then", ["on", "back"])
def test_a_kill_while_a_submodule_comes_or_goes_loses_nothing(
    vendored: Vendored, moment: str, towards: str, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, end = vendored.before, vendored.after
    if towards == "submodule":
        start, end = end, start
        vendored.bring(start)
    (vendored.path / "flat/settings.json").write_text("mine")

    def strike(name: str) -> None:
        if name == moment:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", strike)
        try:
            vendored.bring(end)
        except Killed:
            (vendored.path / ".git/index.lock").touch()
            if (vendored.path / "flat/.git").exists() and vendored.git.head(vendored.path / "flat") is None:
                (vendored.path / "flat/.git/index.lock").touch()
    wanted, other = (end, start) if then == "on" else (start, end)
    vendored.bring(wanted, other)
    assert clones.in_place(vendored.git, vendored.path, wanted)
    assert vendored.flat() == {"settings.json": "mine", **(OLD if wanted == vendored.before else NEW)}
    assert vendored.git.edited(vendored.path) == []
    assert not {name for name in vendored.rescued() if "settings" in name}
    assert not vendored.bring(wanted)
