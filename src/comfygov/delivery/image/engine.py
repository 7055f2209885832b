"""Docker, Podman and Buildah: the few things that we ask of one, each in its own words."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from comfygov.delivery.image.tarball import EPOCH_SECONDS
from comfygov.errors import Code, GovError
from comfygov.ports import process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EngineName = Literal["docker", "podman", "buildah"]
ENGINES: tuple[EngineName, ...] = ("docker", "podman", "buildah")
_REFERENCE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._/-]*(?::[0-9]+/[A-Za-z0-9._/-]+)?(?::\w[\w.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
_PULL_SECONDS = 7200.0
_PUSH_SECONDS = 14400.0
_BUILD_SECONDS = 6 * 3600.0
_TAIL_LINES = 40


def refuse_odd_reference(text: str) -> None:
    """Raises `usage` for what is no name of an image."""
    if len(text) > 500 or not _REFERENCE.fullmatch(text):
        raise GovError(Code.USAGE, f"`{text[:200]}` is no name of an image", "such as NAME:TAG or NAME@sha256:...")


@dataclass(frozen=True)
class Facts:
    """An image that is here: its id, `config` (of the image specification), size, and the digest by which its registry
    knows it (if any does)."""

    id: str
    config: Mapping[str, Any]
    size_bytes: int
    digest: str

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.get("Labels") or {}


@dataclass(frozen=True)
class Ran:
    exit_code: int
    stdout: str
    words: str


class Engine:
    """One of the three. Names of images were judged before they come here."""

    def __init__(self, name: EngineName) -> None:
        self.name = name

    def _run(self, *arguments: str, timeout_seconds: float = 120.0) -> process.Completed:
        return process.run([self.name, *arguments], env=_environment(), timeout_seconds=timeout_seconds)

    def answers(self) -> str:
        """Why it cannot be used; empty when it can."""
        if shutil.which(self.name) is None:
            return "is not installed"
        words = ("version", "--format", "{{.Server.Version}}") if self.name == "docker" else ("--version",)
        try:
            done = self._run(*words, timeout_seconds=30)
        except GovError as error:
            return error.message
        return "" if done.exit_code == 0 else (done.words.splitlines() or ["does not run"])[-1]

    def facts(self, image: str) -> Facts | None:
        """None when the image is not here."""
        if self.name == "buildah":
            return self._facts_of_buildah(image)
        done = self._run("image", "inspect", image)
        if done.exit_code != 0:
            return None
        found: dict[str, Any] = msgspec.json.decode(done.stdout)[0]
        own = f"{without_tag(image)}@"  # one image may have several names; docker shortens its hub's
        digests = sorted(found.get("RepoDigests") or [], key=lambda text: not text.startswith(own))
        return Facts(
            found["Id"].removeprefix("sha256:"),
            found.get("Config") or {},
            int(found.get("Size") or 0),
            digests[0].partition("@")[2] if digests else "",
        )

    def _facts_of_buildah(self, image: str) -> Facts | None:
        done = self._run("inspect", "--type", "image", image)
        if done.exit_code != 0:
            return None
        found: dict[str, Any] = msgspec.json.decode(done.stdout)
        listed = self._run("images", "--json", image)
        sizes = msgspec.json.decode(listed.stdout) if listed.exit_code == 0 else []
        return Facts(
            found.get("FromImageID", ""),
            (found.get("OCIv1") or {}).get("config") or {},
            _bytes_of(str(sizes[0].get("size", ""))) if sizes else 0,
            found.get("FromImageDigest", ""),
        )

    def pull(self, image: str) -> None:
        done = self._run("pull", image, timeout_seconds=_PULL_SECONDS)
        if done.exit_code != 0:
            raise _failed(
                Code.NETWORK,
                f"{self.name} could not fetch the image {image}",
                done,
                "check the name, the network, and `login`",
            )

    def pinned(self, image: str) -> str:
        """`image` by its digest, fetched when it is not here. One that no registry has stays as it is."""
        if "@sha256:" in image:
            return image
        facts = self.facts(image)
        if facts is None:
            self.pull(image)
            facts = self.facts(image)
        digest = facts.digest if facts else ""
        return f"{without_tag(image)}@{digest}" if digest else image

    def build(self, context: Path, tag: str, secrets: Sequence[str], log: Path | None) -> None:
        """Build the folder; what it says goes to `log`, or to the terminal."""
        words = ["build", "--tag", tag, "--file", str(context / "Dockerfile")]
        words += [word for secret in secrets for word in ("--secret", secret)]
        if self.name != "docker":
            words += ["--format", "docker", "--layers", "--timestamp", str(EPOCH_SECONDS)]
        service = process.start_service(
            [self.name, *words, str(context)],
            cwd=context,
            env={**_environment(), "DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": str(EPOCH_SECONDS)},
            run_id=f"image-build-{os.getpid()}",
            stdout=log,
            stdout_is_stderr=True,
        )
        try:
            exit_code = service.wait(_BUILD_SECONDS)
        except BaseException:
            service.stop(2, 10.0)
            raise
        if exit_code != 0:
            if exit_code is None:
                service.stop(2, 10.0)
            raise GovError(Code.BUILD_FAILED, f"{self.name} could not build the image", _hint(log), _tail(log))

    def push(self, tag: str) -> str:
        """Returns the digest by which the registry knows it, where the engine says it."""
        done = self._run("push", tag, timeout_seconds=_PUSH_SECONDS)
        if done.exit_code != 0:
            raise _failed(
                Code.NETWORK, f"{self.name} could not push {tag}", done, f"{self.name} login, then run it again"
            )
        match = re.search(r"sha256:[0-9a-f]{64}", done.words)
        return match[0] if match else ""

    def run(self, image: str, arguments: Sequence[str], timeout_seconds: float) -> Ran:
        """Run one command of the image to its end, without rights, and without a network where the engine can:
        buildah cannot with the isolation `chroot`."""
        if self.name == "buildah":
            return self._run_with_buildah(image, arguments, timeout_seconds)
        words = ["run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp"]  # noqa: S108 (the image's)
        words += ["--no-healthcheck", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        done = self._run(*words, image, *arguments, timeout_seconds=timeout_seconds)
        return Ran(done.exit_code, done.stdout, done.words)

    def _run_with_buildah(self, image: str, arguments: Sequence[str], timeout_seconds: float) -> Ran:
        made = self._run("from", "--pull-never", image)
        if made.exit_code != 0:
            raise _failed(Code.TOOL_FAILED, f"buildah could not open the image {image}", made, "buildah images")
        container = made.stdout.strip()
        try:
            entry = msgspec.json.decode(self._run("inspect", "--type", "image", image).stdout)["OCIv1"]["config"]
            words = [*entry.get("Entrypoint", ()), *arguments]
            alone = () if os.environ.get("BUILDAH_ISOLATION") == "chroot" else ("--network", "none")
            done = self._run("run", *alone, container, "--", *words, timeout_seconds=timeout_seconds)
        finally:
            self._run("rm", container)
        return Ran(done.exit_code, done.stdout, done.words)


def _environment() -> dict[str, str]:
    """The person's own: engines find their store, their login and their daemon by it."""
    return dict(os.environ)


