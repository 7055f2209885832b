"""The halving of `gov bisect`: for every history, and whatever cannot be judged, the culprit is among those named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comfygov.ops.bisect_walk import Verdict, Walk


def walked(keys: list[str], truth: dict[str, Verdict]) -> tuple[Walk, list[int]]:
    walk = Walk(keys)
    asked: list[int] = []
    while (place := walk.next()) is not None:
        asked.append(place)
        walk.tell(place, truth[keys[place]])
    return walk, asked


@given(st.data())
def test_the_culprit_is_always_between_the_sides(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 80))
    first_bad = data.draw(st.integers(1, count - 1))
    keys = [str(place) for place in range(count)]
    skipped = data.draw(st.sets(st.integers(1, count - 2))) if count > 2 else set()
    truth: dict[str, Verdict] = {key: "good" if place < first_bad else "bad" for place, key in enumerate(keys)}
    truth.update({str(place): "skip" for place in skipped})
    walk, asked = walked(keys, truth)
    assert walk.low < first_bad <= walk.high
    assert set(range(walk.low + 1, walk.high)) <= skipped, "what is between could not be judged"
    assert len(asked) == len(set(asked))
    assert walk.left() == 0


@given(st.integers(2, 500), st.data())
def test_without_skips_it_halves(count: int, data: st.DataObject) -> None:
    first_bad = data.draw(st.integers(1, count - 1))
    keys = [str(place) for place in range(count)]
    truth: dict[str, Verdict] = {key: "good" if place < first_bad else "bad" for place, key in enumerate(keys)}
    walk, asked = walked(keys, truth)
    assert (walk.low, walk.high) == (first_bad - 1, first_bad)
    assert len(asked) <= (count - 1).bit_length()


def test_a_state_that_comes_again_is_not_judged_again() -> None:
    walk, asked = walked(["a", "b", "c", "b", "a", "b", "d"], {"b": "skip", "c": "good"})
    assert [["a", "b", "c", "b", "a", "b", "d"][place] for place in asked].count("b") <= 1
    assert (walk.low, walk.high) == (4, 6)
