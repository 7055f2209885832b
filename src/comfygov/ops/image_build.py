"""`gov image build`: context, base by its digest, build; `gov image verify`: what the image's own check says."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from comfygov.delivery.image import dockerfile
from comfygov.delivery.image import engine as engines
from comfygov.delivery.image.dockerfile import BASE_LABEL, DIGEST_LABEL
from comfygov.errors import Code, GovError
from comfygov.ops import image_context, version_find
from comfygov.ops.image_context import ContextRequest
from comfygov.ops.image_inside import ImageChecked
from comfygov.ports import fs
from comfygov.ports.progress import Stages
from comfygov.truth.home import cache_root
from comfygov.versions import builds

if TYPE_CHECKING:
    from comfygov.delivery.image.engine import Engine, EngineName
    from comfygov.ops.image_context import ContextMade
    from comfygov.ops.version_find import Found
    from comfygov.ports.progress import Progress

_CHECK_SECONDS = 1800.0


class BuildRequest(msgspec.Struct, frozen=True):
    """`context.output` is not looked at; `sbom` is a file to write, `secrets` are `id=NAME,src=FILE`."""

    context: ContextRequest
    tag: str | None = None
    engine: EngineName | None = None
    push: bool = False
    sbom: str | None = None
    secrets: tuple[str, ...] = ()
    verbose: bool = False


class Built(msgspec.Struct, frozen=True):
    """`pushed` is the digest by which the registry knows it."""

    tag: str
    id: str
    engine: str
    version: str
    digest: str
    base: str
    uv: str
    bytes: int
    context_sum: str
    sbom: str
    pushed: str
    builds_sources: bool
    stage_seconds: dict[str, float]


class Verified(msgspec.Struct, frozen=True):
    """`identical` says that the image holds what the lock says, as far as its own check can see."""

    image: str
    id: str
    engine: str
    version: str
    digest: str
    lock_digest: str
    identical: bool
    problems: tuple[str, ...]


def build(request: BuildRequest, command: str, progress: Progress) -> Built:
    """Raises `tool_missing` without an engine, `build_failed`; leaves no context behind."""
    with version_find.opened(request.context.name, request.context.lock, request.context.home) as found:
        return _build_of(found, request, command, progress)


def _build_of(found: Found, request: BuildRequest, command: str, progress: Progress) -> Built:
    builds.choose(found.lock, request.context.torch_backend)
    tag = request.tag or f"comfygov:{found.lock.version_name}"
    for name in (tag, request.context.uv, *([request.context.base] if request.context.base else [])):
        engines.refuse_odd_reference(name)
    _refuse_odd_secrets(request.secrets)
    engine = engines.choose(request.engine, _context_command(request))
    stages = Stages(progress)
    work = fs.beside(cache_root() / "images" / "context", "build")
    with fs.explained(work):
        image_context.sweep(work.with_name("context"))
        fs.remove_tree(work)
    try:
        with stages.stage("base image"):
            asked = _pinned(found, request.context, engine, work)
        made = image_context.make_of(found, asked, command, progress)
        return _build(request, engine, tag, work, stages, made)
    finally:
        fs.remove_tree(work)


def _pinned(found: Found, asked: ContextRequest, engine: Engine, work: Path) -> ContextRequest:
    """What is asked for, to be written to `work`, on images by their digests."""
    base = engine.pinned(asked.base or image_context.default_base(found.lock))
    return msgspec.structs.replace(asked, output=str(work), base=base, uv=engine.pinned(asked.uv))


def _build(request: BuildRequest, engine: Engine, tag: str, work: Path, stages: Stages, made: ContextMade) -> Built:
    log = None if request.verbose else cache_root() / "images" / f"build-{made.version}.log"
    if log is not None:
        log.unlink(missing_ok=True)
    with stages.stage(f"build with {engine.name}"):
        engine.build(work, tag, request.secrets, log)
    facts = engine.facts(tag)
    if facts is None or facts.labels.get(DIGEST_LABEL) != made.digest:
        raise GovError(Code.TOOL_FAILED, f"{engine.name} built {tag}, and does not show its label", "run it again")
    if request.sbom:
        sbom = Path(request.sbom).expanduser().absolute()
        with fs.explained(sbom):
            fs.write_atomic(sbom, (work / "config" / "sbom.cdx.json").read_bytes())
    pushed = ""
    if request.push:
        with stages.stage("push"):
            pushed = engine.push(tag)
    seconds = {**made.stage_seconds, **stages.seconds}
    return Built(
        tag, facts.id, engine.name, made.version, made.digest, made.base, made.uv, facts.size_bytes, made.sum,
        request.sbom or "", pushed, made.builds_sources, seconds,
    )  # fmt: skip


def _context_command(request: BuildRequest) -> str:
    asked = request.context
    which = ["--lock", asked.lock] if asked.lock else ["--version", asked.name or "NAME"]
    return shlex.join(["gov", "image", "context", *which, "-o", "DIR"])


def _refuse_odd_secrets(secrets: tuple[str, ...]) -> None:
    for text in secrets:
        parts = dict(part.partition("=")[::2] for part in text.split(","))
        if set(parts) != {"id", "src"} or not parts["id"].isidentifier():
            raise GovError(Code.USAGE, "a secret is `id=NAME,src=FILE`", "--secret id=netrc,src=$HOME/.netrc")
        if not Path(parts["src"]).is_file():
            raise GovError(Code.NOT_FOUND, f"there is no file {parts['src']}", "--secret id=netrc,src=$HOME/.netrc")


def verify(image: str, name: str | None, lock: str | None, home: str | None, wanted: EngineName | None) -> Verified:
    """Raises `not_found` for an image that is not here, and for one that is none of ours."""
    engines.refuse_odd_reference(image)
    with version_find.opened(name, lock, home) as found:
        digest = found.lock.digest
    engine = engines.choose(wanted, "gov image context")
    facts = engine.facts(image)
    if facts is None:
        raise GovError(Code.NOT_FOUND, f"{engine.name} has no image {image}", f"{engine.name} images")
    if DIGEST_LABEL not in facts.labels:
        raise GovError(Code.NOT_FOUND, f"{image} is no image that comfygov has built", "gov image build")
    checked = _own_check(engine, facts.id)
    problems = [*dockerfile.start_problems(facts.config), *checked.problems]
    if checked.base and facts.labels.get(BASE_LABEL) != checked.base:
        problems.insert(0, f"it stands on {facts.labels.get(BASE_LABEL)}, and its record names {checked.base}")
    for what, other in (("label", facts.labels[DIGEST_LABEL]), ("lock", checked.digest)):
        if other != digest:
            problems.insert(0, f"its {what} has the digest {other}, the version has {digest}")
    return Verified(
        image, facts.id, engine.name, checked.version, checked.digest, digest, not problems, tuple(problems)
    )


def _own_check(engine: Engine, image: str) -> ImageChecked:
    ran = engine.run(image, ["check", "--json"], _CHECK_SECONDS)
    try:
        envelope = msgspec.json.decode(ran.stdout, type=_Envelope)
    except msgspec.MsgspecError as error:
        raise GovError(
            Code.TOOL_FAILED,
            f"the check inside {image} ended with {ran.exit_code}",
            "",
            tuple(ran.words.splitlines()[-20:]),
        ) from error
    if envelope.data is None:
        said = envelope.error or {}
        message = f"{image} cannot check itself: {said.get('message', '')}"
        raise GovError(Code.DRIFT, message, "build it again", tuple(said.get("details", ())))
    return envelope.data


class _Envelope(msgspec.Struct):
    data: ImageChecked | None
    error: dict[str, Any] | None = None
