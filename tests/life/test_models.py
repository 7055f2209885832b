"""`gov models` as its users run it, on servers that are really there."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfygov.ports.faults import MODEL_POINTS
from tests.kit.governed import Governed
from tests.kit.model_server import File, ModelServer, Seen, model_server
from tests.unit.test_model_files import tensor, write_safetensors

ROOT = Path(__file__).parent.parent.parent
MB = 1 << 20
DATA = random.Random(7).randbytes(40 * MB + 11)
SMALL = b"a small model"
TOKEN = "civ_topsecret_0987654321"


def sum_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as made:
        yield made


class Models:
    """A models folder with a spec, and no home."""

    def __init__(self, governed: Governed, name: str = "models") -> None:
        self.governed = governed
        self.folder = governed.root / name
        self.folder.mkdir()
        self.spec = governed.root / f"{name}.yml"

    def want(self, *entries: dict[str, Any]) -> None:
        self.spec.write_text(yaml.safe_dump({"models": list(entries)}))

    @property
    def where(self) -> tuple[str, ...]:
        return ("--models-dir", str(self.folder), "--spec", str(self.spec))

    def gov(self, command: str, *options: str) -> Any:
        return self.governed.gov("models", command, *self.where, *options)

    def statuses(self, *options: str) -> list[str]:
        ran = self.governed.gov("--json", "models", "verify", *self.where, *options)
        return [model["status"] for model in ran.data["models"]]

    def parts(self) -> list[str]:
        partial = self.governed.root / "cache" / "models" / "partial"
        return sorted(path.name for path in partial.iterdir()) if partial.is_dir() else []


@pytest.fixture
def models(bare: Governed) -> Models:
    return Models(bare)


def entry(url: str, data: bytes | None = DATA, target: str = "checkpoints/m.bin", **more: Any) -> dict[str, Any]:
    known = {"checksum": sum_of(data), "size": len(data)} if data is not None else {}
    return {"name": "m", "source": url, "target_path": target, **known, **more}


def test_the_life_of_a_model(models: Models, server: ModelServer) -> None:
    models.want(entry(server.serve("/m", DATA)), entry(server.serve("/s", SMALL), SMALL, "loras/s.pt"))
    first = models.gov("verify").ok()
    assert "2 fetched" in first.stdout
    placed = models.folder / "checkpoints" / "m.bin"
    assert placed.read_bytes() == DATA
    asked = len(server.seen)
    assert models.statuses() == ["present", "present"]
    assert "0 B read" in models.gov("verify").ok().stdout
    assert len(server.seen) == asked

    placed.unlink()
    placed.write_bytes(DATA[:-1] + b"x")
    wrong = models.gov("verify").failed(3, sum_of(DATA), sum_of(DATA[:-1] + b"x"), "--overwrite")
    assert "1 present, 1 wrong" in wrong.stdout
    assert placed.read_bytes().endswith(b"x")
    assert models.statuses("--overwrite") == ["mended", "present"]
    assert placed.read_bytes() == DATA
    assert len(server.seen) == asked
    assert models.parts() == []


def test_a_sum_that_nobody_said_is_reported_and_recorded(models: Models, server: ModelServer) -> None:
    broken = write_safetensors(models.folder / "vae" / "b.safetensors", {"a": tensor(0, 2, (1,))}, b"1")
    models.want(entry("http://127.0.0.1:1/b", None, "vae/b.safetensors"))
    models.gov("verify", "--record").failed(3, "wrong", "speaks of 2 bytes of tensors")
    broken.unlink()
    models.want(entry(server.serve("/s", SMALL), None, "loras/s.pt"))
    before = models.spec.read_text()
    models.gov("verify").failed(3, "unverifiable", sum_of(SMALL), "--record")
    assert models.spec.read_text() == before
    models.gov("verify", "--record").ok()
    assert models.statuses() == ["present"]
    assert sum_of(SMALL) in models.spec.read_text()


def test_two_homes_hold_one_copy(bare: Governed, server: ModelServer) -> None:
    url = server.serve("/m", DATA)
    folders = [Models(bare, name) for name in ("one", "two")]
    for models in folders:
        models.want(entry(url))
        models.gov("verify").ok()
    one, two = (models.folder / "checkpoints" / "m.bin" for models in folders)
    assert one.samefile(two)
    assert server.sent == len(DATA)


def test_offline_asks_nobody(models: Models, server: ModelServer, bare: Governed) -> None:
    (bare.root / "local.pt").write_bytes(SMALL)
    models.want(entry(server.serve("/m", DATA)), entry("local.pt", SMALL, "loras/s.pt"))
    assert models.statuses("--offline") == ["missing", "fetched"]
    assert server.seen == []
    models.gov("verify").ok()
    shutil.rmtree(models.folder)
    assert models.statuses("--offline") == ["fetched", "fetched"]


def test_a_server_that_is_not_there_is_a_network_error(models: Models) -> None:
    models.want(entry("http://127.0.0.1:1/m.bin"))
    ran = models.gov("verify").failed(5, "missing", "127.0.0.1:1")
    assert "run it again" in ran.stderr


def test_a_mirror_is_taken_and_the_bad_one_named(models: Models, server: ModelServer) -> None:
    bad, good = server.serve("/bad", SMALL[::-1]), server.serve("/good", SMALL)
    models.want({**entry("", SMALL), "source": None, "sources": [bad, good]})
    ran = models.gov("verify").ok()
    assert f"skipped {bad}: wrong bytes" in ran.stdout


def test_a_lock_is_verified_by_the_script_too(models: Models, server: ModelServer, bare: Governed) -> None:
    lock = bare.root / "comfy-v.lock.json"
    model = {"name": "m", "target_path": "vae/m.pt", "size": len(SMALL), "checksum": sum_of(SMALL)}
    lock.write_text(json.dumps({"schema_version": 1, "models": [{**model, "sources": [server.serve("/m", SMALL)]}]}))
    where = ("--lock", str(lock), "--models-dir", str(models.folder))
    bare.gov("models", "verify", *where, "--record").failed(2, "lock")
    bare.gov("models", "verify", *where, "--spec", "x").failed(2)
    script = [sys.executable, str(ROOT / "scripts" / "verify_models.py"), *where]
    done = subprocess.run(script, env=bare.environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (models.folder / "vae" / "m.pt").read_bytes() == SMALL


@pytest.mark.parametrize("point", sorted(MODEL_POINTS))
def test_a_kill_leaves_nothing_wrong_and_loses_little(
    models: Models, server: ModelServer, bare: Governed, point: str
) -> None:
    data = DATA * 3 if point == "fetch.saved" else DATA
    slow = {"drip_seconds": 0.004} if point == "fetch.saved" else {}
    url = server.serve("/m", data, **slow)
    models.want(entry(url, data))
    placed = models.folder / "checkpoints" / "m.bin"
    bare.env["COMFYGOV_FAULT"] = f"kill@{point}"
    assert models.gov("verify").exit_code == -signal.SIGKILL
    assert placed.exists() == (point == "model.placed")
    sent = server.sent
    del bare.env["COMFYGOV_FAULT"]
    server.files["/m"].drip_seconds = 0
    models.gov("verify").ok()
    assert placed.read_bytes() == data
    bare.gov("models", "gc").ok()
    assert models.parts() == []
    if point not in ("fetch.begun", "fetch.saved", "fetch.whole"):
        assert server.sent == sent + (len(data) if point == "blob.checked" else 0)
    if point == "fetch.saved":
        assert server.sent < len(data) * 1.5 + sent / 2
    assert list(placed.parent.iterdir()) == [placed]


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_time(models: Models, server: ModelServer, seed: int) -> None:
    chance = random.Random(seed)
    models.want(
        *(entry(server.serve(f"/{n}", DATA[n:], drip_seconds=0.001), DATA[n:], f"vae/{n}.bin") for n in range(3))
    )
    for _ in range(4):
        child = models.governed.start("models", "verify", *models.where)
        time.sleep(chance.uniform(0.1, 1.0))
        child.kill()
        child.communicate()
        for number in range(3):
            placed = models.folder / "vae" / f"{number}.bin"
            assert not placed.exists() or placed.read_bytes() == DATA[number:]
    models.gov("verify").ok()
    assert models.statuses() == ["present"] * 3


def test_an_interrupt_keeps_what_has_arrived(models: Models, server: ModelServer) -> None:
    models.want(entry(server.serve("/m", DATA, drip_seconds=0.01)))
    child = models.governed.start("models", "verify", *models.where)
    while server.sent < 10 * MB:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130, stderr
    server.files["/m"].drip_seconds = 0
    sent = server.sent
    models.gov("verify").ok()
    assert server.sent - sent < len(DATA) - 8 * MB


def test_two_processes_share_one_download(bare: Governed, server: ModelServer) -> None:
    url = server.serve("/m", DATA, drip_seconds=0.001)
    folders = [Models(bare, name) for name in ("one", "two", "three")]
    for models in folders:
        models.want(entry(url))
    children = [models.governed.start("models", "verify", *models.where) for models in folders]
    said = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], said
    assert server.sent == len(DATA)
    assert "being fetched already" in "".join(stderr for _, stderr in said)


def test_a_full_disk_is_said_and_nothing_is_lost(models: Models, server: ModelServer) -> None:
    models.want(entry(server.serve("/m", DATA), None, size=10**16), entry(server.serve("/s", SMALL), SMALL, "vae/s.pt"))
    models.gov("verify").failed(1, "bytes free")
    assert server.seen == []


def test_a_folder_that_cannot_be_written_is_one_models_problem(models: Models, server: ModelServer) -> None:
    (models.folder / "checkpoints").write_text("a file where a folder should be")
    models.want(entry(server.serve("/m", SMALL), SMALL), entry(server.serve("/s", SMALL), SMALL, "vae/s.pt"))
    assert models.statuses() == ["wrong", "fetched"]


def test_a_folder_in_a_models_place_and_a_size_that_is_not_true(models: Models, server: ModelServer) -> None:
    (models.folder / "vae" / "s.pt").mkdir(parents=True)
    url = server.serve("/s", SMALL)
    models.want(entry(url, SMALL, "vae/s.pt"), entry(url, SMALL, "vae/t.pt", size=3), entry(url, SMALL, "vae/u.pt"))
    ran = models.gov("verify", "--overwrite").failed(3, "a folder is in its place", f"it has {len(SMALL)} bytes, not 3")
    assert "--overwrite" not in ran.stderr
    assert not (models.folder / "vae" / "t.pt").exists()
    (models.folder / "vae" / "t.pt").write_bytes(SMALL)
    models.gov("verify", "--overwrite").failed(3, "the right checksum: correct the spec")


@pytest.mark.parametrize("target", ["../out.pt", "/tmp/out.pt", "$COMFY_HOME/../x.pt"])
def test_nothing_leaves_the_models_folder(models: Models, server: ModelServer, target: str) -> None:
    models.want(entry(server.serve("/m", SMALL), SMALL, target))
    models.gov("verify").failed(2, "not inside")
    assert server.seen == []


def test_names_of_every_kind(models: Models, server: ModelServer) -> None:
    names = ["ünï 模型 🙂.safetensors", "x" * 243 + ".safetensors", "-rf.pt", "a b'\"$(c).pt", "..pt"]
    models.want(*(entry(server.serve(f"/{n}", SMALL), SMALL, f"loras/{name}") for n, name in enumerate(names)))
    models.gov("verify").ok()
    assert sorted(path.name for path in (models.folder / "loras").iterdir()) == sorted(names)


def test_add_fetches_places_and_writes_down(models: Models, server: ModelServer, bare: Governed) -> None:
    url = server.serve("/files/net.pt", SMALL)
    bare.gov("models", "add", url, "--to", "loras", *models.where).ok()
    assert models.statuses() == ["present"]
    (written,) = yaml.safe_load(models.spec.read_text())["models"]
    expected = {"name": "net.pt", "source": url, "target_path": "loras/net.pt", "checksum": sum_of(SMALL)}
    assert written == {**expected, "size": len(SMALL)}
    bare.gov("models", "add", url, "--to", "loras", *models.where).failed(1, "already")
    bare.gov("models", "add", url, "--to", "Loras/Net.pt", *models.where).failed(1, "loras/net.pt already")
    bare.gov("models", "add", url, "--to", "vae", "--checksum", "sha256:" + "0" * 64, *models.where).failed(
        2, "wrong bytes"
    )
    bare.gov("models", "add", url, "--to", "../x", *models.where).failed(2, "not inside")
    bare.gov("models", "add", f"{url}?token=abc", "--to", "vae", *models.where).failed(2, "secret")
    bare.gov("models", "add", server.base + "/none.pt", "--to", "vae", *models.where).failed(2, "404")
    bare.gov("models", "add", server.serve("/x.zip", SMALL), "--to", "vae", *models.where).failed(2, "--name")
    assert len(yaml.safe_load(models.spec.read_text())["models"]) == 1


def test_a_kill_while_a_model_is_added_keeps_its_source(models: Models, server: ModelServer, bare: Governed) -> None:
    url = server.serve("/net.pt", SMALL)
    bare.env["COMFYGOV_FAULT"] = "kill@model.staged"
    assert bare.gov("models", "add", url, "--to", "loras", *models.where).exit_code == -signal.SIGKILL
    del bare.env["COMFYGOV_FAULT"]
    assert not (models.folder / "loras" / "net.pt").exists()
    assert yaml.safe_load(models.spec.read_text())["models"][0]["source"] == url
    asked = len(server.seen)
    bare.gov("models", "add", url, "--to", "loras", *models.where).failed(1, "gov models verify")
    assert models.statuses() == ["fetched"]
    assert len(server.seen) == asked


def test_two_who_add_one_model_write_it_once(models: Models, server: ModelServer) -> None:
    url = server.serve("/net.pt", DATA, drip_seconds=0.001)
    children = [models.governed.start("models", "add", url, "--to", "loras", *models.where) for _ in range(2)]
    said = [child.communicate(timeout=60)[1] for child in children]
    assert sorted(child.returncode for child in children) == [0, 1], said
    assert "already" in "".join(said)
    assert models.statuses() == ["present"]


def test_civitai_says_what_the_file_is_called_and_its_token_stays_secret(
    models: Models, server: ModelServer, bare: Governed
) -> None:
    with model_server() as storage:
        named = {"Content-Disposition": 'attachment; filename="my lora.safetensors"'}
        file = write_safetensors(bare.root / "f", {"a": tensor(0, 2, (1,))}, b"12").read_bytes()
        storage.serve("/r2", file, headers=named)
        path = "/api/download/models/42"
        server.serve(path, redirect=f"{storage.base}/r2?sig=s", wants={"authorization": f"Bearer {TOKEN}"})
        bare.env.update(CIVITAI_ENDPOINT=server.base, CIVITAI_TOKEN=TOKEN)
        ran = bare.gov("--verbose", "models", "add", "civitai://42", "--to", "loras", *models.where).ok()
        assert (models.folder / "loras" / "my lora.safetensors").read_bytes() == file
        assert TOKEN not in repr(storage.seen)
    bare.env["CIVITAI_TOKEN"] = TOKEN[::-1]
    failed = bare.gov("--verbose", "models", "add", "civitai://42", "--to", "vae", "--name", "x.pt", *models.where)
    failed.failed(2, "set CIVITAI_TOKEN")
    bare.gov("models", "add", "civitai://42", "--to", "vae", *models.where).failed(2, "set CIVITAI_TOKEN")
    texts = [ran.stdout, ran.stderr, failed.stdout, failed.stderr]
    for folder in (models.folder.parent / "cache", models.folder):
        texts += [path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()]
    assert not any(TOKEN in text or TOKEN[::-1] in text for text in (*texts, models.spec.read_text()))


def test_scan_takes_what_is_there(models: Models, bare: Governed) -> None:
    lora = {"__metadata__": {"ss_network_module": "lora"}, "x": tensor(0, 2, (1,))}
    write_safetensors(models.folder / "loras" / "l.safetensors", lora, b"12")
    write_safetensors(models.folder / "loras" / "cut.safetensors", lora, b"1")
    (models.folder / "checkpoints").mkdir()
    (models.folder / "loras" / "L.safetensors").write_bytes((models.folder / "loras" / "l.safetensors").read_bytes())
    for name in ("a.ckpt", "b.pt", "c.pt2", "d.bin", "e.pth", "f.PKL", "g.txt"):
        (models.folder / "checkpoints" / name).write_bytes(name.encode())
    models.gov("scan", "--dry-run").failed(3, "cut.safetensors")
    assert not models.spec.exists()
    models.gov("scan").failed(3, "cut.safetensors", "speaks of 2 bytes", "one file with loras/L.safetensors")
    written = yaml.safe_load(models.spec.read_text())["models"]
    assert [one["name"] for one in written] == ["a.ckpt", "b.pt", "c.pt2", "d.bin", "e.pth", "f.PKL", "L.safetensors"]
    assert (written[-1]["kind"], written[-1]["metadata"]) == ("lora", {"ss_network_module": "lora"})
    assert set(models.statuses()) == {"present"}
    (models.folder / "checkpoints" / "a.ckpt").write_bytes(b"another")
    before = models.spec.read_text()
    models.gov("scan").failed(3, "a.ckpt", "the spec says")
    assert models.spec.read_text() == before


def test_gc_takes_what_no_folder_has(models: Models, server: ModelServer, bare: Governed) -> None:
    models.want(entry(server.serve("/m", DATA)), entry(server.serve("/s", SMALL), SMALL, "vae/s.pt"))
    models.gov("verify").ok()
    assert bare.json("models", "gc")["removed"] == []
    (models.folder / "checkpoints" / "m.bin").unlink()
    partial = bare.root / "cache" / "models" / "partial"
    for name, age in {"old.part": 1, "old.json": 1, "new.part": 2e9, "new.json": 2e9, "lost.part": 2e9}.items():
        (partial / name).write_bytes(b"x" * 5000)
        os.utime(partial / name, (age, age))
    (partial / "done.json").touch()
    (partial.parent / ".hashes.json.999999999.comfygov-tmp").touch()
    would = bare.json("models", "gc", "--dry-run")
    kinds = {Path(one["path"]).name[:4]: one["kind"] for one in would["removed"][1:]}
    assert kinds == {".has": "leftover", "done": "leftover", "lost": "download", "old.": "download"}
    assert would["removed"][0]["kind"] == "blob"
    done = bare.json("models", "gc")
    assert done["freed_bytes"] == would["freed_bytes"] >= len(DATA)
    assert models.statuses("--offline") == ["missing", "present"]
    assert models.parts() == ["new.json", "new.part"]


def test_needed_and_list(models: Models, server: ModelServer, bare: Governed) -> None:
    models.want(entry(server.serve("/s", SMALL), SMALL, "vae/v.pt"), entry("http://127.0.0.1:1/x", DATA, "loras/l.pt"))
    models.gov("verify")
    workflow = {
        str(number): {"class_type": kind, "inputs": {"x": name}}
        for number, (kind, name) in enumerate([("VAELoader", "v.pt"), ("LoraLoader", "l.pt"), ("Other", "o.pt")])
    }
    path = bare.root / "w.json"
    path.write_text(json.dumps(workflow))
    found = bare.json("models", "needed", str(path), *models.where)["models"]
    assert [(one["name"], one["status"]) for one in found] == [
        ("v.pt", "present"),
        ("l.pt", "locked"),
        ("o.pt", "unknown"),
    ]
    listed = bare.json("models", "list", *models.where)["models"]
    assert [one["status"] for one in listed] == ["present", "missing"]
    bare.gov("models", "needed", str(bare.root / "none.json"), *models.where).failed(2, "none.json")
    path.write_text('{"nodes": ' + "[" * 100_000)
    bare.gov("models", "needed", str(path), *models.where).failed(2, "not JSON")


def test_a_home_has_a_models_folder_a_spec_and_other_folders(governed: Governed, server: ModelServer) -> None:
    home = governed.home
    elsewhere = governed.root / "disk" / "ckpts"
    elsewhere.mkdir(parents=True)
    (elsewhere / "m.bin").write_bytes(SMALL)
    extra = f"disk:\n  base_path: {governed.root}/disk\n  checkpoints: ckpts\n"
    (home / "ComfyUI" / "extra_model_paths.yaml").write_text(extra)
    governed.gov("models", "verify").failed(2, "spec.yml")
    text = {"models": [entry("http://127.0.0.1:1/m", SMALL, "$COMFY_HOME/models/checkpoints/m.bin")]}
    (home / "models" / "spec.yml").write_text(yaml.safe_dump(text))
    (found,) = governed.json("models", "verify")["models"]
    assert (found["status"], found["path"]) == ("present", str(elsewhere / "m.bin"))
    (elsewhere / "m.bin").write_bytes(SMALL[::-1])
    assert governed.gov("models", "verify").exit_code == 5
    config = (home / "config.toml").read_text()
    (home / "config.toml").write_text(config + '\n[policy]\nmodel_formats = "strict"\n')
    url = server.serve("/p.ckpt", SMALL)
    governed.gov("models", "add", url, "--to", "checkpoints").failed(2, "strict")
    assert "refused" in governed.gov("models", "verify").failed(3).stdout
    assert server.seen == []


@pytest.mark.slow
def test_ten_thousand_small_files(models: Models, bare: Governed) -> None:
    source = bare.root / "source"
    source.mkdir()
    wanted = []
    for number in range(10_000):
        (source / f"{number}.pt").write_bytes(str(number).encode())
        wanted.append(entry(f"source/{number}.pt", str(number).encode(), f"loras/{number}.pt"))
    models.spec.write_text(json.dumps({"models": wanted}))
    models.gov("verify", "--jobs", "8").ok()
    ran = models.gov("verify").ok()
    assert "10000 models" in ran.stdout
    assert models.parts() == []


def test_a_file_that_changes_while_it_comes(models: Models, server: ModelServer) -> None:
    def change(file: File, seen: Seen) -> None:
        del seen
        if len(server.seen) == 2:
            file.data, file.etag = DATA[::-1], '"v2"'

    models.want(entry(server.serve("/m", DATA, on_request=change), DATA[::-1]))
    models.gov("verify").ok()
