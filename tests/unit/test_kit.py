"""What the tests stand on: where it cannot work is said, and what takes long is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import engines
from tests.kit.spread import scope_of


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("mirror", "mmdebstrap", "buildah", "words"),
    [
        ("exit 100", "exit 0", "exit 0", "apt does not say where packages come from"),
        ("exit 0", "exit 0", "exit 0", "apt knows no mirror"),
        ("echo http://m.invalid $name", "echo no route >&2; exit 25", "exit 0", "system's packages: no route"),
        ("echo http://m.invalid $name", ': >"$last"', "echo mount: refused >&2; exit 125", "no image here: mount:"),
        ("echo http://m.invalid $name", ': >"$last"', '[ "$tag" != localhost/probe:1 ]', "reaches no PyPI"),
        ("echo http://m.invalid $name", ': >"$last"', "exit 0", "podman starts no container here"),
    ],
)
def test_where_no_image_can_be_made_it_is_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, mmdebstrap: str, buildah: str, words: str
) -> None:
    programs = tmp_path / "bin"
    program(programs, "apt-get", f". /etc/os-release; name=$VERSION_CODENAME; {mirror}")
    program(programs, "mmdebstrap", f"for one; do case $one in *.tar) last=$one ;; esac; done; {mmdebstrap}")
    program(programs, "buildah", f"tag=; while [ $# -gt 0 ]; do [ $1 != --tag ] || tag=$2; shift; done; {buildah}")
    program(programs, "podman", "exit 126")
    program(programs, "umount", "exit 1")
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "CERTIFICATES", tmp_path / "bin" / "podman")
    with pytest.raises(engines.CannotError, match=words):
        engines.make(tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert not list((tmp_path / "cache").glob("*/*.[0-9]*.tar"))


def test_tests_that_share_an_image_share_a_worker() -> None:
    image = "tests/image/test_image_build.py"
    assert scope_of(f"{image}::test_a") == scope_of(f"{image}::test_b[x::y]") == image
    assert scope_of("tests/unit/test_kit.py::test_a") == "tests/unit/test_kit.py::test_a"
