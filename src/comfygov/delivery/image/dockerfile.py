"""The Dockerfile of a context. Only what Docker (BuildKit), Podman and Buildah since 1.28 all understand: no heredocs,
no `COPY --link`, no `# syntax=` line."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfygov.model.image import HANDLER, ROOT, USER_ID, WORK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from comfygov.model.image import ImageRecord

UV_MOUNT = "--mount=type=bind,from=uv,source=/uv,target=/mnt/uv/uv"
_CACHE = "--mount=type=cache,id=comfygov-packages,target=/mnt/uv-cache"
_HANDLER_CACHE = "--mount=type=cache,id=comfygov-handler,target=/mnt/uv-cache"
_NETRC = "--mount=type=secret,id=netrc,target=/mnt/secrets/netrc,mode=0444"
_SETTINGS = {
    "UV_CACHE_DIR": "/mnt/uv-cache",
    "UV_LINK_MODE": "copy",
    "UV_NO_CONFIG": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "NETRC": "/mnt/secrets/netrc",
}

DIGEST_LABEL = "io.comfygov.digest"
BASE_LABEL = "org.opencontainers.image.base.name"
USER = f"{USER_ID}:0"
ENTRYPOINT = (f"{HANDLER}/env/bin/gov", "image", "start")
ENVIRONMENT = {
    "PATH": f"{HANDLER}/env/bin:{ROOT}/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": WORK,
    "COMFYGOV_RUNTIME": f"{ROOT}/runtime.json",
    "COMFYGOV_WORK_DIR": WORK,
    "COMFYGOV_STATUS_FILE": f"{WORK}/status.json",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
}
_LOADING = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_PRELOAD", "LD_AUDIT")
"""Variables that have code loaded before, or in place of, that of the lock."""


def start_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """In what an image is started otherwise than ours are. `config` is its `config` as the image specification has it
    (https://github.com/opencontainers/image-spec/blob/main/config.md)."""
    given = dict(text.partition("=")[::2] for text in config.get("Env") or ())
    if config.get("User") != USER:
        yield f"it runs as the user `{config.get('User') or '0'}`, not as {USER}"
    if tuple(config.get("Entrypoint") or ()) != ENTRYPOINT:
        yield f"its first program is `{' '.join(config.get('Entrypoint') or ())}`, not `{' '.join(ENTRYPOINT)}`"
    for name, value in ENVIRONMENT.items():
        if given.get(name) != value:
            yield f"its variable {name} is `{given.get(name, '')}`, not `{value}`"
    for name in _LOADING:
        if given.get(name):
            yield f"its variable {name} loads code that is not the lock's: `{given[name]}`"


@dataclass(frozen=True)
class Pack:
    """`target` is where its code is unpacked, below /opt/comfy; `sum` that of its folder."""

    target: str
    sum: str


@dataclass(frozen=True)
class Layers:
    """Sums of the folders of a context, by which an engine knows what has changed. `packs` are in the lock's order."""

    torch: str
    environment: str
    needs: str
    handler: str
    comfyui: str
    packs: dict[str, Pack]
    models: dict[str, str]
    config: str
    no_build: bool
    index: str = ""


def render(record: ImageRecord, layers: Layers) -> str:
    """The text. Same lock, same bytes."""
    return "\n".join([*_head(record), *_layers(record, layers), *_end(record)]) + "\n"


def _head(record: ImageRecord) -> Iterator[str]:
    yield f"# Written by comfygov {record.comfygov} from version {record.version} ({record.digest})."
    yield "# README.md, beside this file, says how to build it by hand."
    yield f'ARG BASE_IMAGE="{record.base}"'
    yield f'ARG UV_IMAGE="{record.uv}"'
    yield "FROM ${UV_IMAGE} AS uv"
    yield "FROM ${BASE_IMAGE}"
    yield "ARG BASE_IMAGE"
    yield "ARG UV_IMAGE"
    yield "# For the steps below only: an ARG does not stay in the image."
    yield from (f'ARG {name}="{value}"' for name, value in _SETTINGS.items())
    yield "USER 0:0"


def _layers(record: ImageRecord, layers: Layers) -> Iterator[str]:
    yield from _python(record)
    if layers.torch:
        yield "\n# torch and what it needs: the largest part, and the one that changes least."
        yield from _sync(record, layers.torch, "python/torch", layers)
    yield from _models(layers)
    yield "\n# All packages of the lock, by their sums, and no others."
    yield from _sync(record, layers.environment, "python/all", layers)
    yield from _handler(record, layers)
    yield from _code(record, layers)


def _models(layers: Layers) -> Iterator[str]:
    """Below all that changes with the code: an engine builds, stores and sends every layer above a changed one anew."""
    for name, given in layers.models.items():
        yield "\n# A model of the lock, by its sha256 and where it goes."
        yield from _run(
            given,
            [f"--mount=type=bind,source=models/{name},target=/mnt/context"],
            ['install -D -m 0444 /mnt/context/file "/opt/comfy/models/$(cat /mnt/context/target)"'],
        )


def _python(record: ImageRecord) -> Iterator[str]:
    python = f"python{record.python}"
    wrong = f"error: the base image has no {python}, which the version is for: build with another BASE_IMAGE"
    yield f"\n# The Python of the base image, the user {USER_ID}, and the folders."
    yield from _run(
        "",
        [UV_MOUNT],
        [
            f'{python} -I -c "import ssl, sqlite3, ctypes" || {{ echo "{wrong}" >&2; exit 1; }}',
            f"mkdir -p {ROOT}/models {HANDLER} {WORK} /models /runpod-volume",
            f"echo 'comfy:x:{USER_ID}:0:ComfyUI:{WORK}:/sbin/nologin' >>/etc/passwd",
            f"chown {USER_ID}:0 {WORK}",
            f"chmod 2775 {WORK}",
            f"/mnt/uv/uv venv --quiet --no-project --python {python} {ROOT}/env",
            f"/mnt/uv/uv venv --quiet --no-project --python {python} {HANDLER}/env",
        ],
    )


def _sync(record: ImageRecord, given: str, folder: str, layers: Layers) -> Iterator[str]:
    """What builds from source runs the package's own program as root: it gets no secret, and no cache that another
    build reads."""
    options = "--preview-features pylock --allow-empty-requirements"
    options += " --no-build" if layers.no_build else " --no-cache"
    shared = [_CACHE, _NETRC] if layers.no_build else []
    yield from _run(
        given,
        [UV_MOUNT, *shared, f"--mount=type=bind,source={folder},target=/mnt/context", _TOOLS],
        [
            f"/mnt/uv/uv pip sync {options} --python {ROOT}/env/bin/python /mnt/context/pylock.toml",
            _compile(record, f"{ROOT}/env/lib"),
        ],
    )


_TOOLS = "--mount=type=bind,source=build,target=/mnt/build"


def _compile(record: ImageRecord, folder: str) -> str:
    return f"python{record.python} -I /mnt/build/compile.py {folder}"


def _handler(record: ImageRecord, layers: Layers) -> Iterator[str]:
    index = f" --default-index {shlex.quote(layers.index)}" if layers.index else ""
    install = f"/mnt/uv/uv pip install --no-build --no-deps --python {HANDLER}/env/bin/python"
    yield "\n# comfygov, which serves jobs, in an environment of its own: first what it needs, then itself."
    for given, folder, words in (
        (layers.needs, "handler/needs", f"{index} --require-hashes --requirements /mnt/context/requirements.txt"),
        (layers.handler, "handler/comfygov", " --no-index /mnt/context/*.whl"),
    ):
        yield from _run(
            given,
            [UV_MOUNT, _HANDLER_CACHE, _NETRC, f"--mount=type=bind,source={folder},target=/mnt/context", _TOOLS],
            [f"{install}{words}", _compile(record, f"{HANDLER}/env/lib")],
        )


def _code(record: ImageRecord, layers: Layers) -> Iterator[str]:
    yield "\n# ComfyUI, and each pack in a layer of its own."
    yield from _unpack(record, layers.comfyui, "comfyui", f"{ROOT}/ComfyUI")
    for name, pack in layers.packs.items():
        yield from _unpack(record, pack.sum, f"packs/{name}", f"{ROOT}/{pack.target}")


def _unpack(record: ImageRecord, given: str, source: str, target: str) -> Iterator[str]:
    yield from _run(
        given,
        [f"--mount=type=bind,source={source},target=/mnt/context", _TOOLS],
        [
            f"mkdir -p {target}",
            f"tar -x --no-same-owner -C {target} -f /mnt/context/code.tar",
            _compile(record, target),
        ],
    )


def _run(given: str, mounts: list[str], commands: list[str]) -> Iterator[str]:
    """One RUN. `given`, the sum of what it reads, is part of it, so that no engine takes an old layer for it.

    Raises ValueError for a word that would begin an instruction of its own."""
    if any("\n" in word or "\r" in word for word in (given, *mounts, *commands)):
        raise ValueError("an instruction of a Dockerfile is one line")
    yield " \\\n    ".join(["RUN", *mounts, f"set -eu; umask 022; : {given or 'nothing given'};"]) + " \\"
    yield "; \\\n".join(f"    {command}" for command in commands)


def _end(record: ImageRecord) -> Iterator[str]:
    yield "\n# What the image is, and how it is started."
    yield f"COPY --chown=0:0 config/ {ROOT}/"
    yield "ENV " + " \\\n    ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    yield f"USER {USER}"
    yield f"WORKDIR {WORK}"
    yield "# ComfyUI starts once, on the processor: a pack that does not import fails the build."
    yield f"RUN --mount=type=tmpfs,target={WORK} {HANDLER}/env/bin/gov image start smoke"
    yield "EXPOSE 8000 8188"
    yield "STOPSIGNAL SIGTERM"
    yield (
        "HEALTHCHECK --interval=30s --timeout=10s --start-period=300s --retries=3 \\\n"
        f'    CMD ["{HANDLER}/env/bin/gov", "image", "health"]'
    )
    yield "LABEL " + " \\\n    ".join(_labels(record))
    yield "ENTRYPOINT [" + ", ".join(f'"{word}"' for word in ENTRYPOINT) + "]"


def _labels(record: ImageRecord) -> Iterator[str]:
    values = {
        "org.opencontainers.image.title": f"ComfyUI, version {record.version}",
        "org.opencontainers.image.version": record.version,
        BASE_LABEL: "${BASE_IMAGE}",
        "io.comfygov.version": record.version,
        DIGEST_LABEL: record.digest,
        "io.comfygov.comfygov": record.comfygov,
        "io.comfygov.uv": "${UV_IMAGE}",
        "io.comfygov.sbom": f"{ROOT}/sbom.cdx.json",
    }
    yield from (f'{name}="{value}"' for name, value in values.items())
