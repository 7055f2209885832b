"""Where things lie in a home, and how a home is found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from comfygov.errors import Code, GovError
from comfygov.model.config import Config


@dataclass(frozen=True)
class Home:
    """The paths of a governed directory. Nothing here reads or writes, but `config` is needed for some."""

    root: Path
    config: Config

    @property
    def config_file(self) -> Path:
        return self.root / "config.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def head_file(self) -> Path:
        return self.state / "head.json"

    @property
    def pending_file(self) -> Path:
        return self.state / "materialising.json"

    @property
    def lock_file(self) -> Path:
        return self.state / "home.lock"

    @property
    def audit_file(self) -> Path:
        return self.state / "audit.jsonl"

    @property
    def run_file(self) -> Path:
        return self.state / "run.json"

    @property
    def transactions(self) -> Path:
        return self.state / "transactions"

    @property
    def conflicts(self) -> Path:
        return self.state / "conflicts"

    @property
    def work(self) -> Path:
        return self.state / "work"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def venvs(self) -> Path:
        return self.root / ".venvs"

    @property
    def production_link(self) -> Path:
        return self.root / self.config.runtime.prod_env

    @property
    def activate_link(self) -> Path:
        return self.root / ".venv"

    @property
    def candidates(self) -> Path:
        return self.root / self.config.runtime.candidate_root

    @cached_property
    def comfyui(self) -> Path:
        return (self.root / Path(self.config.paths.comfyui_dir).expanduser()).absolute()

    @cached_property
    def models(self) -> Path:
        return (self.root / Path(self.config.paths.models_dir).expanduser()).absolute()

    @property
    def custom_nodes(self) -> Path:
        return self.comfyui / "custom_nodes"

    @property
    def model_paths_file(self) -> Path:
        return self.root / "extra_model_paths.yaml"

    def truth_path(self, name: str) -> Path:
        """Where a truth file lies on disk: the registry lives in state/, the others at the top."""
        return self.state / name if name == "plugins.json" else self.root / name

    def relative(self, path: Path) -> str:
        """`path` as it is written into records: relative to the home where it is inside."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)


def is_home(path: Path) -> bool:
    return (path / "config.toml").is_file() and (path / "state").is_dir()


def find_root(given: str | None, start: Path | None = None) -> Path:
    """`--home`, else $COMFY_HOME, else the nearest parent that is a home, else ./comfy."""
    named = given or os.environ.get("COMFY_HOME")
    if named and Path(named).expanduser().is_absolute():
        return Path(named).expanduser()
    try:
        here = start or Path.cwd()
    except FileNotFoundError as error:
        raise GovError(Code.USAGE, "the current directory is not there any more", "cd somewhere else") from error
    if named:
        return here / named
    for parent in (here, *here.parents):
        if is_home(parent):
            return parent
    return here / "comfy"


def refuse_links(home: Home) -> None:
    """What comfygov writes stays in the home: none of its own places may be a link to somewhere else."""
    files = (home.head_file, home.pending_file, home.audit_file, home.lock_file, home.run_file)
    folders = (home.state, home.snapshots, home.venvs, home.candidates)
    for path in (*folders, home.state / "rescued", home.transactions, home.conflicts, home.work, home.logs, *files):
        if os.path.islink(path):  # noqa: PTH114 (on the way of every command)
            raise GovError(
                Code.HOME_DAMAGED,
                f"{path} is a link; comfygov does not follow links out of a home",
                f"put back what it leads to: {os.readlink(path)} (to use another disk, move the whole home there)",  # noqa: PTH115
            )


def refuse_source_checkout(root: Path) -> None:
    """A home is never the checkout of comfygov itself."""
    if (root / "src" / "comfygov" / "__init__.py").is_file():
        raise GovError(
            Code.USAGE,
            f"{root} is the source of comfygov itself and cannot be a home",
            "name another directory with --path or --home",
        )


def cache_root() -> Path:
    """Git objects and model blobs of all homes: $COMFYGOV_CACHE, else the platform's cache directory."""
    if os.environ.get("COMFYGOV_CACHE"):
        return Path(os.environ["COMFYGOV_CACHE"]).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("comfygov"))
