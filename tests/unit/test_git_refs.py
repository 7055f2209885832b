"""The object cache and the names in it, on real repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfygov.errors import Code
from comfygov.ports import clones, git_failures, process
from comfygov.ports.git import Git, Source
from comfygov.truth import checkouts

from .conftest import NewUpstream, Refused, Upstream


def test_a_branch_a_tag_and_a_commit_are_found(upstream: Upstream, git: Git) -> None:
    first = upstream.commit({"a": "1"})
    upstream.git("tag", "-a", "v1.0", "-m", "x")
    upstream.git("switch", "--quiet", "-c", "feature/x")
    second = upstream.commit({"a": "2"})
    upstream.git("switch", "--quiet", "main")
    source = upstream.source
    git.fetch(source)
    for ref in (None, "main", "HEAD", "v1.0", "refs/tags/v1.0", "refs/heads/main", first, first[:8]):
        assert git.resolve(source, ref) == first
    for ref in ("feature/x", "refs/heads/feature/x", second):
        assert git.resolve(source, ref) == second


@pytest.mark.parametrize(
    "ref",
    ["-x", "--exec=x", "a..b", "main~1", "main^", "main:a", "a b", "ma*n", "ma?n", "[m]ain", "a\\b", "a\nb", ":/x"],
)
def test_a_ref_that_git_would_read_as_more_than_a_name_is_refused(
    ref: str, upstream: Upstream, git: Git, refused: Refused
) -> None:
    upstream.commit({"a": "1"})
    git.fetch(upstream.source)
    with refused(Code.REF_NOT_FOUND):
        git.resolve(upstream.source, ref)


@pytest.mark.parametrize("ref", ["", "@{-1}", "main@{1}", "@{u}", "nope", "refs/", "/", "f" * 40, "abcdef1", "../HEAD"])
def test_a_ref_that_is_not_there_is_not_found(ref: str, upstream: Upstream, git: Git, refused: Refused) -> None:
    upstream.commit({"a": "1"})
    git.fetch(upstream.source)
    with refused(Code.REF_NOT_FOUND):
        git.resolve(upstream.source, ref)


def test_a_ref_with_a_slip_names_the_near_ones(upstream: Upstream, git: Git, refused: Refused) -> None:
    upstream.commit({"a": "1"})
    upstream.git("tag", "v1.2.0")
    upstream.git("branch", "develop")
    git.fetch(upstream.source)
    for ref, near in (("develpo", "develop"), ("v1.2", "v1.2.0"), ("mian", "main")):
        with refused(Code.REF_NOT_FOUND) as caught:
            git.resolve(upstream.source, ref)
        assert near in caught.value.hint


def test_a_repository_without_commits_is_called_that(upstream: Upstream, git: Git, refused: Refused) -> None:
    with refused(Code.REF_NOT_FOUND):
        git.fetch(upstream.source)
        git.resolve(upstream.source, None)


def test_a_folder_that_is_no_repository_is_a_bad_source(tmp_path: Path, git: Git, refused: Refused) -> None:
    (tmp_path / "plain").mkdir()
    with refused(Code.BAD_SOURCE):
        git.fetch(Source(str(tmp_path / "plain"), str(tmp_path / "plain"), local=True))


def test_a_force_push_upstream_takes_nothing_of_ours(upstream: Upstream, git: Git, tmp_path: Path) -> None:
    upstream.commit({"a": "1"})
    ours = upstream.commit({"a": "ours"})
    source = upstream.source
    clones.ensure_cached(git, source, ours)
    upstream.git("reset", "--quiet", "--hard", "HEAD~1")
    theirs = upstream.commit({"a": "theirs"})
    upstream.git("reflog", "expire", "--expire=now", "--all")
    upstream.git("gc", "--quiet", "--prune=now")
    repository = git.fetch(source)
    Upstream.git(upstream_at(repository), "gc", "--quiet", "--prune=now")
    assert git.resolve(source, None) == theirs
    assert git.resolve(source, ours) == ours
    clones.place(git, source, ours, tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "ours"


def upstream_at(path: Path) -> Upstream:
    made = object.__new__(Upstream)
    made.path = path
    return made


def test_a_branch_that_became_a_folder_of_branches_is_fetched(upstream: Upstream, git: Git) -> None:
    commit = upstream.commit({"a": "1"})
    upstream.git("branch", "next")
    git.fetch(upstream.source)
    upstream.git("branch", "-m", "next", "next/one")
    git.fetch(upstream.source)
    assert git.resolve(upstream.source, "next/one") == commit


def test_files_are_read_at_a_commit(upstream: Upstream, git: Git) -> None:
    commit = upstream.commit({"a.txt": "one\n", "d/b.txt": "two", "ü": "x"})
    upstream.commit({"a.txt": "later"})
    repository = git.fetch(upstream.source)
    assert git.show(repository, commit, "a.txt") == "one\n"
    assert git.show(repository, commit, "d/b.txt") == "two"
    assert git.show(repository, commit, "gone") is None
    assert git.show(repository, commit, "d") is None
    assert sorted(git.list_tree(repository, commit)) == ["a.txt", "d", "ü"]
    assert git.tree_of(repository, commit) == upstream.git("rev-parse", f"{commit}^{{tree}}")


def test_head_is_that_of_the_folder_itself(upstream: Upstream, git: Git) -> None:
    commit = upstream.commit({"pack/a": "1"})
    assert git.head(upstream.path) == commit
    assert git.head(upstream.path / "pack") is None
    assert git.head(upstream.path / "gone") is None
    upstream.git("checkout", "--quiet", "--detach")
    assert git.head(upstream.path) == commit


def test_head_of_a_folder_with_half_a_git_directory_is_none(upstream: Upstream, git: Git) -> None:
    upstream.commit({"pack/a": "1"})
    (upstream.path / "pack" / ".git").mkdir()
    assert git.head(upstream.path / "pack") is None


def test_git_hooks_do_not_run(upstream: Upstream, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = upstream.commit({"a": "1"})
    template = tmp_path / "template" / "hooks"
    template.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-merge"):
        (template / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (template / name).chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template.parent))
    clones.ensure_cached(git, upstream.source, first)
    clones.place(git, upstream.source, first, tmp_path / "out")
    assert (tmp_path / "out" / ".git" / "hooks" / "post-checkout").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "[core]\nautocrlf = true",
            "[submodule]\nrecurse = true",
            "[fetch]\nprune = true",
            "[diff]\nexternal = false",
        ),
        *("[transfer]\nfsckObjects = true", "[color]\nui = always", "[core]\nquotePath = true"),
        "[clone]\ndefaultRemoteName = upstream",
        "[safe]\nbareRepository = explicit",
    ],
)
def test_settings_of_the_person_do_not_stop_a_checkout(
    setting: str, new_upstream: NewUpstream, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text(setting + "\n")
    pack = new_upstream("pack")
    first, second = pack.commit({"a": "1\n"}), pack.commit({"a": "2\n", "b": "x"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    clones.ensure_cached(git, pack.source, second)
    clones.place(git, pack.source, first, tmp_path / "out")
    assert not git.edited(tmp_path / "out")
    assert checkouts.bring(git, tmp_path / "out", pack.source, second, tmp_path / "rescue")
    assert (tmp_path / "out" / "a").read_text() == "2\n" or "autocrlf" in setting
    assert not (tmp_path / "rescue").exists()


def test_a_file_is_read_through_links_that_stay_in_the_repository(upstream: Upstream, git: Git) -> None:
    """Else the name that a linked requirements.txt leads to would be asked for as a package."""
    targets = {
        "requirements.txt": "reqs/link.txt",
        "reqs/link.txt": "../base.txt",
        "out": "../../base.txt",
        "root": "/etc/passwd",
        "loop": "loop",
        "gone": "nowhere",
        "folder": "reqs",
    }
    for name, target in targets.items():
        (upstream.path / name).parent.mkdir(exist_ok=True)
        (upstream.path / name).symlink_to(target)
    at = upstream.commit({"base.txt": "einops\n"})
    read = {name: git.show(upstream.path, at, name) for name in (*targets, "base.txt", "no.txt")}
    assert {name: text for name, text in read.items() if text is not None} == dict.fromkeys(
        ("base.txt", "requirements.txt", "reqs/link.txt"), "einops\n"
    )


@pytest.mark.parametrize("words", ["fatal: couldn't find remote ref refs/heads/x", "fatal: invalid refspec '+x~1:y'"])
def test_a_name_that_a_shortened_history_lacks_is_no_broken_repository(words: str, upstream: Upstream) -> None:
    done = process.Completed(("git", "fetch"), 128, "", words)
    assert git_failures.fetch_failure(upstream.source, upstream.path, done).code is Code.REF_NOT_FOUND
