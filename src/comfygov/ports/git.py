"""git without surprises: no option or helper from a string, no hooks, no prompts, no credentials kept.

Objects of every repository live once per user in a bare cache repository. Commits that a home uses are
kept there by a ref of ours, so that a force push upstream takes nothing away.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from comfygov.errors import Code, GovError
from comfygov.ports import fs, git_apart, git_settings, git_work, lock, process
from comfygov.ports.git_failures import failure, fetch_failure
from comfygov.ports.git_files import COMMIT, detached_head, git_folder, link_target, readable
from comfygov.ports.source import CONTENT, REGISTRY, Source, parse_source, recorded_source, refspec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Git", "Source", "git_folder", "parse_source", "recorded_source"]

FETCH_TIMEOUT_SECONDS = 1800.0
LOCAL_TIMEOUT_SECONDS = 300.0
ASK_TIMEOUT_SECONDS = 15.0

_CLONE_OPTIONS = ("--quiet", "--origin", "origin", "--no-checkout", "--no-tags")
_LINK_MODE = "120000"
_MOST_LINKS = 8
_UNBORN = "refs/heads/comfygov-unborn"
# A source may be a clone that was cut off (shallow): its ends become those of the cache.
_FETCH_OPTIONS = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--update-shallow")


def _patience(stall_seconds: int | None) -> dict[str, str | None]:
    """What bounds a stalled HTTP transfer (git-config(1), http.lowSpeedTime); a person's own bound goes first."""
    if stall_seconds is None:
        return {}
    own = os.environ.get("GIT_HTTP_LOW_SPEED_TIME", str(stall_seconds))
    return {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": own}


class Git:
    """Works on the object cache and on checkouts of ours."""

    def __init__(self, cache: Path | Callable[[], Path], apart: Path | None = None) -> None:
        """`apart` is where the repositories of checkouts are that have none in themselves (see `git_apart`)."""
        self._cache = cache
        self.apart = apart

    @property
    def cache(self) -> Path:
        """Where the object caches lie; found when it is needed first."""
        if callable(self._cache):
            self._cache = self._cache()
        return self._cache

    def _run(
        self,
        arguments: Sequence[str],
        cwd: Path | None = None,
        timeout_seconds: float = LOCAL_TIMEOUT_SECONDS,
        env: dict[str, str | None] | None = None,
        *,
        exact: bool = False,
    ) -> process.Completed:
        settings = {**git_settings.environment(), **(env or {})}
        repository = git_apart.repository_of(self.apart, cwd) if cwd else None
        if cwd and repository:
            cwd = git_apart.work_tree(cwd)
            settings |= {"GIT_DIR": str(repository), "GIT_WORK_TREE": str(cwd)}
        return process.run(
            ["git", *git_settings.OPTIONS, *arguments],
            cwd=cwd,
            env=process.child_environment(settings),
            timeout_seconds=timeout_seconds,
            errors="surrogateescape",
            exact=exact,
        )

    def _check(
        self,
        arguments: Sequence[str],
        cwd: Path,
        timeout_seconds: float = LOCAL_TIMEOUT_SECONDS,
        *,
        exact: bool = False,
    ) -> str:
        done = self._run(arguments, cwd, timeout_seconds, exact=exact)
        if done.exit_code != 0:
            verb = next(word for word in arguments if word[:1].isalpha() and "=" not in word)
            raise failure(f"git {verb} in {cwd}", cwd, done)
        return done.stdout

    # -- the object cache ------------------------------------------------------------------------

    def cache_of(self, source: Source) -> Path:
        import hashlib

        name = hashlib.sha256(source.public.encode()).hexdigest()[:20]
        return self.cache / f"{name}.git"

    def fetch(self, source: Source, ref: str | None = None, *, stall_seconds: int | None = None) -> Path:
        """Bring the cache repository of `source` up to date and return it.

        Where the source's history cannot be read whole (a damaged or partial clone), the newest commit
        of `ref` alone is taken. An HTTP server that sends nothing for `stall_seconds` does not answer.
        """
        patience = _patience(stall_seconds)
        repository = self.cache_of(source)
        if source.public.startswith(CONTENT) and (repository / "config").is_file():
            return repository  # it comes from nowhere, so nothing is newer
        everything = ("+HEAD:refs/source/HEAD", "+refs/heads/*:refs/source/heads/*", "+refs/tags/*:refs/source/tags/*")
        if source.public.startswith(REGISTRY):
            from comfygov.ports import node_registry

            node_registry.take(self, source, ref)
            return repository
        with self._writing(repository):
            if not (repository / "config").is_file():
                self._make_cache(repository)
            done = self._fetch(source, ["--prune"], everything, patience)
            if done.exit_code != 0 and "corruption" in done.stderr:
                name = refspec_of(ref) or everything[0]
                done = self._fetch(source, ["--depth", "1"], (name,), patience)
        if done.exit_code != 0:
            raise fetch_failure(source, repository, done)
        return repository

    def ask_server(self, source: Source) -> None:
        """Read the newest commit's name from where `source` comes from. Raises what `fetch` raises, and `timeout`."""
        done = self._run(["ls-remote", "--quiet", "--", source.fetch_url, "HEAD"], None, ASK_TIMEOUT_SECONDS)
        if done.exit_code != 0:
            raise fetch_failure(source, self.cache, done)

    @contextmanager
    def _writing(self, repository: Path) -> Iterator[None]:
        """Hold a cache repository's lock, which a git that outlives the command holds too; locks that git left there
        are those of the dead."""
        with lock.exclusive(repository.with_suffix(".lock"), "git fetch", FETCH_TIMEOUT_SECONDS):
            for left_behind in repository.rglob("*.lock"):
                left_behind.unlink(missing_ok=True)
            yield

    def _make_cache(self, repository: Path) -> None:
        """A new bare repository, under its name only when it is whole."""
        staging = fs.beside(repository, "staging")
        fs.remove_tree(staging)
        self._check(["init", "--quiet", "--bare", "--", str(staging)], repository.parent)
        fs.remove_tree(repository)
        staging.rename(repository)

    def _fetch(
        self,
        source: Source,
        options: Sequence[str],
        refspecs: Sequence[str],
        env: dict[str, str | None] | None = None,
    ) -> process.Completed:
        argv = ["fetch", *_FETCH_OPTIONS, *options, "--", source.fetch_url, *refspecs]
        return self._run(argv, self.cache_of(source), FETCH_TIMEOUT_SECONDS, env)

    def resolve(self, source: Source, ref: str | None) -> str:
        """The commit that `ref` (a branch, tag or commit; None: the default branch) names in the cache."""
        repository = self.cache_of(source)
        if ref is not None and (ref.startswith("-") or any(c in ref for c in " ~^:?*[\\\n") or ".." in ref):
            raise GovError(Code.REF_NOT_FOUND, f"`{ref}` is not the name of a branch, tag or commit", "check --ref")
        names = (
            ["refs/source/HEAD"]
            if ref is None
            else [
                f"refs/source/tags/{ref}",
                f"refs/source/heads/{ref}",
                f"refs/source/{ref.removeprefix('refs/')}",
            ]
        )
        if ref and re.fullmatch(r"[0-9a-f]{7,64}", ref):
            names.append(ref)
        for name in names:
            done = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"], repository)
            if done.exit_code == 0:
                return done.stdout.strip()
        if ref and COMMIT.fullmatch(ref) and self._fetch_commit(source, ref):
            return ref
        raise self._no_such_ref(source, ref)

    def name_version(self, source: Source, version: str, commit: str, *, newest: bool) -> None:
        """Let `version` name a commit of the cache, as a tag of the source would; `newest` is its HEAD."""
        repository = self.cache_of(source)
        with self._writing(repository):
            for name in (f"refs/source/tags/{version}", *(("refs/source/HEAD",) if newest else ())):
                self._check(["update-ref", name, commit], repository)

    def _fetch_commit(self, source: Source, commit: str) -> bool:
        if source.public.startswith(REGISTRY):
            from comfygov.ports import node_registry

            return node_registry.find_commit(self, source, commit)
        with self._writing(self.cache_of(source)):
            return self._fetch(source, (), (f"{commit}:refs/comfygov/keep/{commit}",)).exit_code == 0

    def _no_such_ref(self, source: Source, ref: str | None) -> GovError:
        if ref is None:
            return GovError(Code.REF_NOT_FOUND, f"{source.public} has no default branch", "name a branch with --ref")
        listed = self._check(["for-each-ref", "--format=%(refname)", "refs/source"], self.cache_of(source))
        names = [re.sub(r"^refs/source/(heads|tags)/", "", line) for line in listed.split()]
        import difflib

        near = difflib.get_close_matches(ref, names, 3, 0.5)
        hint = f"near to it: {', '.join(near)}" if near else "leave --ref out for the default branch"
        return GovError(Code.REF_NOT_FOUND, f"{source.public} has no branch, tag or commit `{ref}`", hint)

    def read(self, arguments: Sequence[str], repository: Path, *, exact: bool = False) -> str:
        """What a git command that only reads prints; `exact` keeps every byte (names, objects)."""
        return self._check(arguments, repository, exact=exact)

    def keep(self, source: Source, commit: str) -> None:
        """Hold `commit` in the cache whatever happens upstream."""
        repository = self.cache_of(source)
        name = f"refs/comfygov/keep/{commit}"
        if self._run(["rev-parse", "--verify", "--quiet", name], repository).exit_code != 0:
            with self._writing(repository):
                self._check(["update-ref", name, commit], repository)
        os.utime(repository)  # it is in use: `gov gc` looks at this

    def receive(self, source: Source, checkout: Path, commit: str) -> None:
        """Put `commit` of a checkout on this machine into the cache of `source`; no server is asked."""
        repository, folder = self.cache_of(source), git_folder(checkout)
        shallow = ["--update-shallow"] if folder and (folder / "shallow").exists() else []
        with self._writing(repository):
            if not (repository / "config").is_file():
                self._make_cache(repository)
            asked = ["--", str(checkout), f"{commit}:refs/comfygov/keep/{commit}"]
            done = self._run(["fetch", *_FETCH_OPTIONS, *shallow, *asked], repository, FETCH_TIMEOUT_SECONDS)
            if done.exit_code != 0 and "corruption" in done.stderr:  # as in `fetch`: the commit alone
                self._check(["fetch", *_FETCH_OPTIONS, "--depth", "1", *asked], repository)
            elif done.exit_code != 0:
                raise failure(f"git fetch from {checkout}", checkout, done)

    def has_commit(self, source: Source, commit: str) -> bool:
        repository = self.cache_of(source)
        return (repository / "config").is_file() and self.contains(repository, commit)

    def ask(self, repository: Path, *arguments: str) -> str | None:
        """What a git command that only reads prints; None when it says no."""
        done = self._run(arguments, repository)
        return done.stdout.strip() if done.exit_code == 0 else None

    def tree_of(self, repository: Path, commit: str) -> str:
        return self._check(["rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}"], repository).strip()

    def list_tree(self, repository: Path, commit: str, path: str = "") -> list[str]:
        """File names directly below `path` at `commit`."""
        spec = f"{commit}:{path}"
        return self._check(["ls-tree", "--name-only", "-z", spec], repository).split("\0")[:-1]

    def show(self, repository: Path, commit: str, path: str) -> str | None:
        """The text of a file at `commit`, also behind links within the repository; None when it is not there."""
        for _ in range(_MOST_LINKS):
            listed = self._run(["ls-tree", "-z", "--full-tree", commit, "--", path], repository).stdout
            mode, _, blob = listed.partition("\t")[0].rpartition(" ")
            done = self._run(["cat-file", "blob", blob], repository) if blob else None
            if done is None or done.exit_code != 0:
                return None
            if not mode.startswith(_LINK_MODE):
                return readable(done.stdout.encode(errors="surrogateescape"))
            path = link_target(path, done.stdout)
        return None

    def submodules(self, repository: Path, commit: str) -> list[tuple[str, str, str]]:
        """(path, URL as written, commit) of each submodule at `commit`."""
        listed = self._check(["ls-tree", "-r", "-z", "--full-tree", commit], repository).split("\0")
        links = [line.split(None, 3) for line in listed if line.startswith("160000 ")]
        if not links:
            return []
        arguments = ["config", "-z", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"^submodule\."]
        entries = self._run(arguments, repository).stdout.split("\0")
        values = dict(entry.split("\n", 1) for entry in entries if "\n" in entry)
        urls = {
            value: values.get(key.removesuffix(".path") + ".url", "")
            for key, value in values.items()
            if key.endswith(".path")
        }
        # A link that .gitmodules does not know is common in packs: git itself leaves the folder empty.
        return [(path, urls[path], commit_id) for _, _, commit_id, path in links if urls.get(path)]

    def make_repository(self, directory: Path, message: str) -> str:
        """Turn a directory of files into a repository with one commit, and return the commit."""
        who = ["-c", "user.name=comfygov", "-c", "user.email=comfygov@localhost", "-c", "commit.gpgsign=false"]
        self._check(["init", "--quiet"], directory)
        self._check(["add", "--all"], directory)
        self._check([*who, "commit", "--quiet", "--message", message], directory)
        return self._check(["rev-parse", "HEAD"], directory).strip()

    # -- checkouts ---------------------------------------------------------------------------------

    def clone(self, repository: Path, target: Path, commit: str, origin: str, *, shared: bool = False) -> None:
        """Make a checkout of `commit` at `target`. `shared` borrows the objects: for short-lived trees."""
        self.clone_without_files(repository, target, commit, origin, shared=shared)
        self.checkout(target, commit)

    def clone_without_files(
        self, repository: Path, target: Path, commit: str, origin: str, *, shared: bool = False
    ) -> None:
        """The same without any file, and at no commit."""
        # Not --local: said aloud, git ends where a hardlink is impossible instead of copying.
        how = ["--shared"] if shared else []
        self._check(["clone", *_CLONE_OPTIONS, *how, "--", str(repository), str(target)], target.parent)
        self._check(["remote", "set-url", "--", "origin", origin], target)
        self.borrow(target, repository, commit)  # a shallow cache gives a clone its branches only
        self.leave_commit(target)

    def leave_commit(self, checkout: Path) -> None:
        """Let HEAD name no commit: nobody takes the files for those of one until a checkout has ended."""
        self._check(["symbolic-ref", "HEAD", _UNBORN], checkout)

    def remove_tracked(self, checkout: Path) -> None:
        """Take every tracked file away; what git does not track stays."""
        nothing = self._check(["hash-object", "-t", "tree", "-w", "--stdin"], checkout).strip()
        self._check(["read-tree", "--reset", "-u", nothing], checkout)

    def borrow(self, checkout: Path, repository: Path, commit: str) -> None:
        """Make `commit` of the cache known in an existing checkout."""
        if not self.contains(checkout, commit):
            refspec = f"{commit}:refs/comfygov/keep/{commit}"
            self._check(["fetch", *_FETCH_OPTIONS, "--", str(repository), refspec], checkout)

    def contains(self, checkout: Path, commit: str) -> bool:
        if not checkout.is_dir():
            return False
        return self._run(["cat-file", "-e", f"{commit}^{{commit}}"], checkout).exit_code == 0

    def checkout(self, target: Path, commit: str) -> None:
        """Bring tracked files of `target` to `commit`, whatever state a kill left them in.

        Untracked and ignored files stay; callers have asked `obstacles` before.
        """
        self._check(["checkout", "--quiet", "--force", "--detach", commit, "--"], target)

    def head(self, checkout: Path) -> str | None:
        """The commit that `checkout` itself is at. None when it is no repository of its own: git would
        walk up and answer for the tree around it."""
        repository = git_apart.repository_of(self.apart, checkout)
        if repository:
            return detached_head(repository) if checkout.exists() else None
        fast = detached_head(checkout / ".git")
        if fast:
            return fast
        if not (checkout / ".git").exists():
            return None
        ceiling: dict[str, str | None] = {"GIT_CEILING_DIRECTORIES": str(checkout.resolve().parent)}
        done = self._run(["rev-parse", "--verify", "HEAD^{commit}"], checkout.resolve(), env=ceiling)
        return done.stdout.strip() if done.exit_code == 0 else None

    def origin(self, checkout: Path) -> str:
        done = self._run(["config", "--get", "remote.origin.url"], checkout)
        return done.stdout.strip() if done.exit_code == 0 else ""

    def edited(self, checkout: Path) -> list[str]:
        """Tracked files of which the work tree or the index holds other content than the commit that is
        checked out."""
        return git_work.edited(self, checkout)

    def untracked(self, checkout: Path, *, ignored: bool) -> list[str]:
        """Files that git does not track; with `ignored` also those that .gitignore names."""
        arguments = ["ls-files", "-z", "--others"]
        if not ignored:
            arguments.append("--exclude-standard")
        return [name for name in self._check(arguments, checkout).split("\0") if name]

    def blob_of(self, checkout: Path, commit: str, name: str) -> str | None:
        done = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}:{name}"], checkout)
        return done.stdout.strip() if done.exit_code == 0 else None

    def keep_own_commit(self, checkout: Path, repository: Path) -> None:
        """Give a commit of the user's, which `repository` does not have and no ref holds, a name before HEAD
        leaves it."""
        commit = self.head(checkout)
        if commit is None or self.contains(repository, commit):
            return
        if not self._check(["for-each-ref", "--count=1", "--contains", "HEAD"], checkout).strip():
            self._check(["update-ref", f"refs/comfygov/yours/{commit}", commit], checkout)

    def own_commits(self, checkout: Path, repository: Path) -> bool:
        """True when HEAD, a branch or a tag of the checkout is a commit that `repository` does not have."""
        listed = self._check(["for-each-ref", "--format=%(objectname)"], checkout).split()
        found = {*listed, self.head(checkout) or ""} - {""}
        return not all(self.contains(repository, commit) for commit in found)

    def has_stash(self, checkout: Path) -> bool:
        return self._run(["rev-parse", "--verify", "--quiet", "refs/stash"], checkout).exit_code == 0

    def hash_file(self, checkout: Path, name: str, *, filters: bool = True) -> str:
        """The blob that a file would be stored as; without `filters` that of its very bytes."""
        how = () if filters else ("--no-filters",)
        return self._check(["hash-object", *how, "--", name], checkout).strip()
