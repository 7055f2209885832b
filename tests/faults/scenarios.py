"""A governed home with a history, every operation that commits, and how to judge what a fault left."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.checker import problems
from tests.kit.governed import Governed, Ran
from tests.kit.repos import commit_all

WHEELS = (("basis", "1.0"), ("extra", "1.0"), ("extra", "2.0"), ("more", "1.0"), ("third", "1.0"))


def _nothing(_stage: Stage) -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """A command, and what is done to the home before it."""

    name: str
    command: tuple[str, ...]
    prepare: Callable[[Stage], None] = _nothing


@dataclass(frozen=True)
class Outcomes:
    """Of an undisturbed operation: every moment that it passes, in order; the states before and after it; its time."""

    moments: list[str]
    allowed: list[dict[str, str]]
    seconds: float


@dataclass
class Stage:
    """One directory in which the same home is set up again and again."""

    governed: Governed
    user_files: dict[Path, bytes] = field(default_factory=dict)
    known: dict[str, Outcomes] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.governed.home

    @property
    def template(self) -> Path:
        return self.governed.root / "template"

    def build(self) -> Stage:
        """init; `one` promoted and with a newer commit on trial (tx0003); `two` tried (tx0002), `four` removed."""
        governed = self.governed
        for name, version in WHEELS:
            governed.wheel(name, version)
        governed.init(requirements="basis\n").ok()
        governed.promote_pack("one", "extra==1.0\n", files={"kept.txt": "1", "old.txt": "1"})
        governed.gov("node", "add", str(governed.pack("two", "more\n"))).ok()
        governed.gov("tx", "run", "two").ok()
        pack = governed.root / "packs" / "one"
        (pack / "requirements.txt").write_text("extra==2.0\n")
        (pack / "kept.txt").write_text("2")
        (pack / "new.txt").write_text("2")
        (pack / "old.txt").unlink()
        commit_all(pack)
        governed.gov("tx", "run", "one", "--ref", "main").ok()
        governed.pack("three", "third\n")
        self._write_user_files()
        for name in ("home", "cache"):
            shutil.copytree(governed.root / name, self.template / name, symlinks=True)
        return self

    def _write_user_files(self) -> None:
        tree = self.home / "ComfyUI"
        for number, place in enumerate(
            [
                tree / "custom_nodes" / "one" / "my notes.txt",
                tree / "custom_nodes" / "one" / "presets" / "mine.json",
                tree / "custom_nodes" / "mine" / "__init__.py",
                tree / "output" / "picture.png",
                tree / "user" / "default" / "workflow.json",
                self.home / "models" / "checkpoints" / "model.safetensors",
                self.home / "notes.txt",
            ]
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(f"the user's {number}".encode())
            self.user_files[place] = place.read_bytes()

    def reset(self, operation: Operation) -> None:
        """The home as it was built, made ready for the operation."""
        for name in ("home", "cache"):
            subprocess.run(["rm", "-rf", self.governed.root / name], check=True)
            subprocess.run(["cp", "-a", self.template / name, self.governed.root / name], check=True)
        operation.prepare(self)

    def run(self, operation: Operation, fault: str = "") -> Ran:
        return faulty(self.governed, fault).gov(*operation.command, timeout=120)

    def recover(self, operation: Operation) -> None:
        """The next command, which finishes or undoes what was under way, and takes the leftovers away."""
        if operation.name == "init" and not (self.home / "state" / "head.json").exists():
            self.run(operation).ok()
        if operation.name == "sync":  # the damage was ours, and a repair is what is asked for
            self.run(operation).ok()
        self.governed.gov("gc").ok()

    def judge(self, operation: Operation, allowed: list[dict[str, str]]) -> None:
        """The state is one of `allowed`, and everything that a home must be holds."""
        kept = self.user_files if operation.name != "init" else {}
        found = problems(self.home, kept)
        assert not found, "\n".join(found)
        state = self.state()
        assert state in allowed, {key: (state[key], [a[key] for a in allowed]) for key in state}

    def state(self) -> dict[str, str]:
        """What production is, apart from names and times."""
        found = self.governed.world()
        del found["head"]
        found["state/plugins.json"] = re.sub(r'"added_at": "[^"]*"', "", found["state/plugins.json"])
        return {name: text for name, text in found.items() if name in KEYS}

    def outcomes(self, operation: Operation) -> Outcomes:
        """What the operation does when nothing disturbs it; done once."""
        if operation.name not in self.known:
            self.known[operation.name] = self._observe(operation)
        return self.known[operation.name]

    def _observe(self, operation: Operation) -> Outcomes:
        self.reset(operation)
        states = []
        if operation.name not in ("init", "sync"):  # nothing is there, or something broken
            states.append(self.state())
        trace = self.governed.root / "trace"
        trace.unlink(missing_ok=True)
        started = time.monotonic()
        self.run(operation, f"trace@{trace}").ok()
        seconds = time.monotonic() - started
        return Outcomes(trace.read_text().split(), [*states, self.state()], seconds)


# The checker holds the commits of the packs against the registry.
KEYS = ("pyproject.toml", "uv.lock", "state/plugins.json", "link", "installed")


def faulty(governed: Governed, fault: str) -> Governed:
    return Governed(governed.root, {**governed.env, "COMFYGOV_FAULT": fault})


def numbered(moments: list[str]) -> list[str]:
    """`name#2` for the second time that a moment comes."""
    seen: Counter[str] = Counter()
    found = []
    for name in moments:
        seen[name] += 1
        found.append(f"{name}#{seen[name]}")
    return found


def first_of_each(moments: list[str]) -> list[str]:
    return [f"{name}#1" for name in dict.fromkeys(moments)]


def first_and_last_of_each(moments: list[str]) -> list[str]:
    times = Counter(moments)
    return [f"{name}#{number}" for name in times for number in sorted({1, times[name]})]


def production(stage: Stage) -> Path:
    return (stage.home / ".venv-prod").resolve()


def _first_generation(stage: Stage) -> Path:
    meta = json.loads((stage.home / "snapshots" / "0001-init" / "meta.json").read_bytes())
    return stage.home / ".venvs" / str(meta["generation"])


def _no_home(stage: Stage) -> None:
    shutil.rmtree(stage.home)


def _lose_first_generation(stage: Stage) -> None:
    shutil.rmtree(_first_generation(stage))


def _damage(stage: Stage) -> None:
    next(production(stage).glob("lib/python3*/site-packages/basis/__init__.py")).unlink()
    (stage.home / "uv.lock").write_text("# mine\n")
    (stage.home / ".venv-prod").unlink()
    git = ["git", "-C", str(stage.home / "ComfyUI" / "custom_nodes" / "one"), "checkout", "-q", "--detach"]
    subprocess.run([*git, "HEAD~1"], check=False, capture_output=True)


def _keep_one_snapshot(stage: Stage) -> None:
    with (stage.home / "config.toml").open("a") as config:
        config.write("\n[rollback]\nsnapshot_retention = 1\n")
    stage.governed.gov("tx", "abort", "2").ok()
    stage.governed.gov("tx", "abort", "3").ok()
    stage.governed.gov("rollback", "1").ok()
    (stage.home / "state" / "work" / "build-999999").mkdir(parents=True)
    (stage.home / ".venvs" / ".abc.999999.comfygov-staging").mkdir()


def operations(governed: Governed) -> list[Operation]:
    source, wheels = str(governed.comfyui_source), str(governed.wheels)
    init = ("init", "--repo", source, "--find-links", wheels, "--index-url", "none")
    return [
        Operation("init", init, _no_home),
        Operation("node-add", ("node", "add", str(governed.root / "packs" / "three"))),
        Operation("node-disable", ("node", "disable", "one")),
        Operation("node-remove", ("node", "remove", "one", "--purge-code")),
        Operation("tx-run", ("tx", "run", "two")),
        Operation("tx-abort", ("tx", "abort", "2")),
        Operation("promote-first", ("tx", "promote", "2")),
        Operation("promote-update", ("tx", "promote", "3")),
        Operation("rollback", ("rollback", "1")),
        Operation("rollback-and-build", ("rollback", "1"), _lose_first_generation),
        Operation("snapshot-create", ("snapshot", "create")),
        Operation("sync", ("sync",), _damage),
        Operation("gc", ("gc",), _keep_one_snapshot),
    ]


NAMES = [operation.name for operation in operations(Governed(Path()))]
