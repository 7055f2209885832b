"""Downloads from servers that misbehave: what arrives is right, or nothing does."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfygov.errors import Code, GovError
from comfygov.model.models import ModelEntry
from comfygov.models.access import Access
from comfygov.models.crew import Stop
from comfygov.models.fetch import Fetched, Fetcher, NotFetched
from comfygov.models.hashing import Memory
from comfygov.models.meter import Meter
from comfygov.models.part import Part
from comfygov.models.store import BlobStore, clone_or_copy
from comfygov.models.transfer import Policy
from comfygov.ops.models_gc import ModelsGcResult, collect
from comfygov.ports import fs
from comfygov.ports.http import Http, HttpFailure, Limits, Request
from comfygov.ports.progress import Silent
from tests.kit.model_server import File, ModelServer, Seen, model_server

MB = 1 << 20
POLICY = Policy(piece_bytes=MB, connections=3, attempts=4, backoff_seconds=0.01, most_bytes=64 * MB, reserve_bytes=0)
LIMITS = Limits(connect_seconds=2.0, silence_seconds=2.0, window_seconds=0.5, least_bytes_per_second=50_000)


def random_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


DATA = random_bytes(5 * MB + 12_345)
OTHER = random_bytes(5 * MB + 12_345, seed=2)


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_TOKEN", "CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "HF_ENDPOINT")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "user"))


class Fetching:
    """A store of the test's own, and fetches into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = Http(LIMITS)
        self.stop = Stop(self.client.abort)
        self.policy = POLICY
        self.meter = Meter(Silent(), "fetching", 1, 0)

    @property
    def store(self) -> BlobStore:
        return BlobStore(self.root / "store", Memory(self.root / "hashes.json"))

    def fetcher(self) -> Fetcher:
        access = Access(self.client)
        return Fetcher(self.store, access, self.policy, self.meter, self.stop, Silent(), "gov test", self.root)

    def __call__(self, *urls: str, **known: Any) -> Fetched:
        target = known.pop("target", "checkpoints/m.bin")
        return self.fetcher().fetch(ModelEntry("m", target, urls, **known), self.root / "models" / target)

    def refused(self, *urls: str, **known: Any) -> str:
        """It fails, leaves no model and no blob; what it says."""
        with pytest.raises(NotFetched) as caught:
            self(*urls, **known)
        assert not (self.root / "models").exists()
        assert list(self.store.all_blobs()) == []
        return str(caught.value)

    def has(self, data: bytes, target: str = "checkpoints/m.bin") -> None:
        placed, blob = self.root / "models" / target, self.store.path(sum_of(data))
        assert placed.read_bytes() == data
        assert blob.samefile(placed)
        assert [path.name for path in self.store.partial.iterdir()] == []


@pytest.fixture
def fetch(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path)


@pytest.mark.parametrize("size", [0, 1, MB - 1, MB, MB + 1, 9 * MB + 7])
@pytest.mark.parametrize("options", [{}, {"ranges": False}, {"chunked": True, "ranges": False}], ids=str)
@pytest.mark.parametrize("known", [False, True])
def test_every_size_arrives_from_every_kind_of_server(
    fetch: Fetching, server: ModelServer, size: int, options: dict[str, Any], known: bool
) -> None:
    data = random_bytes(size)
    got = fetch(server.serve("/m", data, **options), checksum=sum_of(data) if known else None)
    assert (got.checksum, got.size) == (sum_of(data), size)
    fetch.has(data)
    assert fetch.meter._bytes == size


def test_a_large_file_comes_over_several_connections(fetch: Fetching, server: ModelServer) -> None:
    fetch(server.serve("/m", DATA))
    fetch.has(DATA)
    asked = {one.headers["range"] for one in server.requests("/m")}
    assert len(asked) == len(server.requests("/m")) == 6
    assert server.sent == len(DATA)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_is_gone_on_with(fetch: Fetching, server: ModelServer, ranges: bool) -> None:
    fetch(server.serve("/m", DATA, drop_after=700_000, drops=3, ranges=ranges), checksum=sum_of(DATA))
    fetch.has(DATA)
    assert server.sent < len(DATA) * 3


