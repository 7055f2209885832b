"""`config.toml`: the settings that a person edits. An unknown key is an error."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

CORE_PACKAGES = (
    "torch",
    "torchvision",
    "torchaudio",
    "xformers",
    "triton",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
)


class Section(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every table: frozen, and strict about keys."""


class Paths(Section, frozen=True):
    """Relative paths start at the home."""

    comfyui_dir: str = "ComfyUI"
    models_dir: str = "models"


class Runtime(Section, frozen=True):
    prod_env: str = ".venv-prod"
    candidate_root: str = ".venv-candidate"


class Tx(Section, frozen=True):
    """How a trial runs. `timeout_seconds` is the time that ComfyUI has to become ready, `memory_limit` what all its
    processes may hold together: `16G`, `75%` of the machine's memory, or `none`."""

    timeout_seconds: float = 600.0
    smoke_test_cmd: tuple[str, ...] = ()
    smoke_workflows: tuple[str, ...] = ()
    network: Literal["allow", "record", "deny"] = "allow"
    sandbox: Literal["auto", "bwrap", "landlock", "none"] = "auto"
    memory_limit: str = "90%"
    # "auto": a trial sees the GPUs that are there; "none": it sees none and runs with --cpu.
    gpu: Literal["auto", "none"] = "auto"
    extra_args: tuple[str, ...] = ()


class Policy(Section, frozen=True):
    core_packages: tuple[str, ...] = CORE_PACKAGES
    # Beside the shipped list: ids or sources of packs, packages, or releases of them (`name==1.2`, `name<3`).
    deny: tuple[str, ...] = ()
    # Gate -> "fail" (a warning of it blocks promote too) or "warn" (a failure of it does not).
    gates: dict[str, Literal["warn", "fail"]] = field(default_factory=dict)
    # Of packages that overwrite each other (opencv, onnxruntime): the ones to keep.
    keep: tuple[str, ...] = ()
    unmanaged_nodes: Literal["ignore", "allow"] = "ignore"
    runtime_installs: Literal["block", "record", "allow"] = "block"
    # A source distribution runs its author's code while it is only being resolved.
    source_builds: Literal["refuse", "allow"] = "refuse"
    # "strict" refuses model files that are pickles: loading one can run its author's code.
    model_formats: Literal["any", "strict"] = "any"


class Rollback(Section, frozen=True):
    snapshot_retention: int = 50


class Python(Section, frozen=True):
    """What the resolver gets. `interpreter` is an absolute path."""

    interpreter: str = ""
    constraints: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    index_url: str = ""
    # A time (RFC 3339): the index is seen as it was then (uv's exclude-newer).
    exclude_newer: str = ""
    # What a lock holds beside this machine: `linux-x86_64`, `darwin-arm64`, ….
    platforms: tuple[str, ...] = ()
    # Builds of torch that a lock carries: `cpu`, `cuNNN`, `rocmN.N`, `default`. This home uses the first.
    torch_backends: tuple[str, ...] = ()


class Run(Section, frozen=True):
    extra_args: tuple[str, ...] = ()
    sync_before_run: bool = False


class Config(Section, frozen=True):
    paths: Paths = field(default_factory=Paths)
    runtime: Runtime = field(default_factory=Runtime)
    tx: Tx = field(default_factory=Tx)
    policy: Policy = field(default_factory=Policy)
    rollback: Rollback = field(default_factory=Rollback)
    python: Python = field(default_factory=Python)
    run: Run = field(default_factory=Run)
