"""config.toml, and how a home is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.errors import Code, GovError
from comfygov.model.config import Config
from comfygov.truth import home, settings

from .conftest import Refused


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_an_empty_file_is_the_defaults(config: Path) -> None:
    config.write_text("")
    assert settings.read_config(config) == Config()


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("[policies]\n", "unknown [policies]", "`policy`"),
        ("[txx]\n", "unknown [txx]", "`tx`"),
        ("[zzzzzzzz]\n", "unknown [zzzzzzzz]", "known: paths, runtime, tx"),
        ("[tx]\ntimeout_second = 3\n", "`timeout_second` in [tx]", "`timeout_seconds`"),
        ("[paths]\ncomfyui = 'x'\n", "`comfyui` in [paths]", "`comfyui_dir`"),
        ("[policy]\nqqqqqqqq = 1\n", "`qqqqqqqq` in [policy]", "known: core_packages"),
        ("tx = 3\n", "`tx` must be a table", "[tx]"),
        ("tx = [1]\n", "`tx` must be a table", "[tx]"),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, problem: str, hint: str, config: Path, refused: Refused) -> None:
    config.write_text(text)
    with refused(Code.BAD_CONFIG) as caught:
        settings.read_config(config)
    assert problem in caught.value.message
    assert str(config) in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[tx]\ntimeout_seconds = 'long'\n", "tx.timeout_seconds"),
        ("[tx]\nsmoke_test_cmd = 'true'\n", "tx.smoke_test_cmd"),
        ("[tx]\nnetwork = 'none'\n", "tx.network"),
        ("[policy]\ncore_packages = [1]\n", "policy.core_packages"),
        ("[run]\nsync_before_run = 1\n", "run.sync_before_run"),
        ("[rollback]\nsnapshot_retention = 2.5\n", "rollback.snapshot_retention"),
    ],
)
def test_a_value_of_the_wrong_type_names_its_key(text: str, key: str, config: Path, refused: Refused) -> None:
    config.write_text(text)
    with refused(Code.BAD_CONFIG) as caught:
        settings.read_config(config)
    assert f"key `{key}" in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[paths]\ncomfyui_dir = ''\n", "`comfyui_dir` must name a folder of its own"),
        ("[paths]\nmodels_dir = 'models/..'\n", "`models_dir` must name a folder of its own"),
        ("[python]\nindex_url = 'pypi'\n", "`pypi` in `index_url` is none"),
        ("[python]\nindex_url = 'ftp://host/simple'\n", "in `index_url` is none"),
    ],
)
def test_places_and_addresses_that_mean_nothing(text: str, words: str, config: Path, refused: Refused) -> None:
    config.write_text(text)
    with refused(Code.BAD_CONFIG) as caught:
        settings.read_config(config)
    assert words in caught.value.message


@pytest.mark.parametrize("address", ["", "none", "https://host/simple", "http://localhost:1", "file:///srv", "/srv"])
def test_addresses_of_indexes(address: str) -> None:
    assert settings.is_index(address)


@pytest.mark.parametrize("text", ["[tx]\n\ntimeout_seconds = \n", "[tx]\n\n]\n", "[tx]\n\n[tx]\n"])
def test_broken_toml_names_its_line(text: str, config: Path, refused: Refused) -> None:
    config.write_text(text)
    with refused(Code.BAD_CONFIG) as caught:
        settings.read_config(config)
    assert "line 3" in caught.value.message


def test_bytes_that_are_no_text_are_a_bad_config(config: Path, refused: Refused) -> None:
    config.write_bytes(b"[tx]\n# \xff\xfe\n")
    with refused(Code.BAD_CONFIG):
        settings.read_config(config)


@given(st.text(max_size=60))
def test_no_text_is_more_than_a_bad_config(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_text(text, encoding="utf-8")
    try:
        settings.read_config(path)
    except GovError as error:
        assert error.code is Code.BAD_CONFIG  # noqa: PT017 (most texts are taken or refused: both are right)


def test_an_update_keeps_comments_order_and_other_keys(config: Path) -> None:
    config.write_text("# mine\n[tx]\nextra_args = ['--cpu'] # no GPU\n\n[paths]\n# there\nmodels_dir = 'm'\n")
    settings.update_config(config, {"paths": {"comfyui_dir": "app"}, "tx": {"timeout_seconds": 5.0}, "run": {}})
    text = config.read_text()
    for kept in ("# mine\n", "extra_args = ['--cpu'] # no GPU\n", "# there\nmodels_dir = 'm'\n"):
        assert kept in text
    assert text.index("[tx]") < text.index("[paths]")
    read = settings.read_config(config)
    assert (read.paths.comfyui_dir, read.paths.models_dir) == ("app", "m")
    assert (read.tx.timeout_seconds, read.tx.extra_args) == (5.0, ("--cpu",))


def test_an_update_makes_the_file_and_replaces_values(config: Path) -> None:
    for wheels in (["a"], ["b", 'quote " and \\']):
        settings.update_config(config, {"python": {"find_links": wheels}})
    assert settings.read_config(config).python.find_links == ("b", 'quote " and \\')
    assert config.read_text().startswith(settings.HEADER)


def make_home(path: Path) -> Path:
    (path / "state").mkdir(parents=True)
    (path / "config.toml").touch()
    return path


def test_a_home_is_looked_for_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = make_home(tmp_path / "parent")
    inner = make_home(parent / "a" / "inner")
    (deep := inner / "ComfyUI" / "custom_nodes").mkdir(parents=True)
    monkeypatch.setenv("COMFY_HOME", str(tmp_path / "variable"))
    assert home.find_root(str(tmp_path / "given"), deep) == tmp_path / "given"
    assert home.find_root(None, deep) == tmp_path / "variable"
    monkeypatch.setenv("COMFY_HOME", "")
    assert home.find_root(None, deep) == inner
    assert home.find_root(None, parent / "a") == parent
    assert home.find_root("", tmp_path) == tmp_path / "comfy"


def test_the_current_directory_is_where_the_search_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_home(tmp_path / "h")
    monkeypatch.chdir(made / "state")
    assert home.find_root(None) == made
    assert home.find_root("x") == made / "state" / "x"


def test_half_a_home_is_none(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert not home.is_home(tmp_path)
    (tmp_path / "config.toml").mkdir()
    assert not home.is_home(tmp_path)


def test_the_checkout_of_comfygov_is_refused(tmp_path: Path, refused: Refused) -> None:
    with refused(Code.USAGE):
        home.refuse_source_checkout(Path(__file__).parents[2])
    home.refuse_source_checkout(tmp_path)


def test_paths_of_a_home_follow_its_settings(tmp_path: Path) -> None:
    settings.update_config(tmp_path / "config.toml", {"paths": {"comfyui_dir": "/srv/app", "models_dir": "m"}})
    found = home.Home(tmp_path, settings.read_config(tmp_path / "config.toml"))
    assert found.custom_nodes == Path("/srv/app/custom_nodes")
    assert found.models == tmp_path / "m"
    assert found.relative(tmp_path / "state" / "x") == "state/x"
    assert found.relative(Path("/srv/app")) == "/srv/app"
    assert found.truth_path("plugins.json") == tmp_path / "state" / "plugins.json"
    assert found.truth_path("uv.lock") == tmp_path / "uv.lock"