def test_a_server_that_always_breaks_is_given_up(fetch: Fetching, server: ModelServer) -> None:
    said = fetch.refused(server.serve("/m", DATA, drop_after=0), checksum=sum_of(DATA))
    assert "broke" in said or "ended" in said
    assert len(server.seen) < 40


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_busy_server_is_asked_again(fetch: Fetching, server: ModelServer, status: int) -> None:
    fetch(server.serve("/m", DATA, refuse=[status, status]))
    fetch.has(DATA)


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 410])
def test_a_refusal_is_not_repeated(fetch: Fetching, server: ModelServer, status: int) -> None:
    said = fetch.refused(server.serve("/m", DATA, refuse=[status] * 50))
    assert f"status {status}" in said
    assert len(server.seen) == 1


def test_wrong_bytes_are_named_and_the_next_mirror_is_taken(fetch: Fetching, server: ModelServer) -> None:
    bad, good = server.serve("/bad", OTHER), server.serve("/good", DATA)
    got = fetch(bad, good, checksum=sum_of(DATA))
    fetch.has(DATA)
    assert got.source == good
    (line,) = got.skipped
    assert line.startswith(bad)
    assert sum_of(OTHER) in line
    assert sum_of(DATA) in line


def test_wrong_bytes_everywhere_leave_nothing(fetch: Fetching, server: ModelServer) -> None:
    fetch.refused(server.serve("/a", OTHER), server.serve("/b", OTHER[:-1]), checksum=sum_of(DATA))
    assert list(fetch.store.partial.iterdir()) == []


def test_a_wrong_size_is_refused_before_a_byte_is_read(fetch: Fetching, server: ModelServer) -> None:
    said = fetch.refused(server.serve("/m", DATA, ranges=False), size=17)
    assert f"it has {len(DATA)} bytes, not 17" in said


def test_a_length_that_is_a_lie(fetch: Fetching, server: ModelServer) -> None:
    more = server.serve("/more", DATA, ranges=False, said_length=len(DATA) + 10)
    fewer = server.serve("/fewer", DATA, ranges=False, said_length=len(DATA) - 10)
    said = fetch.refused(more, fewer, checksum=sum_of(DATA))
    assert "breaks off" in said
    assert "wrong bytes" in said


def test_a_range_that_is_another_one(fetch: Fetching, server: ModelServer) -> None:
    assert "another range" in fetch.refused(server.serve("/m", DATA, shift=5), checksum=sum_of(DATA))


@pytest.mark.parametrize("size", [None, 3 * MB])
def test_a_server_that_never_ends_is_left(fetch: Fetching, server: ModelServer, size: int | None) -> None:
    fetch.policy = replace(POLICY, most_bytes=8 * MB)
    said = fetch.refused(server.serve("/m", DATA[:MB], endless=True, ranges=False), size=size)
    assert f"sends more than {size or 8 * MB} bytes" in said


def test_a_server_that_drips_is_left(fetch: Fetching, server: ModelServer) -> None:
    fetch.policy = replace(POLICY, attempts=1)
    said = fetch.refused(server.serve("/m", DATA, drip_seconds=0.05, block=10))
    assert "bytes in" in said


def test_a_server_that_says_nothing_is_left(fetch: Fetching, server: ModelServer) -> None:
    fetch.client = Http(replace(LIMITS, silence_seconds=0.3))
    fetch.policy = replace(POLICY, attempts=1)
    url = server.serve("/m", DATA, on_request=lambda _file, _seen: threading.Event().wait(3))
    assert "does not answer" in fetch.refused(url)


