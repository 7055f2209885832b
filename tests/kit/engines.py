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
    """This machine lets nobody make images: no mirror answers, or mounts are refused."""


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
    """A store at `root` with the base image and that of uv."""
    root.mkdir(parents=True)
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{root}/store"\nrunroot = "{root}/run"\n'
    (root / "storage.conf").write_text(storage)
    (root / "containers.conf").write_text(_CONTAINERS)
    engines = Engines(root)
    base = root / "base"
    base.mkdir()
    _link(base_tar(), base / "base.tar")
    shutil.copy(CERTIFICATES, base / "ca.crt")
    trust = f"COPY ca.crt {CERTIFICATES}\nENV SSL_CERT_FILE={CERTIFICATES}\n"
    (base / "Dockerfile").write_text(f"FROM scratch\nADD base.tar /\n{trust}")
    done = engines.run("buildah", "build", "--quiet", "--timestamp", "0", "--tag", BASE, str(base))
    if done.returncode != 0:
        raise CannotError(done.stderr[-2000:])
    uv = root / "uv"
    uv.mkdir()
    _link(Path(sys.executable).with_name("uv"), uv / "uv")
    (uv / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n")
    engines.ok("buildah", "build", "--quiet", "--timestamp", "0", "--tag", UV, str(uv))
    return engines


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
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            staged.unlink(missing_ok=True)
            raise CannotError(done.stderr[-2000:])
        staged.rename(path)
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
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
    return next(line.split()[0] for line in listed if line.endswith(f" {release}"))
