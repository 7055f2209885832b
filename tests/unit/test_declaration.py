"""pyproject.toml of a home: rendered from a Declaration, read back, and taken by the real uv."""

from __future__ import annotations

import sys
from pathlib import Path
from string import printable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfygov.errors import Code, GovError
from comfygov.model.names import group_of
from comfygov.model.state import ComfyUIPin, Declaration, Resolution
from comfygov.ports.uv import Uv
from comfygov.truth import declaration

from .conftest import Refused

WHEELS = "https://download.pytorch.org/whl"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=25)
LINES = st.lists(TEXTS, max_size=3).map(tuple)
PINS = st.builds(ComfyUIPin, repo=TEXTS, ref=st.none() | TEXTS.filter(bool), commit=TEXTS)
RESOLUTIONS = st.builds(Resolution, requirement=TEXTS, forced=st.booleans(), reason=TEXTS, txid=TEXTS, owners=LINES)
DECLARATIONS = st.builds(
    Declaration,
    comfyui=PINS,
    requires_python=TEXTS,
    groups=st.dictionaries(TEXTS.filter(lambda name: name != "overrides"), LINES, max_size=4),
    constraints=LINES,
    resolutions=st.lists(RESOLUTIONS, max_size=3).map(tuple),
    exclude_newer=TEXTS,
    exclude=LINES,
    environments=LINES,
    find_links=LINES,
    index_url=TEXTS | st.just("none"),
    torch_backend=st.sampled_from(["", "cpu", "cu130", "rocm6.4"]),
    torch_backends=st.sampled_from([(), ("cpu", "cu130", "default"), ("default", "rocm6.4")]),
    source_builds=st.booleans(),
)
PIN = ComfyUIPin("https://host/ComfyUI", "v0.3.64", "0" * 40)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw makes its tables, on a busy machine for long
@given(DECLARATIONS)
def test_what_is_rendered_is_read_back(given_one: Declaration) -> None:
    text = declaration.render(given_one, WHEELS)
    assert declaration.parse(text) == given_one
    assert declaration.render(declaration.parse(text), WHEELS) == text


@given(st.permutations(["node-a", "node-b", "core", "z"]))
def test_the_order_of_groups_does_not_change_the_bytes(names: list[str]) -> None:
    def text(order: list[str]) -> str:
        groups: dict[str, tuple[str, ...]] = {name: (name,) for name in order}
        return declaration.render(Declaration(PIN, ">=3.10", groups), WHEELS)

    assert text(names) == text(sorted(names))


@given(st.text(printable, max_size=100))
def test_text_of_somebody_elses_is_damage_and_nothing_else(text: str) -> None:
    with pytest.raises(GovError) as caught:
        declaration.parse(text)
    assert caught.value.code is Code.HOME_DAMAGED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[project]\nname = 'x'\n",
        "tool = 3",
        "[tool]\nuv = 1\ncomfygov = 2\n",
        "[project]\nrequires-python='x'\n[dependency-groups]\na=3\n[tool.uv]\n[tool.comfygov.comfyui]\nrepo='r'\ncommit='c'\n",
        "[project]\nrequires-python='x'\n[dependency-groups]\n[tool.uv]\n[tool.comfygov]\ncomfyui=[1]\n",
        "[project]\nrequires-python='x'\n[dependency-groups]\n[tool.uv]\nindex=['x']\n[tool.comfygov.comfyui]\nrepo='r'\n",
    ],
)
def test_a_file_of_another_shape_is_damage(text: str, refused: Refused) -> None:
    with refused(Code.HOME_DAMAGED):
        declaration.parse(text)


def lock(tmp_path: Path, given_one: Declaration) -> str:
    project = tmp_path / "project"
    (project / "wheels").mkdir(parents=True)
    (project / "pyproject.toml").write_text(declaration.render(given_one, WHEELS))
    outcome = Uv().lock(project, sys.executable)
    assert outcome.verdict == "locked", outcome.text
    return (project / "uv.lock").read_text()


@pytest.mark.parametrize("torch_backend", ["", "cpu", "cu130"])
def test_the_real_uv_takes_the_file(tmp_path: Path, torch_backend: str) -> None:
    everything = Declaration(
        comfyui=PIN,
        requires_python=">=3.10",
        groups={"core": (), group_of("ComfyUI_Impact.Pack"): (), group_of("a"): ("pywin32 ; sys_platform == 'win32'",)},
        constraints=("torch<3", "numpy>=1.26 ; python_version < '3.13'"),
        resolutions=(
            Resolution("pillow==11.0", forced=True, reason="why"),
            Resolution("einops<1 ; sys_platform == 'win32'", owners=("a",)),
        ),
        exclude=("opencv-python",),
        environments=("sys_platform == 'linux' and platform_machine == 'x86_64'",),
        find_links=("wheels",),
        index_url="none",
        torch_backend=torch_backend,
    )
    text = lock(tmp_path, everything)
    assert 'name = "comfy-env"' in text
    assert declaration.parse((tmp_path / "project" / "pyproject.toml").read_text()) == everything


@pytest.mark.parametrize("source_builds", [False, True])
def test_the_real_uv_takes_the_smallest_file(tmp_path: Path, *, source_builds: bool) -> None:
    lock(tmp_path, Declaration(PIN, ">=3.10", index_url="none", find_links=("wheels",), source_builds=source_builds))


def test_a_home_below_somebody_elses_workspace_is_its_own_root(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname='w'\nversion='1'\n[tool.uv.workspace]\nmembers=['*']\n")
    lock(tmp_path, Declaration(PIN, ">=3.10", index_url="none", find_links=("wheels",)))
    assert not (tmp_path / "uv.lock").exists()


def test_the_words_of_uv_become_a_verdict(tmp_path: Path) -> None:
    for name, line, verdict in (("a", "no-such-thing>=1", "no_solution"), ("b", "einops=>1", "malformed")):
        project = tmp_path / name
        (project / "wheels").mkdir(parents=True)
        wanted = Declaration(PIN, ">=3.10", {"node-x": (line,)}, find_links=("wheels",), index_url="none")
        (project / "pyproject.toml").write_text(declaration.render(wanted, WHEELS))
        outcome = Uv().lock(project, sys.executable)
        assert outcome.verdict == verdict, outcome.text
        assert "node-x" in outcome.text