def test_a_body_without_an_end_mark_needs_something_to_hold_it_against(fetch: Fetching, server: ModelServer) -> None:
    url = server.serve("/m", DATA, unframed=True, ranges=False)
    assert "how long" in fetch.refused(url)
    assert fetch(url, checksum=sum_of(DATA)).size == len(DATA)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><p>log in", "text/html; charset=utf-8"),
        (b"\n <html><p>log in", "application/octet-stream"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "text/plain"),
    ],
)
def test_a_page_is_no_model(fetch: Fetching, server: ModelServer, body: bytes, kind: str) -> None:
    assert "instead of the file" in fetch.refused(server.serve("/m", body, content_type=kind))


def test_bytes_that_were_encoded_are_no_model(fetch: Fetching, server: ModelServer) -> None:
    url = server.serve("/m", DATA, headers={"Content-Encoding": "gzip"})
    assert "encoded as gzip" in fetch.refused(url)


@pytest.mark.parametrize("etag", ['"v%d"', 'W/"v%d"', None])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changes_between_ranges_starts_over(
    fetch: Fetching, server: ModelServer, etag: str | None, known: bool
) -> None:
    def change(file: File, seen: Seen) -> None:
        del seen
        if len(server.seen) == 4:
            file.data = OTHER
            file.etag = etag % 2 if etag else None
            file.last_modified = None if etag else "Tue, 24 Nov 2026 10:00:00 GMT"

    options = {"etag": etag % 1} if etag else {"etag": None, "last_modified": "Mon, 23 Nov 2026 10:00:00 GMT"}
    url = server.serve("/m", DATA, on_request=change, **options)
    fetch(url, checksum=sum_of(OTHER) if known else None)
    fetch.has(OTHER)


def test_a_file_that_always_changes_is_given_up(fetch: Fetching, server: ModelServer) -> None:
    def change(file: File, seen: Seen) -> None:
        del seen
        file.etag = f'"{len(server.seen)}"'

    assert "changes" in fetch.refused(server.serve("/m", DATA, on_request=change))


def test_without_a_validator_pieces_are_not_put_together_unseen(fetch: Fetching, server: ModelServer) -> None:
    fetch(server.serve("/m", DATA, etag=None))
    assert [one.headers.get("range") for one in server.requests("/m")] == [f"bytes=0-{MB - 1}", None]
    fetch.has(DATA)


def interrupted(fetch: Fetching, server: ModelServer, **known: Any) -> int:
    """A download that is stopped when half of it is there; how much the server had sent."""

    def stop(file: File, seen: Seen) -> None:
        del seen
        file.block = 16_384
        file.drip_seconds = 0.002
        if len(server.seen) == 4:
            fetch.stop.now()

    server.files["/m"].on_request = stop
    with pytest.raises(GovError) as caught:
        fetch(server.base + "/m", **known)
    assert caught.value.code is Code.INTERRUPTED
    file = server.files["/m"]
    file.on_request, file.drip_seconds, file.block = None, 0.0, 65_536
    return server.sent


@pytest.mark.parametrize("known", [True, False])
def test_an_interrupted_download_is_gone_on_with(tmp_path: Path, server: ModelServer, known: bool) -> None:
    url = server.serve("/m", DATA)
    checksum = sum_of(DATA) if known else None
    sent = interrupted(Fetching(tmp_path), server, checksum=checksum)
    assert 0 < sent < len(DATA)
    again = Fetching(tmp_path)
    again(url, checksum=checksum)
    again.has(DATA)
    assert server.sent < len(DATA) + MB
    assert again.meter._bytes == len(DATA)


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path, server: ModelServer) -> None:
    url = server.serve("/m", DATA)
    interrupted(Fetching(tmp_path), server)
    server.files["/m"].data, server.files["/m"].etag = OTHER, '"v2"'
    again = Fetching(tmp_path)
    assert again(url).checksum == sum_of(OTHER)
    again.has(OTHER)


def test_a_part_that_rotted_is_not_held_against_the_source(tmp_path: Path, server: ModelServer) -> None:
    url = server.serve("/m", DATA)
    interrupted(Fetching(tmp_path), server, checksum=sum_of(DATA))
    again = Fetching(tmp_path)
    (part,) = again.store.partial.glob("*.part")
    with part.open("r+b") as file:
        file.write(b"rotten")
    assert again(url, checksum=sum_of(DATA)).skipped == ()
    again.has(DATA)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b'{"source":1}'])
