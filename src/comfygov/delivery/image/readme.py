"""The README of a context: how to build it by hand, and what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfygov.model.image import ImageRecord

_TEXT = """# Build context of the ComfyUI version {version}

digest `{digest}`, written by comfygov {comfygov}. The same lock and options give the same bytes.

    docker build -t comfygov:{version} .
    podman build --format docker -t comfygov:{version} .
    buildah build --format docker --layers -t comfygov:{version} .

Needed: BuildKit (Docker 23 or newer) or Buildah 1.28 or newer, and the package index of the lock. No git, no other
server, and nothing of the machine that wrote this.

| argument | now | what it is |
|---|---|---|
| `BASE_IMAGE` | `{base}` | has Python {python} and glibc; its Python runs ComfyUI |
| `UV_IMAGE` | `{uv}` | where the program `/uv` is taken from; it does not stay in the image |
{pinning}
A package index that asks for a password: `--secret id=netrc,src=$HOME/.netrc`. It is there while packages are
installed, and in no layer.

| folder | what |
|---|---|
| `python/` | the packages of the lock with their sums: `torch/` (a layer of its own), then `all/` |
| `handler/` | comfygov and the packages that it needs, by their sums; in an environment of its own |
| `comfyui/`, `packs/NAME/` | the code at its commits, with the edits of the lock, as tar files |
| `models/` | models, if they were asked for; others are looked for in {volumes} |
| `config/` | what lies in `/opt/comfy`: the lock, what the image is made of, the list of its code, the SBOM |
| `build/` | what makes bytecode while the image is built |

Run it: `docker run --gpus all -p 8000:8000 -v DIR:/models comfygov:{version} http`. Other words than `http`: `runpod`
(serverless worker), `job FILE` (one workflow), `page` (ComfyUI itself, port 8188), `check` (is it what the lock says).
"""
_NOT_PINNED = """
The base has no digest: `gov image context --base NAME@sha256:...` names one that has, to build the same twice.
"""


def render(record: ImageRecord, volumes: str) -> str:
    """The text. Same record, same bytes."""
    return _TEXT.format(
        version=record.version,
        digest=record.digest,
        comfygov=record.comfygov,
        base=record.base,
        uv=record.uv,
        python=record.python,
        volumes=volumes,
        pinning="" if "@sha256:" in record.base else _NOT_PINNED,
    )
