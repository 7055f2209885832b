"""Packs with repositories inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfygov.errors import Code
from comfygov.ports import clones
from comfygov.ports.git import Git
from comfygov.truth import checkouts

from .conftest import NewUpstream, Refused, Upstream


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
