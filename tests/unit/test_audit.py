"""The chain of what was done: whole after recovery, and every change of it is found."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.model.state import AuditEntry, Head, Pending
from comfygov.truth import audit

HEAD = Head("0001-init", "abc", "2026-11-21T20:15:00Z")


def chain(count: int) -> list[AuditEntry]:
    lines: list[AuditEntry] = []
    for number in range(count):
        bare = audit.entry(f"gov {number}", "promote", reason='"digest":"ab" ü', approved=("~ numpy",))
        bare = msgspec.structs.replace(bare, before=str(number), after=str(number + 1))
        lines.append(audit.chained(bare, lines[-1].digest if lines else ""))
    return lines


def remembered(lines: list[AuditEntry]) -> Head:
    return msgspec.structs.replace(HEAD, audit=lines[-1].digest)


def written(path: Path, lines: list[AuditEntry]) -> Path:
    path.unlink(missing_ok=True)
    for line in lines:
        audit.append(path, line)
    return path


def test_each_line_carries_the_digest_of_the_one_before(tmp_path: Path) -> None:
    lines = chain(4)
    path = written(tmp_path / "audit.jsonl", lines)
    assert audit.entries(path) == lines
    assert [line.previous for line in lines[1:]] == [line.digest for line in lines[:-1]]
    assert len({line.digest for line in lines}) == 4
    assert audit.problems(path, remembered(lines), None) == []


@given(data=st.data())
def test_every_change_of_the_file_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lines = chain(5)
    path = written(tmp_path_factory.mktemp("audit") / "audit.jsonl", lines)
    raw = path.read_bytes().splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["byte", "drop", "swap", "twice", "cut"]))
    place = data.draw(st.integers(0, len(raw) - 1))
    if kind == "byte":
        at = data.draw(st.integers(0, len(raw[place]) - 2))
        value = data.draw(st.integers(32, 126).filter(lambda value: value != raw[place][at]))
        raw[place] = raw[place][:at] + bytes([value]) + raw[place][at + 1 :]
    elif kind == "drop":
        del raw[place]
    elif kind == "swap":
        other = data.draw(st.integers(0, len(raw) - 1).filter(lambda other: other != place))
        raw[place], raw[other] = raw[other], raw[place]
    elif kind == "twice":
        raw.insert(place, raw[place])
    else:
        raw = raw[:place]
    path.write_bytes(b"".join(raw))
    assert audit.problems(path, remembered(lines), None), (kind, place)


def test_a_chain_made_anew_is_not_what_head_remembers(tmp_path: Path) -> None:
    forged = chain(3)
    forged[2] = audit.chained(msgspec.structs.replace(forged[2], actor="somebody"), forged[1].digest)
    path = written(tmp_path / "audit.jsonl", forged)
    assert audit.problems(path, remembered(chain(3)), None)


def test_a_commit_under_way_is_no_break(tmp_path: Path) -> None:
    lines = chain(3)
    path = written(tmp_path / "audit.jsonl", lines[:2])
    pending = Pending(1, 1.0, "gov x", "", "3", "2", lines[2], ("3",))
    assert audit.problems(path, remembered(lines), pending) == []
    assert audit.problems(path, remembered(lines[:2]), pending) == []
    assert audit.problems(path, remembered(lines[:1]), pending)
    assert audit.problems(path, remembered(lines), None)


def test_recovery_does_not_write_the_last_line_twice(tmp_path: Path) -> None:
    first, second = chain(2)
    path = written(tmp_path / "audit.jsonl", [first, second, second])
    assert [line.after for line in audit.entries(path)] == ["1", "2"]


def test_a_line_torn_by_a_power_cut_is_written_again(tmp_path: Path) -> None:
    first, second = chain(2)
    whole = msgspec.json.encode(second)
    for length in range(len(whole) + 1):
        path = written(tmp_path / "audit.jsonl", [first])
        with path.open("ab") as file:
            file.write(whole[:length])
        audit.append(path, second)
        assert audit.problems(path, remembered([second]), None) == []


@pytest.mark.parametrize("rest", [b"\0\0\0\0", b"{}", b"words"])
def test_foreign_bytes_at_the_end_stay_and_are_found(tmp_path: Path, rest: bytes) -> None:
    lines = chain(2)
    path = written(tmp_path / "audit.jsonl", lines[:1])
    with path.open("ab") as file:
        file.write(rest)
    audit.append(path, lines[1])
    assert rest in path.read_bytes()
    assert audit.problems(path, remembered(lines), None) == ["line 2 cannot be read"]


def test_a_home_without_lines_has_no_last_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    assert audit.last_digest(path, None) == ""
    path.touch()
    assert audit.last_digest(path, HEAD) == ""
    assert audit.problems(path, HEAD, None) == []


def test_a_head_of_an_older_release_does_not_know_the_last_line(tmp_path: Path) -> None:
    lines = chain(2)
    path = written(tmp_path / "audit.jsonl", lines)
    assert audit.last_digest(path, HEAD) == lines[1].digest
    assert audit.problems(path, HEAD, None) == []
