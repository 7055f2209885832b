"""Real repositories, real environments on disk, and one way to expect a refusal."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from comfygov.errors import Code, GovError
from comfygov.ports.git import Git, Source, parse_source

Refused = Callable[[Code], AbstractContextManager[pytest.ExceptionInfo[GovError]]]
NewUpstream = Callable[[str], "Upstream"]
Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has set must not decide them."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("COMFY_HOME", "COMFYGOV_CACHE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def refused() -> Refused:
    @contextmanager
    def expect(code: Code) -> Iterator[pytest.ExceptionInfo[GovError]]:
        with pytest.raises(GovError) as caught:
            yield caught
        assert caught.value.code is code, caught.value

    return expect


def words_of(error: GovError) -> str:
    """All that a person would read of it."""
    return "\n".join((error.message, error.hint, *error.details))


class Upstream:
    """A repository of somebody else's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "-b", "main")

    def git(self, *arguments: str) -> str:
        own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
        done = subprocess.run(
            ["git", *own, *arguments], cwd=self.path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None], message: str = "change") -> str:
        """Write the files (None removes one) and commit them."""
        for name, text in files.items():
            path = self.path / name
            if text is None:
                self.git("rm", "--quiet", "--", name)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    @property
    def source(self) -> Source:
        return parse_source(str(self.path), Path("/"))


@pytest.fixture
def new_upstream(tmp_path: Path) -> NewUpstream:
    return lambda name: Upstream(tmp_path / "upstreams" / name)


@pytest.fixture
def upstream(new_upstream: NewUpstream) -> Upstream:
    return new_upstream("pack")


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "cache")


def _row(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}"


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Puts a package into a small environment, as an installer leaves it; returns the environment."""

    def put(name: str, version: str, files: Mapping[str, str] | None = None, extra: str = "") -> Path:
        environment = tmp_path / "env"
        site = environment / "lib" / "python3.11" / "site-packages"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        rows = []
        for file, text in (files or {f"{name.replace('-', '_')}.py": "x = 1\n"}).items():
            path = site / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            rows.append(_row(f'"{file}"' if "," in file else file, text.encode()))
        rows.append(f"{info.name}/RECORD,,")
        (info / "RECORD").write_text("\n".join(rows) + "\n" + extra)
        return environment

    return put
