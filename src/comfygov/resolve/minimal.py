"""The fewest lines that have no solution together, found by asking the resolver and by nothing else.

Leaving out a part of a set that fails: when the rest fails too, the part was not needed. What is left when
no single line can go is minimal. Questions of one round are independent and are asked in parallel.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Line = TypeVar("Line")

# A round asks this many questions at once; uv mostly waits for the index.
PARALLEL = 8


def minimal(lines: Sequence[Line], fails: Callable[[Sequence[Line]], bool]) -> list[Line]:
    """A part of `lines` that fails, and of which every line is needed. `lines` together must fail.

    `fails` must be monotone: more lines never make a set without a solution solvable. It is called from
    several threads. With n lines of which k are needed it takes about k * log(n) rounds.
    """
    current, parts = list(lines), min(len(lines), PARALLEL)
    with ThreadPoolExecutor(PARALLEL) as pool:
        while len(current) > 1:
            chunks = _split(current, parts)
            rests = [_without(current, chunk) for chunk in chunks]
            smaller = next((rest for rest, fail in zip(rests, pool.map(fails, rests), strict=True) if fail), None)
            if smaller is not None:
                current, parts = smaller, max(2, min(len(smaller), parts - 1, PARALLEL))
            elif parts < len(current):
                parts = min(len(current), parts * 2)
            else:
                break
    return current


def _split(lines: list[Line], parts: int) -> list[list[Line]]:
    """`lines` in `parts` pieces of nearly equal length."""
    bounds = [len(lines) * number // parts for number in range(parts + 1)]
    return [lines[start:end] for start, end in itertools.pairwise(bounds) if start < end]


def _without(lines: list[Line], chunk: list[Line]) -> list[Line]:
    gone = set(map(id, chunk))
    return [line for line in lines if id(line) not in gone]
