"""One version for several builds of torch and several platforms: made here on one, realised on another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from comfygov.truth.declaration import PYTORCH_INDEX_VARIABLE
from tests.kit.governed import Governed
from tests.kit.indexes import put, serving
from tests.kit.repos import make_comfyui, make_pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUILDS = ("", "cpu", "cu130", "rocm6.4")
MAC = "sys_platform == 'darwin' and platform_machine == 'arm64'"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """A home on the cpu build, made when torch was 2.9.0, and indexes that have a newer one since."""
    root = tmp_path_factory.mktemp("builds")
    wheels = [(build or "main", "torch", f"2.9.0{'+' * bool(build)}{build}") for build in BUILDS]
    with serving(root / "indexes", [*wheels, ("main", "plain", "1.0"), ("main", "extra", "1.0")]) as address:
        made = Governed(root, {PYTORCH_INDEX_VARIABLE: address})
        make_comfyui(made.comfyui_source, "torch\nplain\n")
        options = ("--repo", str(made.comfyui_source), "--index-url", f"{address}/main")
        made.gov("init", *options, "--install-torch", "cpu").ok()
        for build in BUILDS:
            put(root / "indexes", build or "main", "torch", f"2.10.0{'+' * bool(build)}{build}")
        words = ("--torch-backend", "cu130", "--torch-backend", "rocm6.4", "--platform", "darwin-arm64")
        made.gov("version", "create", "wide", *words).ok()
        yield made


def lock_of(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "lockfiles" / "comfy-wide.lock.json").read_bytes())
    return found


def clone(made: Governed, name: str, *options: str) -> tuple[Governed, Any]:
    target = made.root / name
    found = made.json("version", "clone", "wide", "--target", str(target), *options)
    return Cloned(made.root, {**made.env, "COMFY_HOME": str(target)}), found


class Cloned(Governed):
    @property
    def home(self) -> Path:
        return self.root / self.env["COMFY_HOME"]


def test_a_version_carries_what_was_asked_and_what_runs(made: Governed) -> None:
    python = lock_of(made.home)["python"]
    assert python["torch_backends"] == ["cpu", "cu130", "default", "rocm6.4"]
    assert python["torch_backend"] == "cpu"
    assert MAC in python["platforms"]
    assert sorted(p["version"] for p in python["packages"] if p["name"] == "torch") == [
        "2.9.0", "2.9.0+cpu", "2.9.0+cu130", "2.9.0+rocm6.4",
    ]  # fmt: skip
    assert made.installed() == {"torch-2.9.0+cpu", "plain-1.0"}


def test_it_is_the_same_bytes_each_time_and_the_home_is_it(made: Governed) -> None:
    before = lock_of(made.home)
    words = ("--torch-backend", "cu130", "--torch-backend", "rocm6.4", "--platform", "darwin-arm64")
    assert made.json("version", "create", "wide", *words)["unchanged"]
    assert lock_of(made.home) == before
    assert made.json("version", "verify", "wide")["identical"]


@pytest.mark.parametrize(
    ("build", "version"),
    [("cpu", "2.9.0+cpu"), ("cu130", "2.9.0+cu130"), ("rocm6.4", "2.9.0+rocm6.4"), ("default", "2.9.0")],
)
def test_each_build_is_realised_and_proven(made: Governed, build: str, version: str) -> None:
    home, found = clone(made, f"clone-{build}", "--torch-backend", build)
    assert found["identical"], found["differences"]
    assert found["torch_backend"] == build
    assert home.installed() == {f"torch-{version}", "plain-1.0"}
    assert home.json("version", "verify", str(made.home / "lockfiles" / "comfy-wide.lock.json"))["identical"]


def test_without_a_word_a_clone_is_what_the_home_was(made: Governed) -> None:
    assert clone(made, "same")[0].installed() == {"torch-2.9.0+cpu", "plain-1.0"}


def test_a_build_that_it_has_not_is_refused_before_anything(made: Governed) -> None:
    words = ("version", "clone", "wide", "--target", str(made.root / "none"), "--torch-backend", "cu118")
    made.gov(*words).failed(2, "it carries cpu, cu130, default, rocm6.4")
    assert not (made.root / "none").exists()


@pytest.mark.parametrize(("option", "word"), [("--torch-backend", "cuda"), ("--platform", "linux")])
def test_words_that_mean_nothing_are_refused(made: Governed, option: str, word: str) -> None:
    made.gov("version", "create", "odd", option, word).failed(2, f"{option} `{word}` is none")


def test_a_clone_on_a_chosen_build_lives_on(made: Governed) -> None:
    """A transaction, a rollback, gc and a rebuild keep the build, and torch where it was."""
    home, _ = clone(made, "living", "--torch-backend", "cu130")
    first = home.head()
    home.gov("node", "add", str(make_pack(made.root / "packs" / "alpha", "extra\n"))).ok()
    txid = home.json("tx", "run", "alpha")["transaction"]["txid"]
    home.gov("tx", "promote", txid).ok()
    assert home.installed() == {"torch-2.9.0+cu130", "plain-1.0", "extra-1.0"}
    (home.home / ".venv-prod" / "lib").resolve()
    torch = next((home.home / ".venv-prod" / "lib").glob("python3*/site-packages/torch/__init__.py"))
    torch.unlink()
    home.gov("sync").ok()
    assert home.installed() == {"torch-2.9.0+cu130", "plain-1.0", "extra-1.0"}
    home.gov("rollback", first).ok()
    home.gov("gc").ok()
    assert home.installed() == {"torch-2.9.0+cu130", "plain-1.0"}
    (home.home / "config.toml").unlink()
    home.gov("init").ok()
    assert 'torch_backends = ["cu130", "cpu", "default", "rocm6.4"]' in (home.home / "config.toml").read_text()


def test_a_bundle_holds_the_wheels_of_every_build(made: Governed) -> None:
    bundle = made.root / "wide.bundle"
    assert made.json("version", "bundle", "wide", "-o", str(bundle))["missing"] == []
    target = made.root / "from-bundle"
    words = ("--lock", str(bundle), "--target", str(target), "--offline", "--torch-backend", "cu130")
    fresh = Cloned(made.root, {**made.env, "COMFY_HOME": str(target), "UV_CACHE_DIR": str(made.root / "empty")})
    assert fresh.json("version", "clone", *words)["identical"]
    assert fresh.installed() == {"torch-2.9.0+cu130", "plain-1.0"}


def test_a_version_without_a_home_can_be_for_several(made: Governed) -> None:
    words = ("--comfy-repo", str(made.comfyui_source), "--index-url", f"{made.env[PYTORCH_INDEX_VARIABLE]}/main")
    builds = ("--torch-backend", "cu130", "--torch-backend", "cpu")
    lock = made.root / "assembled.lock.json"
    made.gov("version", "create", "a", *words, *builds, "--output", str(lock)).ok()
    target = made.root / "assembled"
    assert made.json("version", "clone", "--lock", str(lock), "--target", str(target))["torch_backend"] == "cu130"
