"""What a handler starts ComfyUI from, what a job asks for, and what it gives back."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

RUNTIME_SCHEMA = 1

OutputMode = Literal["base64", "file", "gcs", "s3", "azure"]
DataType = Literal["base64", "file", "gcs_url", "s3_url", "azure_url", "text", "json"]


class Runtime(Struct, frozen=True):
    """`runtime.json`: a version as it lies on this machine, ready to be started.

    `python` is the absolute path of the interpreter that runs ComfyUI, `comfyui` of its tree; `packs` are names of
    entries in custom_nodes that are loaded, and no others; `lock` is the path of the version's lock. Nothing below
    these paths is ever written: outputs, inputs, temporary files, users and the database lie in a work directory.
    """

    version: str
    digest: str
    python: str
    comfyui: str
    packs: tuple[str, ...] = ()
    model_paths_files: tuple[str, ...] = ()
    lock: str = ""
    extra_args: tuple[str, ...] = ()
    schema_version: int = RUNTIME_SCHEMA


class Uploaded(Struct, frozen=True):
    """A file where a sink put it: `uri` names it for programs, `url` can be fetched by whoever has it (signed, or
    empty where the sink has none); `size` in bytes."""

    uri: str
    url: str
    size: int
    sha256: str


class Artifact(Struct, frozen=True, omit_defaults=True):
    """One result of a job. `data` is base64, an address, a path, or the value itself, as `type` says; `kind` is
    ComfyUI's own word (`images`, `audio`, `text` …), `size` in bytes."""

    filename: str
    type: DataType
    data: Any
    node_id: str
    kind: str
    media_type: str
    size: int
    sha256: str
    subfolder: str = ""
    uri: str = ""
    preview: bool = False


class Timing(Struct, frozen=True):
    """Seconds that a job took: waiting for its turn, fetching inputs, in ComfyUI, storing results, and in all."""

    waiting: float = 0.0
    inputs: float = 0.0
    execution: float = 0.0
    outputs: float = 0.0
    total: float = 0.0


class RunningVersion(Struct, frozen=True):
    """The version that did a job, by its name and its lock's digest."""

    name: str
    digest: str


class JobResult(Struct, frozen=True):
    """What a job gave: `images` as RunPod's own ComfyUI worker lists them, `artifacts` everything else."""

    images: tuple[Artifact, ...]
    artifacts: tuple[Artifact, ...]
    timing: Timing
    version: RunningVersion
    prompt_id: str


class JobError(Struct, frozen=True, omit_defaults=True):
    """Why a job failed. `code` is stable; `details` are lines for a person (nodes and inputs, the end of a log);
    `retryable` says that the same job may succeed on another worker, or later."""

    code: str
    message: str
    hint: str = ""
    details: tuple[str, ...] = ()
    nodes: tuple[NodeError, ...] = ()
    retryable: bool = False


class NodeError(Struct, frozen=True, omit_defaults=True):
    """What ComfyUI says against one input of one node (`input` is empty where the whole node is meant)."""

    node_id: str
    class_type: str
    message: str
    input: str = ""
    received: Any = None