def _bytes_of(text: str) -> int:
    """`1.2 GB` as buildah writes it."""
    match = re.fullmatch(r"([\d.]+)\s*([kMGT]?)B", text.strip())
    return int(float(match[1]) * 1000 ** " kMGT".index(match[2] or " ")) if match else 0


def without_tag(image: str) -> str:
    head, slash, last = image.rpartition("/")
    return f"{head}{slash}{last.partition('@')[0].partition(':')[0]}"


def _tail(log: Path | None) -> tuple[str, ...]:
    if log is None or not log.is_file():
        return ()
    return tuple(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])


def _hint(log: Path | None) -> str:
    return f"the lines above are its last; all of them: {log}" if log else "the lines above say why"


def _failed(code: Code, message: str, done: process.Completed, hint: str) -> GovError:
    return GovError(code, message, hint, tuple(done.words.splitlines()[-20:]))


def choose(wanted: EngineName | None, context_command: str) -> Engine:
    """The engine that was asked for, else the first that runs. Raises `tool_missing`, naming all three."""
    names = (wanted,) if wanted else ENGINES
    reasons = []
    for name in names:
        engine = Engine(name)
        reason = engine.answers()
        if not reason:
            return engine
        reasons.append(f"{name}: {reason}")
    which = f"{wanted} cannot be used" if wanted else "no engine that builds images is here"
    raise GovError(
        Code.TOOL_MISSING,
        f"{which}: docker, podman or buildah is needed",
        f"install one of them, or take the build to another machine: {context_command}",
        tuple(reasons),
    )
