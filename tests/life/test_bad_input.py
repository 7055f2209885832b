"""Bad input: a clear error with a hint, the right exit code, nothing half done."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.kit.repos import git, make_comfyui, make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.governed import Governed


def tree(root: Path) -> set[str]:
    """Every file and folder below the home, but for what any command may touch."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name not in ("home.lock", "__pycache__")}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("node", "show", "nobody"), 2, "there is no node pack `nobody`"),
        (("tx", "run", "nobody"), 2, "gov node list"),
        (("tx", "inspect", "tx9999"), 2, "gov tx list"),
        (("tx", "inspect", "../../etc/passwd"), 2, "there is no transaction"),
        (("tx", "promote", "7"), 2, "there is no transaction `7`"),
        (("rollback", "0099"), 2, "there is no snapshot `0099`"),
        (("snapshot", "inspect", "../state"), 2, "there is no snapshot"),
        (("node", "add", "-uevil"), 2, "option"),
        (("node", "add", "--", "-uevil"), 2, "could be taken for an option"),
        (("node", "add", "--", "--upload-pack=touch x"), 2, "could be taken for an option"),
        (("node", "add", "ext::sh -c touch% x", "--id", "x"), 2, "names a git helper"),
        (("node", "add", "gopher://host/x"), 2, "`gopher` is not allowed"),
        (("node", "add", "no-such-folder"), 5, "neither a git URL nor a directory"),
        (("node", "add", ""), 2, "it is empty"),
        (("nodes",), 2, "did you mean `gov node`?"),
        (("node", "add"), 2, "SOURCE"),
        (("tx", "run", "--timeout"), 2, "gov tx run --help"),
        (("init", "--path", "/dev/null/home"), 1, "name another place"),
        (("stop",), 1, "no ComfyUI of this home runs"),
        (("logs",), 2, "gov run --detach"),
    ],
)
def test_unknown_and_hostile_names(governed: Governed, arguments: tuple[str, ...], code: int, words: str) -> None:
    governed.env["COMFYGOV_NODE_REGISTRY"] = "http://127.0.0.1:9"
    before = tree(governed.home)
    governed.gov(*arguments).failed(code, "error: ", words)
    assert tree(governed.home) == before
    envelope = governed.gov(*arguments[:1], "--json", *arguments[1:])
    assert envelope.exit_code == code
    assert envelope.envelope["schema"] == "comfygov/1"
    assert not envelope.envelope["ok"]
    assert envelope.envelope["error"]["message"]


@pytest.mark.parametrize(
    "node_id", ["", "..", ".", "a/b", "a\\b", "x.disabled", "-x", "a b", "é", "a" * 200, ".git", "x..y"]
)
def test_ids_that_cannot_be_folders(governed: Governed, node_id: str) -> None:
    pack = governed.pack("fine")
    before = tree(governed.home)
    governed.gov("node", "add", str(pack), f"--id={node_id}").failed(2, "cannot be the id of a pack", "--id")
    assert tree(governed.home) == before


def test_two_ids_that_would_share_a_group(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("My_Pack"))).ok()
    governed.gov("node", "add", str(governed.pack("my.pack"))).failed(1, "share its names with `My_Pack`", "--id")
    governed.gov("node", "add", str(governed.root / "packs" / "My_Pack")).failed(1, "registered already")


def test_a_ref_that_is_not_there(governed: Governed) -> None:
    pack = governed.pack("fine")
    git(pack, "branch", "stable")
    before = tree(governed.home)
    governed.gov("node", "add", str(pack), "--ref", "stabel").failed(2, "no branch, tag or commit `stabel`", "stable")
    governed.gov("node", "add", str(pack), "--ref", "--output=x").failed(2, "is not the name of a branch")
    assert tree(governed.home) == before


def test_repositories_that_are_no_packs(governed: Governed, tmp_path: Path) -> None:
    plain = make_repository(tmp_path / "library", {"README": "x"})
    folder = tmp_path / "folder"
    folder.mkdir()
    before = tree(governed.home)
    governed.gov("node", "add", str(plain)).failed(1, "no __init__.py")
    governed.gov("node", "add", str(governed.comfyui_source)).failed(1, "ComfyUI itself")
    governed.gov("node", "add", str(folder)).failed(2, "not a git repository")
    assert tree(governed.home) == before


