"""Which state of a history a search looks at next: halving, around those that cannot be judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["good", "bad", "skip"]


class Walk:
    """A row of states from a good one (the first) to a bad one (the last). Equal keys are equal states: what is
    known of one is known of all."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._known: dict[str, Verdict] = {keys[0]: "good", keys[-1]: "bad"}
        self.low, self.high = 0, len(keys) - 1

    def next(self) -> int | None:
        """The state nearest to the middle that may tell something; None when there is none left."""
        while True:
            inside = range(self.low + 1, self.high)
            open_now = [place for place in inside if self._known.get(self._keys[place]) != "skip"]
            if not open_now:
                return None
            place = min(open_now, key=lambda place: abs(2 * place - self.low - self.high))
            known = self._known.get(self._keys[place])
            if known is None:
                return place
            self.tell(place, known)

    def tell(self, place: int, verdict: Verdict) -> None:
        """Take in what was found out about the state at `place`."""
        self._known[self._keys[place]] = verdict
        if verdict == "good":
            self.low = place
        elif verdict == "bad":
            self.high = place

    def left(self) -> int:
        """How many states between the last good and the first bad one nothing is known of."""
        return sum(self._keys[place] not in self._known for place in range(self.low + 1, self.high))
