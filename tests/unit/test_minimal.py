"""The fewest lines that fail together: against every family of conflicts that chance makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from comfygov.resolve.minimal import minimal

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFLICTS = st.lists(st.frozensets(st.integers(0, 40), min_size=1, max_size=4), min_size=1, max_size=4)


@given(CONFLICTS, st.permutations(range(41)))
def test_what_is_left_fails_and_every_line_of_it_is_needed(conflicts: list[frozenset[int]], lines: list[int]) -> None:
    def fails(asked: Sequence[int]) -> bool:
        return any(conflict <= set(asked) for conflict in conflicts)

    found = minimal(lines, fails)
    assert fails(found)
    assert not any(fails([line for line in found if line != left_out]) for left_out in found)


def test_equal_lines_are_told_apart() -> None:
    assert minimal(["a", "a", "b"], lambda asked: "b" in asked) == ["b"]


def test_few_questions_find_two_lines_among_many() -> None:
    asked: list[Sequence[int]] = []

    def fails(lines: Sequence[int]) -> bool:
        asked.append(lines)
        return {3, 170} <= set(lines)

    assert sorted(minimal(range(200), fails)) == [3, 170]
    assert len(asked) < 100
