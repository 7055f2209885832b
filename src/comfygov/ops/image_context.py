"""`gov image context`: everything that a build of an image needs, as a folder that any engine can build from."""

from __future__ import annotations

import hashlib
import importlib.resources
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov import __version__
from comfygov.delivery.image import dockerfile, packages, readme, sbom, sums
from comfygov.errors import Code, GovError
from comfygov.model.image import IMAGE_SCHEMA, VOLUMES, ImageRecord
from comfygov.ops import image_code, image_handler, image_runtime, version_find, version_wheels
from comfygov.ports import fs, identity
from comfygov.ports.git import Git
from comfygov.ports.progress import Stages
from comfygov.ports.uv import Uv
from comfygov.truth import declaration
from comfygov.truth.home import cache_root
from comfygov.versions import builds, lockfile, portable

if TYPE_CHECKING:
    from comfygov.model.image import CodeManifest
    from comfygov.model.version import VersionLock
    from comfygov.ops.version_find import Found
    from comfygov.ports.progress import Progress

DEFAULT_UV = "ghcr.io/astral-sh/uv:0.13.0@sha256:cdc6093146eb3ff6a40107b38f008b789e050e77ad87865e381d9917da55a168"


class ContextRequest(msgspec.Struct, frozen=True):
    """`name` is a version of `home`, or `lock` a path. `base` and `uv` are images; without `base` the official Python
    of the lock's minor version. `extras` says whether the RunPod SDK and the storage clients come along."""

    output: str
    name: str | None = None
    lock: str | None = None
    home: str | None = None
    base: str | None = None
    uv: str = DEFAULT_UV
    torch_backend: str | None = None
    with_models: bool = False
    extras: bool = True
    wheels_dir: str | None = None


class ContextMade(msgspec.Struct, frozen=True):
    """`sum` is that of all files of the context: the same lock and options give the same one. `builds_sources` says
    that packages may be built from source, as root of the build."""

    path: str
    version: str
    digest: str
    base: str
    uv: str
    sum: str
    bytes: int
    codes: int
    packages: int
    models: int
    is_pinned: bool
    builds_sources: bool
    stage_seconds: dict[str, float]


@dataclass(frozen=True)
class _Work:
    request: ContextRequest
    found: Found
    folder: Path
    scratch: Path
    command: str
    progress: Progress
    stages: Stages


def make(request: ContextRequest, command: str, progress: Progress) -> ContextMade:
    """Raises GovError before anything is written, or leaves no folder."""
    with version_find.opened(request.name, request.lock, request.home) as found:
        return make_of(found, request, command, progress)


def make_of(found: Found, request: ContextRequest, command: str, progress: Progress) -> ContextMade:
    """The same, of a version that was found already."""
    target = Path(request.output).expanduser().absolute()
    refuse_filled(target)
    _refuse_other_platform(found)
    staging, scratch = fs.beside(target, "context"), fs.beside(target, "scratch")
    work = _Work(request, found, staging, scratch, command, progress, Stages(progress))
    try:
        with fs.explained(target):
            sweep(target)
            for folder in (staging, scratch):
                fs.remove_tree(folder)
                folder.mkdir(parents=True)
            made = _make(work, target)
            if target.is_dir():
                target.rmdir()
            staging.rename(target)
    finally:
        fs.remove_tree(staging)
        fs.remove_tree(scratch)
    return made


def sweep(target: Path) -> None:
    """Take away what commands that wrote to this target and were killed have left beside it."""
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        pid = fs.leftover_of(path.name)
        if pid is not None and f".{target.name}." in path.name and identity.started_at(pid) is None:
            fs.remove_tree(path)


