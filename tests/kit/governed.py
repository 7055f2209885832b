"""A governed home on the stand-in, and `gov` run on it as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit import envelopes
from tests.kit.repos import make_comfyui, make_pack
from tests.kit.wheels import add_wheel


@dataclass(frozen=True)
class Ran:
    """A finished `gov`, with a repr that says everything when a test fails."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    def ok(self) -> Ran:
        assert self.exit_code == 0, self
        return self

    def failed(self, exit_code: int, *words: str) -> Ran:
        """It failed as said, its message names `words`, and it is `error:` with a `hint:`."""
        assert self.exit_code == exit_code, self
        assert "comfygov made a mistake" not in self.stderr, self
        if self.stderr and "may not be promoted" not in self.stdout:
            assert "error: " in self.stderr, self
        for word in words:
            assert word in self.stderr + self.stdout, (word, self)
        return self

    @property
    def envelope(self) -> dict[str, Any]:
        return envelopes.read(self.stdout)

    @property
    def data(self) -> Any:
        return self.envelope["data"]

    def __repr__(self) -> str:
        return f"gov {' '.join(self.argv)}\nexit {self.exit_code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


@dataclass
class Governed:
    """A directory with wheels, repositories and a home. `root` is the test's own directory, `prefix` a program
    that `gov` is started by, `python` the interpreter that it runs on."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    python: str = sys.executable

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def comfyui_source(self) -> Path:
        return self.root / "ComfyUI-source"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMFY", "UV_", "PYTHON"))}
        return {
            **kept,
            "HOME": str(self.root / "user"),
            "COMFYGOV_CACHE": str(self.root / "cache"),
            "UV_CACHE_DIR": str(self.root / "uv-cache"),
            "COMFY_HOME": str(self.home),
            **self.env,
        }

    @property
    def program(self) -> tuple[str, ...]:
        if self.python == sys.executable:
            return (self.python, "-I", "-m", "comfygov")
        source = str(Path(__file__).parent.parent.parent / "src")
        script = f"import sys; sys.path.insert(0, {source!r}); from comfygov.__main__ import main; main()"
        return (self.python, "-I", "-c", script)

    def start(self, *arguments: str, cwd: Path | None = None, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.prefix, *self.program, *arguments],
            cwd=cwd or self.root,
            env=self.environment(),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gov(self, *arguments: str, cwd: Path | None = None, timeout: float = 120) -> Ran:
        child = self.start(*arguments, cwd=cwd)
        stdout, stderr = child.communicate(timeout=timeout)
        return Ran(arguments, child.returncode, stdout, stderr)

    def json(self, *arguments: str) -> Any:
        """The data of a command that must succeed."""
        return self.gov("--json", *arguments).ok().data

    def wheel(self, name: str, version: str, requires: tuple[str, ...] = (), **options: Any) -> None:
        add_wheel(self.wheels, name, version, requires, **options)

    def pack(self, name: str, requirements: str | None = None, **options: Any) -> Path:
        return make_pack(self.root / "packs" / name, requirements, **options)

    def init(self, *options: str, requirements: str = "") -> Ran:
        if not self.comfyui_source.exists():
            make_comfyui(self.comfyui_source, requirements)
        self.wheels.mkdir(exist_ok=True)
        wheels = ("--find-links", str(self.wheels), "--index-url", "none")
        return self.gov("init", "--repo", str(self.comfyui_source), *wheels, *options)

    def promote_pack(self, name: str, requirements: str | None = None, **options: Any) -> str:
        """Add, try and promote a new pack; returns the txid."""
        self.gov("node", "add", str(self.pack(name, requirements, **options))).ok()
        txid = str(self.json("tx", "run", name)["transaction"]["txid"])
        self.gov("tx", "promote", txid).ok()
        return txid

    # -- what is on disk --------------------------------------------------------------------------

    def head(self) -> str:
        return str(json.loads((self.home / "state" / "head.json").read_bytes())["snapshot"])

    def installed(self) -> set[str]:
        """`name-version` of production's packages, by its dist-info directories."""
        found = (self.home / ".venv-prod" / "lib").glob("python3*/site-packages/*.dist-info")
        return {path.name.removesuffix(".dist-info") for path in found}

    def world(self) -> dict[str, str]:
        """Everything that is production, to be compared before and after."""
        files = [self.home / name for name in ("pyproject.toml", "uv.lock", "state/plugins.json")]
        found = {str(path.relative_to(self.home)): path.read_text() for path in files}
        found["head"] = self.head()
        found["link"] = str((self.home / ".venv-prod").readlink())
        found["installed"] = " ".join(sorted(self.installed()))
        for checkout in sorted((self.home / "ComfyUI" / "custom_nodes").iterdir()):
            if (checkout / ".git").exists():
                head = ["git", "rev-parse", "HEAD"]
                found[checkout.name] = subprocess.check_output(head, cwd=checkout, text=True).strip()
        return found
