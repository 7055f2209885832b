"""A real ComfyUI that was installed by hand, with real packs in mixed forms, adopted as it is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from comfygov.model.names import canonical, id_from_source
from tests.kit.repos import git
from tests.real.test_real_comfyui import COMFYUI, INIT, PACKS, RealHome, modules

pytestmark = [
    pytest.mark.real_comfyui,
    pytest.mark.skipif(not COMFYUI, reason="COMFYGOV_TEST_COMFYUI names no repository"),
    pytest.mark.skipif(len(PACKS) < 2, reason="COMFYGOV_TEST_PACKS must name at least two packs"),
]


def installed(environment: Path) -> set[str]:
    found = (
        path.name.removesuffix(".dist-info") for path in environment.glob("lib/python3*/site-packages/*.dist-info")
    )
    return {f"{canonical(name)}=={version}" for name, _, version in (text.rpartition("-") for text in found)}


def every_file(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file, but for the mark of the home, which is said."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != "comfygov-home")
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


def by_hand(root: Path) -> Path:
    """A clone, a venv in it, and packs: the last without git, the first edited, all others as clones."""
    tree = root / "ComfyUI"
    git(root, "clone", "-q", COMFYUI, str(tree))
    nodes = tree / "custom_nodes"
    for source in PACKS:
        git(nodes, "clone", "-q", source, id_from_source(source))
    shutil.rmtree(nodes / id_from_source(PACKS[-1]) / ".git")
    edited = nodes / id_from_source(PACKS[0]) / "__init__.py"
    edited.write_text(edited.read_text() + "\n# mine\n")
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(tree / "venv")], check=True)
    lines = [word for word in INIT if not word.startswith("--")]
    files = [tree / "requirements.txt", *(nodes / id_from_source(source) / "requirements.txt" for source in PACKS)]
    wanted = [word for file in files if file.is_file() for word in ("-r", str(file))]
    install = [uv, "pip", "install", "-q", "--python", str(tree / "venv" / "bin" / "python"), *lines, *wanted]
    subprocess.run(install, check=True, env={**os.environ, "UV_LINK_MODE": "hardlink"})
    return tree


def test_a_hand_made_install_is_adopted_as_it_is(tmp_path: Path) -> None:
    tree = by_hand(tmp_path)
    home = RealHome(tmp_path)
    before = every_file(tree)
    made = home.timed("init", "--comfyui-dir", str(tree))
    assert every_file(tree) == before
    print(shlex.join(f"{found['kind']} {found['subject']}" for found in made["findings"]))
    left_out = {found["subject"] for found in made["findings"] if "left out" in found["problem"]}
    assert installed(home.home / ".venv-prod") == installed(tree / "venv") - left_out
    assert made["baseline"]["core_failures"] == []
    loaded = " ".join(modules(home))
    assert all(id_from_source(source) in loaded for source in PACKS if "Manager" not in source)
