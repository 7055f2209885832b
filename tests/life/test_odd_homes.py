"""What a careful person still met: lost records and settings, disks that are away, other programs on the port."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.kit.governed import Governed
from tests.kit.repos import commit_all

if TYPE_CHECKING:
    from pathlib import Path


def rescued(governed: Governed, name: str) -> set[str]:
    return {path.read_text().splitlines()[-1] for path in (governed.home / "state" / "rescued").glob(f"*/{name}")}


# -- places ----------------------------------------------------------------------------------------


def test_a_place_with_a_hash_sign_in_its_name(tmp_path: Path) -> None:
    """uv takes `#` in a folder of wheels for the fragment of an address."""
    governed = Governed(tmp_path / "50% ü # 2")
    governed.root.mkdir()
    governed.wheel("extra", "1.0")
    governed.init().ok()
    governed.promote_pack("pa", "extra\n")
    governed.init().ok()
    governed.gov("version", "create", "v1").ok()
    governed.gov("version", "clone", "v1", "--target", str(governed.root / "clone")).ok()
    governed.gov("node", "remove", "pa").ok()
    governed.gov("verify", "--deep").ok()


# -- records ---------------------------------------------------------------------------------------


def test_a_record_that_was_moved_aside_stops_nothing_and_its_number_is_not_given_again(governed: Governed) -> None:
    governed.promote_pack("pa")
    record = governed.home / "state" / "transactions" / "tx0001.json"
    record.write_text("{")
    governed.gov("snapshot", "create").failed(1, f"mv {record} {record}.damaged")
    record.rename(f"{record}.damaged")
    governed.gov("snapshot", "create").ok()
    assert governed.json("tx", "run", "pa")["transaction"]["txid"] == "tx0002"
    record.with_suffix(".json.damaged").unlink()
    (governed.home / "state" / "transactions" / "tx0002.json").unlink()
    assert governed.json("tx", "run", "pa")["transaction"]["txid"] == "tx0002"
    governed.gov("snapshot", "create").ok()
    assert governed.json("tx", "inspect", "2")["transaction"]["status"] == "completed"


def test_files_of_the_persons_beside_snapshots_are_no_snapshots(governed: Governed) -> None:
    snapshots = governed.home / "snapshots"
    (snapshots / "7z.tar").write_text("mine")
    (snapshots / "0001-init.bak").mkdir()
    governed.gov("status").ok()
    governed.gov("rollback", "1").ok()
    for words in (("rollback", "²"), ("tx", "inspect", "²"), ("snapshot", "inspect", "²")):
        governed.gov(*words).failed(2, "there is no")


# -- hand edits ------------------------------------------------------------------------------------


def test_every_hand_edit_is_kept_however_fast_they_come(governed: Governed) -> None:
    governed.promote_pack("pa")
    truth = governed.home / "pyproject.toml"
    for number in range(3):
        with truth.open("a") as file:
            file.write(f"# edit {number}\n")
        governed.gov("node", "disable" if number % 2 == 0 else "enable", "pa").ok()
    assert rescued(governed, "pyproject.toml") == {"# edit 0", "# edit 1", "# edit 2"}


def test_a_hand_edit_in_the_middle_of_a_commit_is_kept(governed: Governed) -> None:
    governed.promote_pack("pa")
    env = dict(governed.env)
    governed.env["COMFYGOV_FAULT"] = "kill@head.written"
    assert governed.gov("node", "disable", "pa").exit_code == -9
    governed.env.clear()
    governed.env.update(env)
    with (governed.home / "pyproject.toml").open("a") as file:
        file.write("# precious\n")
    governed.gov("node", "enable", "pa").ok()
    assert rescued(governed, "pyproject.toml") == {"# precious"}


# -- disks and settings ----------------------------------------------------------------------------


def test_a_models_folder_that_is_away_stops_no_change(governed: Governed, free_port: int) -> None:
    governed.promote_pack("pa")
    models = governed.home / "models"
    models.rename(governed.root / "elsewhere")
    models.symlink_to("/not/mounted")
    governed.gov("node", "disable", "pa").ok()
    governed.gov("rollback", "1").ok()
    said = governed.gov("run", "--detach", "--", "--port", str(free_port)).ok().stderr
    governed.gov("stop").ok()
    assert "could not be made: is its disk there?" in said


def test_a_lost_config_is_written_anew(governed: Governed) -> None:
    config = governed.home / "config.toml"
    before = config.read_text()
    config.unlink()
    governed.gov("status").failed(1, "lost its config.toml", f"gov init --path {governed.home}")
    governed.gov("init", "--path", str(governed.home)).ok()
    assert set(before.splitlines()) - set(config.read_text().splitlines()) == set()
    governed.gov("verify").ok()


def test_a_python_that_is_gone_is_seen_before_the_start(governed: Governed, free_port: int) -> None:
    config = governed.home / "config.toml"
    text = config.read_text()
    config.write_text(text.replace('interpreter = "', 'interpreter = "/gone'))
    governed.gov("run", "--detach", "--", "--port", str(free_port)).failed(1, "/gone", "config.toml")
    assert any("/gone" in line for line in governed.json("status")["drift"])
    governed.gov("verify").failed(3, "/gone", str(config))
    config.write_text(text)
    assert governed.json("status")["drift"] == []


@pytest.mark.parametrize("place", ["state", "snapshots", "ComfyUI", "models", ".venvs/mine", "uv.lock"])
def test_the_link_to_the_environment_is_not_put_onto_something_else(bare: Governed, place: str) -> None:
    bare.init("--venv", place).failed(2, "where the home keeps something else")
    assert not bare.home.exists()


def test_a_link_of_somebody_else_is_not_taken(bare: Governed) -> None:
    (bare.root / "theirs").mkdir()
    link = bare.root / "env"
    link.symlink_to(bare.root / "theirs")
    bare.init("--venv", str(link)).failed(1, "is a link of somebody else's")


def test_candidates_stay_in_the_home(governed: Governed) -> None:
    for place in ("/abs", "../out", "state"):
        config = governed.home / "config.toml"
        text = config.read_text()
        config.write_text(f'{text}\n[runtime]\ncandidate_root = "{place}"\n')
        governed.gov("status").failed(2, "`candidate_root` must be a folder of its own below the home")
        config.write_text(text)


# -- what runs -------------------------------------------------------------------------------------


def test_a_pack_that_is_off_is_not_loaded_whatever_the_policy_says_of_unmanaged_ones(
    governed: Governed, free_port: int
) -> None:
    governed.promote_pack("pa")
    governed.gov("node", "add", str(governed.pack("pb"))).ok()
    governed.gov("node", "disable", "pa").ok()
    own = governed.home / "ComfyUI" / "custom_nodes" / "own"
    own.mkdir()
    (own / "__init__.py").write_text((governed.root / "packs" / "pa" / "__init__.py").read_text().replace("pa", "own"))
    with (governed.home / "config.toml").open("a") as config:
        config.write('\n[policy]\nunmanaged_nodes = "allow"\n')
    governed.gov("run", "--detach", "--", "--port", str(free_port)).ok()
    try:
        classes = _object_info(free_port)
    finally:
        governed.gov("stop").ok()
    assert "own" in classes
    assert not classes & {"pa", "pb"}


def _object_info(port: int) -> set[str]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/object_info") as answer:
        return set(json.loads(answer.read()))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Impostor(BaseHTTPRequestHandler):
    """Another program that answers 200 to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_an_answer_of_another_program_is_no_sign_of_life(governed: Governed, free_port: int) -> None:
    """It takes the port between the look at it and ComfyUI's own bind."""
    main = governed.home / "ComfyUI" / "main.py"
    main.write_text("import time\ntime.sleep(4)\nraise SystemExit(7)\n")
    child = governed.start("run", "--detach", "--", "--port", str(free_port))
    server = _when_started(governed.home, free_port)
    try:
        said = child.communicate(timeout=60)
    finally:
        server.shutdown()
        server.server_close()
    assert child.returncode == 1, said
    assert "exit code 7" in said[1]


def _when_started(home: Path, port: int) -> HTTPServer:
    import time

    deadline = time.monotonic() + 30
    while not (home / "state" / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server = HTTPServer(("127.0.0.1", port), Impostor)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def test_an_update_of_a_disabled_pack_says_that_it_enables_it(governed: Governed) -> None:
    governed.promote_pack("pa")
    governed.gov("node", "disable", "pa").ok()
    (governed.root / "packs" / "pa" / "new.txt").write_text("x")
    commit_all(governed.root / "packs" / "pa")
    assert "disabled now; promote enables it" in governed.gov("tx", "run", "pa").ok().stdout
    assert "disabled now; promote enables it" in governed.gov("tx", "promote", "2").ok().stdout


def test_a_pack_is_not_called_what_records_call_comfyui(governed: Governed) -> None:
    governed.gov("node", "add", str(governed.pack("pa")), "--id", "comfyui").failed(2, "give another with --id")