def test_a_damaged_record_costs_time_only(tmp_path: Path, server: ModelServer, damage: bytes) -> None:
    url = server.serve("/m", DATA)
    interrupted(Fetching(tmp_path), server)
    again = Fetching(tmp_path)
    (record,) = again.store.partial.glob("*.json")
    record.write_bytes(damage)
    again(url)
    again.has(DATA)


def test_two_at_once_share_one_download(tmp_path: Path, server: ModelServer) -> None:
    url = server.serve("/m", DATA, drip_seconds=0.001)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            Fetching(tmp_path)(url, checksum=sum_of(DATA), target=f"checkpoints/{number}.bin")
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert server.sent == len(DATA)
    for number in range(4):
        Fetching(tmp_path).has(DATA, f"checkpoints/{number}.bin")


def test_a_redirect_is_asked_once_and_its_end_for_every_piece(fetch: Fetching, server: ModelServer) -> None:
    server.serve("/cdn", DATA)
    fetch(server.serve("/m", redirect="/cdn?signature=secret"))
    fetch.has(DATA)
    assert len(server.requests("/m")) == 1


def test_an_address_that_runs_out_is_asked_for_anew(fetch: Fetching, server: ModelServer) -> None:
    def expire(file: File, seen: Seen) -> None:
        del seen
        if len(server.requests("/cdn")) == 3:
            file.refuse = [403]

    fetch.policy = replace(POLICY, connections=1)
    server.serve("/cdn", DATA, on_request=expire)
    fetch(server.serve("/m", redirect="/cdn"))
    fetch.has(DATA)
    assert len(server.requests("/m")) == 2


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/m", "http://[::1", "//h:x"])
def test_redirects_that_lead_nowhere_good(fetch: Fetching, server: ModelServer, location: str) -> None:
    assert "redirects" in fetch.refused(server.serve("/m", redirect=location))


def test_a_full_disk_is_said_before_the_download(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fs, "free_bytes", lambda _path: 1000)
    with pytest.raises(GovError) as caught:
        fetch(server.serve("/m", DATA))
    assert caught.value.code is Code.DISK_FULL
    assert len(server.seen) == 1


def test_a_mirror_that_claims_more_than_the_disk_has_is_not_the_last_word(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fs, "free_bytes", lambda _path: 32 * MB)
    liar = server.serve("/liar", DATA, ranges=False, said_length=50 * MB)
    got = fetch(liar, server.serve("/m", DATA))
    assert "bytes free" in got.skipped[0]
    fetch.has(DATA)
    with pytest.raises(GovError) as caught:
        fetch(liar, server.base + "/none", target="vae/other.bin")
    assert caught.value.code is Code.DISK_FULL
    assert "404" in str(caught.value.details)


def test_a_disk_that_fills_up_is_given_back(
    fetch: Fetching, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Part, "write", fill)
    with pytest.raises(GovError) as caught:
        fetch(server.serve("/m", DATA, ranges=False, chunked=True))
    assert caught.value.code is Code.DISK_FULL
    assert list(fetch.store.partial.iterdir()) == []


@pytest.mark.parametrize("mine", [b"my own file", DATA])
def test_a_file_that_appears_meanwhile_is_not_replaced(fetch: Fetching, server: ModelServer, mine: bytes) -> None:
    placed = fetch.root / "models" / "checkpoints" / "m.bin"

    def appear(_file: File, _seen: Seen) -> None:
        placed.parent.mkdir(parents=True, exist_ok=True)
        placed.write_bytes(mine)

    url = server.serve("/m", DATA, on_request=appear)
    with nullcontext() if mine == DATA else pytest.raises(GovError, match="another file"):
        fetch(url)
    assert [path.read_bytes() for path in placed.parent.iterdir()] == [mine]