def refuse_filled(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise GovError(Code.ALREADY_EXISTS, f"{target} is there and is not empty", "name another folder with -o")


def _refuse_other_platform(found: Found) -> None:
    from packaging.markers import Marker

    markers = found.lock.python.platforms
    here = ({"sys_platform": "linux", "platform_machine": machine} for machine in ("x86_64", "aarch64"))
    if markers and not any(Marker(marker).evaluate(one) for one in here for marker in markers):
        raise GovError(
            Code.USAGE,
            f"the version {found.lock.version_name} is not for Linux, as images are, but for {' or '.join(markers)}",
            "make it for Linux too: [python] platforms in config.toml, then gov version create",
        )


def _make(work: _Work, target: Path) -> ContextMade:
    lock, folder = work.found.lock, work.folder
    with work.stages.stage("packages"):
        document = _packages(work)
    with work.stages.stage("code"):
        git = _git(work)
        manifest = image_code.put(git, lock, folder, work.scratch)
    with work.stages.stage("models"):
        models = _models(work)
    image_handler.put(folder / "handler", extras=work.request.extras)
    (folder / "build").mkdir()
    script = importlib.resources.files("comfygov.delivery.image") / "compile.py"
    (folder / "build" / "compile.py").write_bytes(script.read_bytes())
    record = _record(work, document)
    _config(work, record, manifest, document)
    _texts(work, record, models)
    sums.settle(folder)
    return ContextMade(
        path=str(target),
        version=lock.version_name,
        digest=lock.digest,
        base=record.base,
        uv=record.uv,
        sum=f"sha256:{sums.of_folder(folder)}",
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        codes=len(manifest.codes),
        packages=len(document["packages"]),
        models=len(models),
        is_pinned="@sha256:" in record.base,
        builds_sources=declaration.parse(lock.python.pyproject).source_builds,
        stage_seconds=work.stages.seconds,
    )


def _git(work: _Work) -> Git:
    """The object cache, with what a bundle brings along."""
    git = Git(lambda: cache_root() / "git")
    if work.found.is_bundled:
        from comfygov.ops import version_bundle

        version_bundle.take_in(git, work.found.path.parent, work.found.lock)
    return git


def _packages(work: _Work) -> dict[str, Any]:
    """Write the packages of both layers, with the wheels that no index has; returns the whole pylock."""
    lock, request = work.found.lock, work.request
    project = work.scratch / "project"
    wheels = project / "wheels"
    wheels.mkdir(parents=True)
    version_wheels.lay(lock, wheels, version_wheels.folders(work.found, request.wheels_dir))
    texts = portable.placed(lock.python.pyproject, lock.python.uv_lock, wheels)
    for name, text in zip(("pyproject.toml", "uv.lock"), texts, strict=True):
        (project / name).write_text(text, encoding="utf-8")
    exported = Uv().export(project, image_runtime.torch_extras(lock, request.torch_backend))
    document = packages.portable(exported)
    family = packages.torch_family(lock.python.uv_lock)
    for name, part in (("torch", packages.only(document, family)), ("all", document)):
        if part["packages"] or name == "all":
            _write_packages(work.folder / "python" / name, part, wheels)
    return document


def _write_packages(folder: Path, part: dict[str, Any], wheels: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "pylock.toml").write_text(packages.render(part), encoding="utf-8")
    for name in packages.local_wheels(part):
        (folder / "wheels").mkdir(exist_ok=True)
        shutil.copyfile(wheels / name, folder / "wheels" / name)


def _models(work: _Work) -> dict[str, str]:
    """With `--with-models`: every model of the lock as `models/SHA256-…/file`, and its place; returns the sums."""
    from comfygov.ops import version_models

    if not work.request.with_models or not work.found.lock.models:
        return {}
    found = version_models.gathered(work.found, work.scratch / "models", work.command, work.progress)
    given = {}
    for model, path in found:
        where = hashlib.sha256(model.target_path.encode()).hexdigest()
        name = f"{model.checksum.removeprefix('sha256:')}-{where[:8]}"
        folder = work.folder / "models" / name
        folder.mkdir(parents=True)
        path.replace(folder / "file")
        (folder / "target").write_text(model.target_path, encoding="utf-8")
        given[name] = where
    return dict(sorted(given.items()))


def default_base(lock: VersionLock) -> str:
    """The official Python image of the version's minor version: wheels of torch bring CUDA along."""
    return f"docker.io/library/python:{_minor(lock)}-slim-bookworm"


def _minor(lock: VersionLock) -> str:
    return lock.python.requires.removeprefix("==").removesuffix(".*")


def _record(work: _Work, document: dict[str, Any]) -> ImageRecord:
    lock, request = work.found.lock, work.request
    return ImageRecord(
        schema_version=IMAGE_SCHEMA,
        version=lock.version_name,
        digest=lock.digest,
        comfygov=__version__,
        base=request.base or default_base(lock),
        uv=request.uv,
        python=_minor(lock),
        torch=packages.torch_build(document),
        torch_backend=builds.choose(lock, request.torch_backend),
        models=request.with_models and bool(lock.models),
    )


def _config(work: _Work, record: ImageRecord, manifest: CodeManifest, document: dict[str, Any]) -> None:
    """What lies in `/opt/comfy` of the image."""
    lock, folder = work.found.lock, work.folder / "config"
    folder.mkdir()
    requirements = (work.folder / "handler" / "needs" / "requirements.txt").read_text(encoding="utf-8")
    files = {
        "version.lock.json": lockfile.encode(lock),
        "image.json": msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n",
        "code.json": msgspec.json.encode(manifest, order="sorted") + b"\n",
        "runtime.json": image_runtime.runtime(lock, record, manifest),
        "extra_model_paths.yaml": image_runtime.model_paths(lock).encode(),
        "sbom.cdx.json": sbom.render(lock, record, document, requirements),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _texts(work: _Work, record: ImageRecord, models: dict[str, str]) -> None:
    """The Dockerfile, which names the sums of all other files, and the README."""
    folder = work.folder
    declared = declaration.parse(work.found.lock.python.pyproject)
    codes = [name for name, _ in image_code.codes(work.found.lock)]
    given = {name: sums.of_folder(folder / image_code.folder_of(name)) for name in codes}
    comfyui = given.pop(image_code.COMFYUI)
    torch = folder / "python" / "torch"
    layers = dockerfile.Layers(
        torch=sums.of_folder(torch) if torch.is_dir() else "",
        environment=sums.of_folder(folder / "python" / "all"),
        needs=sums.of_folder(folder / "handler" / "needs"),
        handler=sums.of_folder(folder / "handler" / "comfygov"),
        comfyui=comfyui,
        packs={name: dockerfile.Pack(image_code.target_of(name), checksum) for name, checksum in given.items()},
        models=models,
        config=sums.of_folder(folder / "config"),
        no_build=not declared.source_builds,
        index="" if declared.index_url == "none" else declared.index_url,
    )
    (folder / "Dockerfile").write_text(dockerfile.render(record, layers), encoding="utf-8")
    (folder / "README.md").write_text(readme.render(record, " and ".join(VOLUMES)), encoding="utf-8")
