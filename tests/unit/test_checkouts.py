"""Bringing a checkout to a commit in place: what is the user's stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfygov.errors import Code, GovError
from comfygov.model.config import Config
from comfygov.model.state import Baseline, ComfyUIPin, Declaration, Plugin, Registry
from comfygov.ports import clones, collisions, fs, process
from comfygov.ports.git import Git
from comfygov.truth import checkouts, declaration
from comfygov.truth.home import Home
from comfygov.truth.snapshots import State

from .conftest import NewUpstream, Upstream


class Placed:
    """A pack in custom_nodes at its first commit, the second one to come."""

    def __init__(self, git: Git, upstream: Upstream, root: Path, before: dict[str, str], after: dict[str, str | None]):
        self.git, self.upstream = git, upstream
        self.home = Home(root / "home", Config())
        self.before, self.after = upstream.commit(before), upstream.commit(after)
        self.path = self.home.custom_nodes / "pack"
        self.rescue = root / "rescue"
        self.path.parent.mkdir(parents=True)
        clones.ensure_cached(git, upstream.source, self.after)
        clones.place(git, upstream.source, self.before, self.path)

    def state(self, commit: str) -> State:
        plugin = Plugin("pack", str(self.upstream.path), commit, "", "node-pack")
        text = declaration.render(Declaration(ComfyUIPin("", None, ""), ">=3.10"), "")
        return State(text.encode(), b"", Registry((plugin,)), Baseline(), "")

    def obstacles(self) -> list[str]:
        found = checkouts.obstacles(self.home, self.git, self.state(self.after))
        return [line for line in found if line.startswith("pack: ")]

    def bring(self, commit: str | None = None) -> bool:
        return checkouts.bring(self.git, self.path, self.upstream.source, commit or self.after, self.rescue)

    def recover(self, commit: str | None = None) -> bool:
        """As the next command does after a kill in a move between the two commits."""
        wanted = commit or self.after
        other = self.before if wanted == self.after else self.after
        return checkouts.bring(self.git, self.path, self.upstream.source, wanted, self.rescue, other)

    def rescued(self) -> dict[str, str]:
        return {str(p.relative_to(self.rescue)): p.read_text() for p in self.rescue.rglob("*") if p.is_file()}

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def placed(git: Git, upstream: Upstream, tmp_path: Path) -> Placed:
    before = {"a.py": "1", "same.py": "s", ".gitignore": "*.log\n"}
    return Placed(git, upstream, tmp_path, before, {"a.py": "2", "new.py": "n", "b.py": "b"})


def at_hand(placed: Placed) -> Placed:
    """The commit is known in the checkout itself, as before a rollback."""
    placed.git.borrow(placed.path, placed.git.cache_of(placed.upstream.source), placed.after)
    return placed


def test_untracked_and_ignored_files_stay(placed: Placed) -> None:
    placed.write("mine.json", "m")
    placed.write("deep/er/x.log", "l")
    assert placed.obstacles() == []
    assert placed.bring()
    assert (placed.path / "a.py").read_text() == "2"
    assert (placed.path / "mine.json").read_text() == "m"
    assert (placed.path / "deep/er/x.log").read_text() == "l"
    assert not placed.rescue.exists()
    assert not placed.bring()
    assert placed.bring(placed.before)
    assert not (placed.path / "new.py").exists()
    assert placed.git.untracked(placed.path, ignored=False) == ["mine.json"]
    assert sorted(placed.git.untracked(placed.path, ignored=True)) == ["deep/er/x.log", "mine.json"]


def test_an_edited_or_removed_file_is_an_obstacle(placed: Placed) -> None:
    placed.write("same.py", "mine")
    (placed.path / "a.py").unlink()
    assert placed.obstacles() == ["pack: a.py (edited)", "pack: same.py (edited)"]


def test_an_untracked_file_in_the_way_is_an_obstacle_unless_it_is_the_same(placed: Placed) -> None:
    at_hand(placed)
    placed.write("new.py", "mine")
    placed.write("b.py", "b")
    assert placed.obstacles() == ["pack: new.py (would be overwritten)"]


def test_an_untracked_file_in_the_way_of_a_new_commit_is_an_obstacle(placed: Placed) -> None:
    placed.after = placed.upstream.commit({"later.py": "theirs"})
    repository = clones.ensure_cached(placed.git, placed.upstream.source, placed.after)
    placed.git.borrow(placed.path, repository, placed.after)
    placed.write("later.py", "mine")
    assert placed.obstacles() == ["pack: later.py (would be overwritten)"]


def test_an_untracked_file_in_the_way_of_a_renamed_one_is_an_obstacle(
    git: Git, upstream: Upstream, tmp_path: Path
) -> None:
    body = "line\n" * 50
    placed = at_hand(Placed(git, upstream, tmp_path, {"old.py": body, "x": ""}, {"old.py": None, "new.py": body}))
    placed.write("new.py", "mine")
    assert placed.obstacles() == ["pack: new.py (would be overwritten)"]


def test_an_untracked_file_where_a_folder_goes_is_an_obstacle(git: Git, upstream: Upstream, tmp_path: Path) -> None:
    placed = at_hand(Placed(git, upstream, tmp_path, {"a": "1"}, {"data/x.txt": "x"}))
    placed.write("data", "mine")
    assert placed.obstacles()


def test_a_name_that_is_no_utf8_is_an_obstacle(git: Git, upstream: Upstream, tmp_path: Path) -> None:
    name = "caf\udce9.txt"
    upstream.commit({"a": "1"})
    placed = at_hand(Placed(git, upstream, tmp_path, {"a": "2"}, {name: "theirs"}))
    placed.write(name, "mine")
    assert placed.obstacles()


def test_a_tracked_folder_that_becomes_a_file_is_no_obstacle(git: Git, upstream: Upstream, tmp_path: Path) -> None:
    placed = Placed(git, upstream, tmp_path, {"lib/a": "1"}, {"lib/a": None})
    placed.after = upstream.commit({"lib": "now a file"})
    clones.ensure_cached(git, upstream.source, placed.after)
    assert at_hand(placed).obstacles() == []


def test_a_folder_that_is_no_repository_is_an_obstacle(placed: Placed) -> None:
    (placed.path / ".git").rename(placed.path.parent / "elsewhere")
    assert "no git repository of its own" in placed.obstacles()[0]


def test_a_checkout_that_is_where_it_belongs_costs_no_git_command(
    placed: Placed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(process, "run", lambda argv, **_: asked.append(argv))
    placed.after = placed.before
    assert placed.obstacles() == []
    assert asked == []


def test_a_checkout_that_is_not_there_is_made(placed: Placed, tmp_path: Path) -> None:
    placed.path.rename(tmp_path / "away")
    assert placed.obstacles() == []
    assert placed.bring()
    assert placed.git.head(placed.path) == placed.after
    assert [path.name for path in placed.path.parent.iterdir()] == ["pack"]
    assert placed.git.origin(placed.path) == str(placed.upstream.path)


@pytest.mark.parametrize("at", ["before", "after"])
def test_a_stale_index_lock_is_no_obstacle_to_recovery(placed: Placed, at: str) -> None:
    placed.bring(getattr(placed, at))
    (placed.path / ".git" / "index.lock").touch()
    assert placed.recover()
    assert placed.git.head(placed.path) == placed.after
    assert not placed.git.edited(placed.path)
    assert not (placed.path / ".git" / "index.lock").exists()


def test_a_stale_lock_of_head_is_no_obstacle_to_recovery(placed: Placed) -> None:
    (placed.path / ".git" / "HEAD.lock").touch()
    assert placed.recover()


def test_a_lock_of_the_users_own_git_is_not_touched_and_reverts_nothing(placed: Placed) -> None:
    placed.bring()
    placed.write("a.py", "mine")
    (placed.path / ".git" / "index.lock").touch()
    assert not placed.bring()
    assert (placed.path / "a.py").read_text() == "mine"
    assert (placed.path / ".git" / "index.lock").exists()


def test_a_checkout_that_failed_half_way_is_undone(git: Git, upstream: Upstream, tmp_path: Path) -> None:
    """git wrote one new file, half of another, and changed a third before it died."""
    placed = Placed(git, upstream, tmp_path, {"kept.py": "1"}, {"kept.py": "2", "new.py": "2", "half.py": "2222"})
    placed.write("kept.py", "2")
    placed.write("new.py", "2")
    placed.write("half.py", "22")
    placed.write("notes.txt", "mine")
    (placed.path / ".git" / "index.lock").touch()
    assert placed.recover(placed.before)
    there = {p.name: p.read_text() for p in placed.path.iterdir() if p.is_file()}
    assert {name: there.get(name) for name in ("kept.py", "new.py", "half.py", "notes.txt")} == {
        "kept.py": "1",
        "new.py": None,
        "half.py": None,
        "notes.txt": "mine",
    }
    assert placed.rescued() == {"pack/half.py": "22", "pack/new.py": "2"}


def test_a_move_does_not_begin_where_somebody_elses_git_works(placed: Placed) -> None:
    lock = placed.path / ".git" / "index.lock"
    lock.touch()
    assert any("index.lock (a git command is at work" in line for line in placed.obstacles())
    lock.unlink()
    assert placed.obstacles() == []


def test_a_file_of_the_users_that_came_in_between_is_kept_aside(git: Git, upstream: Upstream, tmp_path: Path) -> None:
    placed = Placed(git, upstream, tmp_path, {"kept.py": "1"}, {"kept.py": "2", "new.py": "2"})
    placed.write("new.py", "precious")
    assert placed.recover()
    assert (placed.path / "new.py").read_text() == "2"
    assert placed.rescued() == {"pack/new.py": "precious"}


def test_lines_that_git_would_store_otherwise_are_no_edit(git: Git, upstream: Upstream, tmp_path: Path) -> None:
    """CRLF in the repository behind `* text`: git itself calls a fresh checkout of it modified."""
    placed = Placed(git, upstream, tmp_path, {"crlf.py": "a\r\n"}, {"crlf.py": "b\r\n"})
    placed.bring(placed.before)
    placed.write(".gitattributes", "* text\n")
    placed.write("crlf.py", "a\r\n")
    assert placed.git.edited(placed.path) == []
    assert placed.bring()
    assert placed.rescued() == {}


def test_a_killed_checkout_is_finished_and_the_users_edit_is_rescued(
    git: Git, upstream: Upstream, tmp_path: Path
) -> None:
    before = {"done.py": "1", "not_yet.py": "1", "edited.py": "1", "gone.py": "1"}
    placed = Placed(
        git, upstream, tmp_path, before, {"done.py": "2", "not_yet.py": "2", "edited.py": "2", "new.py": "2"}
    )
    placed.write("done.py", "2")
    placed.write("new.py", "2")
    placed.write("edited.py", "mine")
    placed.write("notes.txt", "mine too")
    (placed.path / "gone.py").unlink()
    (placed.path / ".git" / "index.lock").touch()
    assert placed.recover()
    assert placed.rescued() == {"pack/edited.py": "mine"}
    assert {p.name: p.read_text() for p in placed.path.iterdir() if p.is_file()} == {
        **dict.fromkeys(("done.py", "not_yet.py", "edited.py", "new.py"), "2"),
        "gone.py": "1",
        "notes.txt": "mine too",
    }
    assert not placed.git.edited(placed.path)


def test_half_of_a_checkout_is_removed_when_it_fails(placed: Placed, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="git"):
        clones.place(placed.git, placed.upstream.source, "0" * 40, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_was_there_before_survives_a_failed_place(placed: Placed, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("m")
    with pytest.raises(Exception, match="in the way"):
        clones.place(placed.git, placed.upstream.source, placed.before, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "m"


def test_fetch_missing_fetches_only_what_is_missing(placed: Placed, new_upstream: NewUpstream) -> None:
    other = new_upstream("other")
    plugin = Plugin("other", str(other.path), other.commit({"a": "1"}), "", "node-other")
    pin = ComfyUIPin(str(placed.upstream.path), None, placed.after)
    text = declaration.render(Declaration(pin, ">=3.10"), "")
    state = State(text.encode(), b"", Registry((plugin,)), Baseline(), "")
    assert not placed.git.has_commit(other.source, plugin.commit)
    checkouts.fetch_missing(placed.home, placed.git, state)
    assert placed.git.has_commit(other.source, plugin.commit)


def test_what_is_only_staged_is_an_edit_and_is_rescued(placed: Placed) -> None:
    placed.write("same.py", "staged")
    placed.upstream.git("-C", str(placed.path), "add", "same.py")
    placed.write("same.py", "s")
    assert placed.obstacles() == ["pack: same.py (edited)"]
    assert placed.bring()
    assert placed.rescued() == {"pack.staged/same.py": "staged"}


def test_a_new_file_that_is_only_staged_is_an_edit(placed: Placed) -> None:
    placed.write("new.py", "mine")
    placed.upstream.git("-C", str(placed.path), "add", "new.py")
    (placed.path / "new.py").unlink()
    assert placed.obstacles() == ["pack: new.py (edited)"]


@pytest.mark.parametrize("how", ["literal", "glob", "noglob", "icase"])
def test_variables_that_read_paths_otherwise_hide_nothing(
    placed: Placed, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hand(placed)
    monkeypatch.setenv(f"GIT_{how.upper()}_PATHSPECS", "1")
    placed.write("new.py", "mine")
    assert placed.obstacles() == ["pack: new.py (would be overwritten)"]


HOSTILE = {
    "recursion": ("submodule.recurse", "true"),
    "hidden submodules": ("diff.ignoreSubmodules", "all"),
    "an order file that is not there": ("diff.orderFile", "/nowhere"),
    "Windows line ends": ("core.autocrlf", "true"),
    "line ends of text": ("core.eol", "crlf"),
    "safe line ends": ("core.safecrlf", "true"),
    "attributes": ("core.attributesFile", "{root}/attributes"),
    "excludes": ("core.excludesFile", "{root}/excludes"),
    "sparse": ("core.sparseCheckout", "true"),
    "shallow": ("clone.rejectShallow", "true"),
    "remote": ("clone.defaultRemoteName", "elsewhere"),
    "prune": ("fetch.prune", "true"),
    "prune tags": ("fetch.pruneTags", "true"),
    "external diff": ("diff.external", "false"),
    "renames": ("status.renames", "copies"),
    "untracked": ("status.showUntrackedFiles", "all"),
    "branch": ("status.branch", "true"),
    "relative": ("diff.relative", "true"),
    "work tree": ("core.worktree", "/nowhere"),
    "colour": ("color.ui", "always"),
    "remote to check out": ("checkout.defaultRemote", "elsewhere"),
    "hash": ("init.defaultObjectFormat", "sha256"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_setting_of_a_persons_git_changes_what_is_done(
    name: str, new_upstream: NewUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, upstream = new_upstream("inner"), new_upstream("pack")
    inner.commit({"x.py": "1\n"})
    upstream.commit({"a.py": "1\n"})
    upstream.git("submodule", "--quiet", "add", "--", str(inner.path), "lib")
    before = upstream.commit({".gitattributes": "*.py text\n"})
    upstream.git("-C", "lib", "pull", "--quiet", str(inner.path), inner.commit({"x.py": "2\n"}))
    after = upstream.commit({"a.py": "2\n", "new.py": "n\n"})

    setting, value = HOSTILE[name]
    (tmp_path / "attributes").write_text("* eol=crlf working-tree-encoding=UTF-16\n")
    (tmp_path / "excludes").write_text("*\n")
    (tmp_path / "gitconfig").touch()
    upstream.git("config", "--file", str(tmp_path / "gitconfig"), setting, value.format(root=tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    git, path, rescue = Git(tmp_path / "cache"), tmp_path / "pack", tmp_path / "rescue"
    clones.ensure_cached(git, upstream.source, before)
    clones.place(git, upstream.source, before, path)
    clones.make_known(git, upstream.source, after, path)
    upstream.git("-C", str(path), "config", "submodule.active", ".")  # as `git submodule init` leaves it
    assert git.edited(path) == git.edited(path / "lib") == []
    (path / "new.py").write_text("mine")
    assert collisions.collisions(git, path, upstream.source, after) == ["new.py"]
    (path / "lib/x.py").write_text("mine\n")
    assert git.edited(path / "lib") == ["x.py"]
    checkouts.bring(git, path, upstream.source, after, rescue)
    assert [(path / file).read_bytes() for file in ("a.py", "lib/x.py")] == [b"2\n", b"2\n"]
    assert [(rescue / "pack" / file).read_text() for file in ("new.py", "lib/x.py")] == ["mine", "mine\n"]
    assert git.origin(path) == str(upstream.path)


def test_no_variable_of_a_persons_git_reaches_ours(placed: Placed, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "GIT_CONFIG": "/nowhere",
        "GIT_QUARANTINE_PATH": "/nowhere",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_SHALLOW_FILE": "/nowhere",
        "GIT_REPLACE_REF_BASE": "refs/elsewhere",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_ATTR_SOURCE": "HEAD~9",
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert placed.git.origin(placed.path) == str(placed.upstream.path)
    assert placed.obstacles() == []
    assert placed.bring()


def test_a_commit_is_what_its_name_says_whatever_replaces_it(placed: Placed) -> None:
    at_hand(placed)
    placed.upstream.git("-C", str(placed.path), "replace", placed.after, placed.before)
    assert placed.bring()
    assert (placed.path / "a.py").read_text() == "2"


class TestForeign:
    """Another repository under the name of a pack."""

    @staticmethod
    def refused(placed: Placed, governed: str | None) -> bool:
        try:
            checkouts.refuse_foreign(
                placed.home, placed.git, placed.state(placed.after), placed.state(governed) if governed else None
            )
        except GovError as error:
            return error.code is Code.LOCAL_EDITS and str(placed.path) in error.details[0]
        return False

    @pytest.mark.parametrize("governed", [True, False])
    def test_is_not_turned_into_the_pack(self, placed: Placed, governed: bool) -> None:
        fs.remove_tree(placed.path)
        Upstream(placed.path).commit({"mine.py": "m"})
        assert self.refused(placed, placed.before if governed else None)

    def test_the_pack_itself_is_none(self, placed: Placed) -> None:
        assert not self.refused(placed, placed.before)
        assert not self.refused(placed, None)

    def test_commits_on_top_of_a_governed_pack_are_none(self, placed: Placed) -> None:
        placed.upstream.git("-C", str(placed.path), "commit", "--quiet", "--allow-empty", "-m", "mine")
        assert not self.refused(placed, placed.before)
        assert self.refused(placed, None)

    def test_without_a_cache_the_history_tells(self, placed: Placed) -> None:
        at_hand(placed)
        fs.remove_tree(placed.git.cache)
        placed.upstream.git("-C", str(placed.path), "commit", "--quiet", "--allow-empty", "-m", "mine")
        assert not self.refused(placed, None)