def test_what_is_in_the_store_needs_no_source(fetch: Fetching, server: ModelServer) -> None:
    url = server.serve("/m", DATA)
    fetch(url, checksum=sum_of(DATA))
    del server.files["/m"]
    got = fetch(url, checksum=sum_of(DATA), target="loras/again.bin")
    assert (got.source, got.received) == (None, 0)
    fetch.has(DATA, "loras/again.bin")


@pytest.mark.parametrize("known", [True, False])
def test_a_blob_that_is_on_its_way_is_no_garbage(fetch: Fetching, server: ModelServer, known: bool) -> None:
    collected: list[ModelsGcResult] = []
    checksum = sum_of(DATA) if known else None
    entry = ModelEntry("m", "vae/m.bin", (server.serve("/m", DATA),), checksum)
    for name in ("m.bin", "again.bin"):
        fetch.fetcher().fetch(
            entry,
            fetch.root / "models" / "vae" / name,
            stored=lambda _: collected.append(collect(fetch.store, "gov test", dry_run=False)),
        )
        (fetch.root / "models" / "vae" / name).unlink()
    assert [one.removed for one in collected] == [(), ()]
    assert len(collect(fetch.store, "gov test", dry_run=False).removed) == 1


def test_a_blob_that_was_written_to_is_not_given_out(fetch: Fetching, server: ModelServer) -> None:
    url = server.serve("/m", DATA)
    fetch(url, checksum=sum_of(DATA))
    placed = fetch.root / "models" / "checkpoints" / "m.bin"
    placed.chmod(0o644)
    with placed.open("r+b") as file:
        file.write(b"edited")
    fetch(url, checksum=sum_of(DATA), target="loras/again.bin")
    assert (fetch.root / "models" / "loras" / "again.bin").read_bytes() == DATA
    assert placed.read_bytes().startswith(b"edited")