def test_a_folder_of_the_users_in_the_way(governed: Governed) -> None:
    mine = governed.home / "ComfyUI" / "custom_nodes" / "fine"
    mine.mkdir()
    (mine / "mine.py").write_text("mine")
    before = governed.world()
    governed.gov("node", "add", str(governed.pack("fine"))).failed(1, "no git repository of its own")
    assert (mine / "mine.py").read_text() == "mine"
    assert governed.world() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[tx\n", "not valid TOML"),
        ("[tx]\ntimeout_secods = 3\n", "did you mean `timeout_seconds`?"),
        ("[tx]\ntimeout_seconds = 'long'\n", "timeout_seconds"),
        ("[trx]\n", "did you mean `tx`?"),
        ("[tx]\nnetwork = 'maybe'\n", "one of allow, "),
        ("[policy]\ncore_packages = ['torch vision']\n", "names of packages"),
    ],
)
def test_a_broken_config(governed: Governed, text: str, words: str) -> None:
    (governed.home / "config.toml").write_text(text)
    for command in (("status",), ("node", "list"), ("init",)):
        governed.gov(*command).failed(2, "config.toml", words)


def test_a_remove_says_what_becomes_of_the_folder(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("leaver"))).ok()
    said = governed.gov("node", "remove", "leaver").ok().stdout
    assert "custom_nodes/leaver, stays and is not loaded" in said
    assert (governed.home / "ComfyUI" / "custom_nodes" / "leaver" / "__init__.py").is_file()


def test_a_config_that_names_no_python(governed: Governed) -> None:
    config = governed.home / "config.toml"
    config.write_text("[python]\nindex_url = 'none'\n")
    governed.gov("tx", "run", "--dep", "segno").failed(2, "names no Python", "interpreter = ")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('constraints = ["a b c"]', "`a b c` in [python] constraints is not a requirement"),
        ('find_links = ["/nonexistent/wheels"]', "/nonexistent/wheels, named in [python] find_links, is no directory"),
    ],
)
def test_a_slip_in_the_settings_is_no_conflict(governed: Governed, line: str, words: str) -> None:
    config = governed.home / "config.toml"
    kept = [text for text in config.read_text().splitlines() if not text.startswith(line.partition(" =")[0])]
    config.write_text("\n".join([*kept, line, ""]))
    governed.gov("tx", "run", "--dep", "segno").failed(2, words, "correct")
    governed.gov("status").ok()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ref", "v9"), "gov tx run --comfyui v9"),
        (("--comfyui-dir", "/other"), "gov init --path NEW_DIR --comfyui-dir /other"),
        (("--require", "segno>1"), "gov tx run --dep 'segno>1'"),
        (("--constraint", "torch<2"), "edit config.toml"),
    ],
)
def test_a_second_init_with_other_wishes_names_the_way(
    governed: Governed, options: tuple[str, ...], words: str
) -> None:
    before = governed.world()
    governed.gov("init", *options).failed(1, "is governed already", words)
    assert governed.world() == before


def test_a_home_of_a_newer_version(governed: Governed) -> None:
    head = governed.home / "state" / "head.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "schema_version": 99}))
    governed.gov("status").failed(1, "newer comfygov", "update comfygov")
    governed.gov("node", "list").failed(1, "newer comfygov")


def test_a_directory_that_is_no_home(bare: Governed) -> None:
    governed = bare
    governed.gov("status").failed(2, "is no governed home", "gov init --path")
    governed.home.mkdir()
    (governed.home / "thesis.txt").write_text("years of work")
    governed.gov("init").failed(1, "not empty")
    assert [path.name for path in governed.home.iterdir()] == ["thesis.txt"]


def test_the_source_checkout_is_never_a_home(bare: Governed) -> None:
    from tests.test_rules import SOURCE

    bare.gov("init", "--path", str(SOURCE.parent.parent)).failed(2, "source of comfygov itself")


def test_a_comfyui_that_never_gets_ready(governed: Governed) -> None:
    files = {"__init__.py": "import time\ntime.sleep(600)\n"}
    governed.gov("node", "add", str(governed.pack("sleeper", files=files))).ok()
    governed.gov("tx", "run", "sleeper", "--timeout", "1.5").failed(1, "did not become ready in 1.5 s")


