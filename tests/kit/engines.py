"""A private store for podman and buildah, and a base image made of the system's own packages: no registry is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE = "localhost/comfygov-test-base:1"
UV = "localhost/comfygov-test-uv:1"
_PACKAGES = "ca-certificates,python3"
# runc: crun 1.8 refuses hybrid cgroups. The limits: raising them needs a capability that a container may lack.
_CONTAINERS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
"""


def missing() -> str:
    """Why no image can be built here; empty when one can."""
    if os.geteuid() != 0:
        return "images are built as root in this test"
    for program in ("buildah", "podman", "runc", "mmdebstrap", "apt-get"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return ""


class CannotError(Exception):
    """This machine lets nobody make images: no mirror or PyPI answers, or mounts are refused. A reason to skip."""


def _or_cannot(what: str, *argv: str | Path, env: dict[str, str] | None = None) -> str:
    """What a program that is not ours prints. Raises CannotError where it fails."""
    try:
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotError(f"{what}: {error}") from error
    if done.returncode != 0:
        raise CannotError(f"{what}: {' | '.join(done.stderr.splitlines()[-5:])[-1000:]}")
    return done.stdout


@dataclass(frozen=True)
class Engines:
    """Where images lie; `env` is what podman and buildah find it by."""

    root: Path

    @property
    def env(self) -> dict[str, str]:
        return {
            "CONTAINERS_STORAGE_CONF": str(self.root / "storage.conf"),
            "CONTAINERS_CONF": str(self.root / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def run(self, *argv: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=timeout, check=False
        )

    def ok(self, *argv: str, timeout: float = 300) -> str:
        done = self.run(*argv, timeout=timeout)
        assert done.returncode == 0, (argv, done.stdout[-4000:], done.stderr[-4000:])
        return done.stdout

    def close(self) -> None:
        self.run("podman", "rm", "--all", "--force", "--time", "1")
        self.run("buildah", "rm", "--all")
        self.run("podman", "rmi", "--all", "--force")
        for mount in sorted((self.root / "store" / "overlay").glob("**/merged"), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        subprocess.run(["umount", "-l", self.root / "store" / "overlay"], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)


def make(root: Path) -> Engines:
    """A store at `root` with the base image and that of uv. Raises CannotError, and leaves nothing then."""
    root.mkdir(parents=True)
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{root}/store"\nrunroot = "{root}/run"\n'
    (root / "storage.conf").write_text(storage)
    (root / "containers.conf").write_text(_CONTAINERS)
    engines = Engines(root)
    try:
        _fill(engines)
    except BaseException:
        engines.close()
        raise
    return engines


def _fill(engines: Engines) -> None:
    if not CERTIFICATES.is_file():
        raise CannotError(f"there is no {CERTIFICATES}, by which a build trusts PyPI")
    base, uv, probe = (engines.root / name for name in ("base", "uv", "probe"))
    for folder in (base, uv, probe):
        folder.mkdir()
    _link(base_tar(), base / "base.tar")
    shutil.copy(CERTIFICATES, base / "ca.crt")
    trust = f"COPY ca.crt {CERTIFICATES}\nENV SSL_CERT_FILE={CERTIFICATES}\n"
    _build(engines, base, BASE, f"FROM scratch\nADD base.tar /\n{trust}", "buildah makes no image here")
    _link(Path(sys.executable).with_name("uv"), uv / "uv")
    _build(engines, uv, UV, "FROM scratch\nCOPY uv /uv\n", "buildah makes no image here")
    _build(engines, probe, "localhost/probe:1", _PROBE, "a build reaches no PyPI here, where the handler comes from")
    environment = {**os.environ, **engines.env}
    run = ("podman", "run", "--rm", "--network", "none", BASE, "true")
    _or_cannot("podman starts no container here", *run, env=environment)


# By uv as our own builds do, of the smallest package that the handler needs.
_PROBE = f"""FROM {UV} AS uv
FROM {BASE}
RUN --mount=type=bind,from=uv,source=/uv,target=/mnt/uv/uv \\
    UV_NO_CACHE=1 /mnt/uv/uv pip install --python /usr/bin/python3 --no-deps --target /tmp/probe click
"""


def _build(engines: Engines, folder: Path, tag: str, dockerfile: str, what: str) -> None:
    (folder / "Dockerfile").write_text(dockerfile)
    words = ("buildah", "build", "--quiet", "--timestamp", "0", "--tag", tag, folder)
    _or_cannot(what, *words, env={**os.environ, **engines.env})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def base_tar() -> Path:
    """A small Debian of the machine's own release with Python; kept in the user's cache folder, made anew by hand."""
    release = _os_release("VERSION_CODENAME")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "comfygov-tests"
    path = cache / f"base-{release}-{_PACKAGES.replace(',', '-')}.tar"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(f".{os.getpid()}.tar")
        mirror = _mirror(release)
        argv = ["mmdebstrap", "--variant=apt", f"--include={_PACKAGES}", *_LEAN, release, str(staged), mirror]
        try:
            _or_cannot("no base image could be made of the system's packages", *argv)
            staged.rename(path)
        finally:
            staged.unlink(missing_ok=True)
    return path


_LEAN = (
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--aptopt=Acquire::Languages "none"',
)


def _os_release(name: str) -> str:
    lines = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return lines[name].strip('"')


def _mirror(release: str) -> str:
    """Where this system's own packages of its release come from, as apt says."""
    words = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    lines = _or_cannot("apt does not say where packages come from", *words).splitlines()
    found = [line.split()[0] for line in lines if line.endswith(f" {release}")]
    if not found:
        raise CannotError(f"apt knows no mirror of {release} here (apt-get update)")
    return found[0]