def test_files_are_sources_and_stay_as_they_are(fetch: Fetching, tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(DATA)
    for text in (str(mine), mine.as_uri(), "mine.bin"):
        fetch(text, checksum=sum_of(DATA), target=f"checkpoints/{len(text)}.bin")
    assert mine.stat().st_nlink == 1
    assert mine.stat().st_mode & 0o200


@pytest.mark.parametrize("path", ["/dev/zero", "/", "nothing-here.bin"])
def test_what_is_no_file_is_no_source(fetch: Fetching, path: str) -> None:
    fetch.refused(path)


def test_a_pipe_does_not_hold_the_command(fetch: Fetching, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.bin")
    assert "no file" in fetch.refused("pipe.bin")


@contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """`talk` is called for each connection, in a thread; the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=talk_and_close, args=(listener.accept()[0],), daemon=True).start()

        def talk_and_close(peer: socket.socket) -> None:
            with peer, suppress(OSError):
                talk(peer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/m"
        listener.shutdown(socket.SHUT_RDWR)


def raw_server(head: bytes, then: bytes = b"") -> AbstractContextManager[str]:
    """Sends `head`, and `then` again and again every 20 ms; the address."""

    def talk(peer: socket.socket) -> None:
        peer.recv(65_536)
        peer.sendall(head)
        while then:
            peer.sendall(then)
            time.sleep(0.02)
        peer.recv(1)

    return listening(talk)


@pytest.mark.parametrize(("head", "then"), [(b"HTTP/1.1 200 OK\r\nX: ", b"a"), (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n")])
def test_an_answer_whose_head_never_ends_is_left(fetch: Fetching, head: bytes, then: bytes) -> None:
    fetch.client = Http(replace(LIMITS, silence_seconds=0.3))
    fetch.policy = replace(POLICY, attempts=1)
    with raw_server(head, then) as url:
        assert "does not answer" in fetch.refused(url)


def test_an_answer_whose_head_breaks_off_is_asked_for_again(fetch: Fetching, server: ModelServer) -> None:
    heads = [b"HTTP/1.1 206 Partial Content\r\nETag: ", b"HTTP/1.1 200 OK\r\nX: y\r\n"]

    def relay(peer: socket.socket) -> None:
        asked = peer.recv(65_536)
        if heads:
            peer.sendall(heads.pop())
            return
        with socket.create_connection(("127.0.0.1", server.port)) as real:
            real.sendall(asked.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while data := real.recv(65_536):
                peer.sendall(data)

    server.serve("/m", DATA)
    with listening(relay) as url:
        fetch(url, checksum=sum_of(DATA))
    assert heads == []
    fetch.has(DATA)


def test_an_interrupt_between_two_answers_ends_the_others(fetch: Fetching, server: ModelServer) -> None:
    whole = fetch.client.get(Request(server.serve("/m", b"x")))
    other = fetch.client.get(Request(server.serve("/slow", b"x" * MB, drip_seconds=0.1)))
    assert whole.read_all(1) == b"x"
    whole.close(reusable=True)
    fetch.client.abort()
    with suppress(HttpFailure):
        assert len(other.read_all(MB)) < MB


@pytest.mark.parametrize(("head", "then"), [(b"", b""), (b"HTTP/1.1 200 OK\r\nX: ", b"a")])
def test_an_interrupt_does_not_wait_for_a_server(fetch: Fetching, head: bytes, then: bytes) -> None:
    fetch.client = Http(replace(LIMITS, silence_seconds=60.0))
    fetch.stop = Stop(fetch.client.abort)
    with raw_server(head, then) as url:
        threading.Timer(0.2, fetch.stop.now).start()
        began = time.monotonic()
        with pytest.raises((GovError, NotFetched)):
            fetch(url)
        assert time.monotonic() - began < 30


# -- other file systems -----------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=shared) as name:
        yield Path(name)


def test_a_models_folder_on_another_file_system_gets_a_copy(
    fetch: Fetching, server: ModelServer, elsewhere: Path
) -> None:
    (fetch.root / "models").symlink_to(elsewhere)
    fetch(server.serve("/m", DATA), checksum=sum_of(DATA))
    placed = elsewhere / "checkpoints" / "m.bin"
    assert placed.read_bytes() == DATA
    assert placed.stat().st_nlink == 1
    placed.write_bytes(b"mine now")
    assert fetch.store.path(sum_of(DATA)).read_bytes() == DATA
    with pytest.raises(GovError, match="another file"):
        fetch(checksum=sum_of(DATA))
    assert [path.read_bytes() for path in placed.parent.iterdir()] == [b"mine now"]


def test_a_copy_is_refused_before_it_fills_the_disk_and_stops_when_told(
    fetch: Fetching, server: ModelServer, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(server.serve("/m", DATA), checksum=sum_of(DATA))
    blobs = fetch.store

    def interrupted(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        blobs.place(sum_of(DATA), elsewhere / "m.bin", interrupted, replace=False)
    monkeypatch.setattr(fs, "free_bytes", lambda _path: 1000)
    with pytest.raises(GovError) as caught:
        blobs.place(sum_of(DATA), elsewhere / "m.bin", lambda _count: None, replace=False)
    assert caught.value.code is Code.DISK_FULL
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif("COMFYGOV_TEST_REFLINK" not in os.environ, reason="COMFYGOV_TEST_REFLINK names no folder")
def test_blocks_are_shared_where_the_file_system_can() -> None:
    """COMFYGOV_TEST_REFLINK: a folder on btrfs, or on xfs with reflink."""
    with tempfile.TemporaryDirectory(dir=os.environ["COMFYGOV_TEST_REFLINK"]) as name:
        blob = Path(name) / "blob"
        blob.write_bytes(DATA * 8)
        fs.flush_file_system(blob)
        free = fs.free_bytes(blob)
        clone_or_copy(blob, Path(name) / "clone", lambda _count: pytest.fail("it was copied"))
        fs.flush_file_system(blob)
        assert free - fs.free_bytes(blob) < len(DATA)
        assert (Path(name) / "clone").read_bytes() == DATA * 8
