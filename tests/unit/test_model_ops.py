"""What the commands about models do when somebody else is at work too."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from comfygov.cli.render import output
from comfygov.model.models import ModelEntry, ModelState
from comfygov.models.crew import Stop
from comfygov.models.folders import Folders
from comfygov.models.hashing import Memory
from comfygov.models.verify import Look
from comfygov.ops import gc_cache, models_verify
from comfygov.ops.models_place import Asked, open_place
from comfygov.ports import identity
from comfygov.ports.progress import Silent

SUM = "ab" * 32


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYGOV_CACHE", str(tmp_path / "cache"))


def test_a_sum_is_recorded_for_the_file_that_it_is_of(tmp_path: Path) -> None:
    path = tmp_path / "spec.yml"
    path.write_text(
        "models:\n  - target_path: vae/new.pt\n"
        f"  - {{target_path: vae/pinned.pt, checksum: '{'cd' * 32}'}}\n  - target_path: vae/a.pt\n"
    )
    place = open_place(Asked(models_dir=str(tmp_path), spec=str(path)), "gov test", Silent())
    judged = [
        ModelState("", f"vae/{name}.pt", "", "unverifiable", 1, f"sha256:{SUM}") for name in ("a", "gone", "pinned")
    ]
    done = models_verify._recorded(place, judged)
    assert [one.status for one in done] == ["recorded", "unverifiable", "unverifiable"]
    assert {one.target_path: one.checksum for one in place.entries()} == {
        "vae/new.pt": None,
        "vae/pinned.pt": "cd" * 32,
        "vae/a.pt": SUM,
    }


def test_a_spec_that_is_a_link_stays_one(tmp_path: Path) -> None:
    kept = tmp_path / "kept.yml"
    kept.write_text("models:\n  - target_path: vae/a.pt\n")
    (tmp_path / "spec.yml").symlink_to("kept.yml")
    place = open_place(Asked(models_dir=str(tmp_path)), "gov test", Silent())
    models_verify._recorded(place, [ModelState("", "vae/a.pt", "", "unverifiable", 1, f"sha256:{SUM}")])
    assert (tmp_path / "spec.yml").is_symlink()
    assert SUM in kept.read_text()


@pytest.mark.parametrize("other", [b"longer", b"same!"])
def test_a_file_that_is_still_written_gets_no_sum(tmp_path: Path, other: bytes) -> None:
    target = tmp_path / "vae" / "a.pt"
    target.parent.mkdir()
    target.write_bytes(b"first")
    os.utime(target, (1, 1))

    class Writing(Stop):
        def check(self) -> None:
            target.write_bytes(other)

    look = Look(Folders(tmp_path), Memory(tmp_path / "hashes.json"), Writing(), Silent(), 1)
    (found,) = look.look([ModelEntry("", "vae/a.pt")])
    assert found.checksum is None
    assert "changed while" in found.problem


def test_models_that_no_folder_has_are_said_by_gc_and_kept(tmp_path: Path) -> None:
    assert gc_cache.idle_models() == []
    blob = tmp_path / "cache" / "models" / "blobs" / "ab" / SUM
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 10_000)
    (line,) = gc_cache.idle_models()
    assert "gov models gc" in line
    assert blob.exists()


def test_what_a_killed_command_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    from comfygov.ports import fs

    dead = next(pid for pid in range(400_000, 10_000_000) if identity.started_at(pid) is None)
    names = [f".a.{dead}.comfygov-tmp", f".a.{os.getpid()}.comfygov-tmp", ".a.comfygov-tmp", "a.pt"]
    for name in names:
        (tmp_path / name).write_text(str(time.time()))
    fs.remove_leftovers(tmp_path)
    fs.remove_leftovers(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_what_is_said_takes_the_place_of_the_progress_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = output.TerminalProgress(live=True)
    progress.update("1 of 2")
    progress.update("2 of 2")
    output.emit_lines(["done"])
    output.say("error: x")
    said = capsys.readouterr()
    assert said.out == "done\n"
    assert said.err == "\r  1 of 2\x1b[K\r  2 of 2\x1b[K\r\x1b[Kerror: x\n"


def test_of_several_folders_the_one_with_the_right_file_counts(tmp_path: Path) -> None:
    content = (b"other", b"right", b"later")
    for number, data in enumerate(content):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.pt").write_bytes(data)
    extra = tuple(tmp_path / str(number) for number in range(3))
    entry = ModelEntry("a", "vae/a.pt", (), hashlib.sha256(b"right").hexdigest(), 5)
    memory = Memory(tmp_path / "sums.json")
    look = Look(Folders(tmp_path / "models", (), {"vae": extra}), memory, Stop(), Silent(), 1)
    (found,) = look.look([entry])
    assert (found.path, found.is_right) == (tmp_path / "1" / "a.pt", True)
    assert look.hashed_bytes == 10
    (tmp_path / "1" / "a.pt").unlink()
    (found,) = look.look([entry])
    assert (found.path, found.facts) == (tmp_path / "models" / "vae" / "a.pt", None)