def test_a_port_that_is_taken(governed: Governed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = governed.gov("run", "--detach", "--", "--port", str(port))
        ran.failed(1, f"port {port} on 127.0.0.1 is taken", f"--port {port + 1}")
        hidden = ("--port", "http", "--port", str(port))  # ComfyUI reads them all
        governed.gov("run", "--detach", "--", *hidden).failed(2, "`--port http` is no port")
    assert governed.json("status")["running"] is None


def test_no_network(bare: Governed) -> None:
    make_comfyui(bare.comfyui_source, "segno\n")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        bare.env["UV_HTTP_RETRIES"] = "0"
        bare.gov("init", "--repo", str(bare.comfyui_source), "--index-url", index).failed(5, "does not answer")
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/x/y.git"
        bare.gov("init", "--repo", dead).failed(1, "is a clone of", "rm -r")
        bare.gov("init", "--path", "other", "--repo", dead).failed(5, "does not answer")
    assert not (bare.home / "state" / "head.json").exists()
    assert bare.json("status")["drift"] == [f"init did not finish: gov init --path {bare.home}"]


def test_init_says_which_torch_pins_mend_it(bare: Governed) -> None:
    for name, version in (("torch", "2.15.0"), ("torch", "2.11.1"), ("torchaudio", "2.11.0")):
        bare.wheel(name, version)
    bare.wheel("torchvision", "0.30.0", ("torch==2.15.0",))
    bare.wheel("torchvision", "0.26.1", ("torch==2.11.1",))
    ran = bare.init(requirements="torch\ntorchvision\ntorchaudio\n")
    ran.failed(1, "are builds for different torch versions", "--constraint 'torch==2.11.*'")
    bare.init("--constraint", "torch==2.11.*").ok()
    assert bare.installed() == {"torch-2.11.1", "torchvision-0.26.1", "torchaudio-2.11.0"}


def test_init_names_the_module_that_comfyui_misses(bare: Governed) -> None:
    make_comfyui(bare.comfyui_source)
    main = bare.comfyui_source / "main.py"
    main.write_text("import lostmodule\n" + main.read_text().replace("from __future__ import annotations", ""))
    git(bare.comfyui_source, "commit", "-qam", "needs more")
    bare.wheel("lostmodule", "1.0")
    bare.init().failed(1, "needs the Python module `lostmodule`", "--require lostmodule")
    bare.init("--require", "lostmodule").ok()
    assert bare.installed() == {"lostmodule-1.0"}


@pytest.mark.parametrize(
    "options",
    [
        ("--repo", "/nonexistent"),
        ("--repo=-uevil",),
        ("--repo", "ext::sh -c touch x"),
        ("--repo", "{packs}/plain"),
        ("--repo", "{comfyui}", "--ref", "nope"),
        ("--constraint", "torch=="),
        ("--repo", "{comfyui}", "--index-url", "pypi"),
    ],
)
def test_an_init_that_is_refused_leaves_nothing(bare: Governed, options: tuple[str, ...]) -> None:
    bare.pack("plain")
    make_comfyui(bare.comfyui_source)
    words = {"packs": bare.root / "packs", "comfyui": bare.comfyui_source}
    ran = bare.gov("init", *(option.format(**words) for option in options))
    assert ran.exit_code in (1, 2), ran
    assert ".comfygov-staging" not in ran.stderr
    assert not bare.home.exists()


def test_a_bare_command_shows_its_help(bare: Governed) -> None:
    for words in ((), ("node",), ("tx",)):
        ran = bare.gov(*words).failed(2, "a command is missing")
        assert "\n  list" in ran.stderr or "Commands:" in ran.stderr
        assert "\ufffd" not in ran.stderr


def test_a_refused_init_takes_nothing_that_was_there_before(bare: Governed) -> None:
    state = bare.home / "state"
    state.mkdir(parents=True)
    (state / "precious").write_text("mine")
    config = bare.home / "config.toml"
    for text in (None, "[tx]\ntimeout_seconds = 77\n"):
        if text is not None:
            config.write_text(text)
        bare.gov("init", "--repo", "/nonexistent", "--constraint", "click==1").failed(2, "neither a git URL")
        assert (state / "precious").read_text() == "mine"
        assert (config.read_text() if config.exists() else None) == text


def test_a_refused_init_leaves_an_empty_folder_where_it_is(bare: Governed) -> None:
    bare.home.mkdir()
    bare.gov("init", "--repo", "/nonexistent").failed(2, "neither a git URL")
    assert list(bare.home.iterdir()) == []
    link = bare.root / "link"
    link.symlink_to(bare.home)
    bare.gov("init", "--path", str(link), "--repo", "/nonexistent").failed(2, "neither a git URL")
    assert link.is_symlink()
