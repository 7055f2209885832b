# ruff: noqa: ANN401 - items and results are of any type
"""The queue of prompts and the history of those that ran."""

from __future__ import annotations

import copy
import heapq
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAXIMUM_HISTORY_SIZE = 10000
Item = tuple[Any, str, dict[str, Any], dict[str, Any], list[str]]


class PromptQueue:
    """What waits, what runs, what is done; every method may be called from any thread."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.mutex = threading.RLock()
        self.not_empty = threading.Condition(self.mutex)
        self.task_counter = 0
        self.queue: list[Item] = []
        self.currently_running: dict[int, Item] = {}
        self.history: dict[str, dict[str, Any]] = {}
        self.flags: dict[str, Any] = {}

    def put(self, item: Item) -> None:
        """Add a prompt."""
        with self.mutex:
            heapq.heappush(self.queue, item)
            self.server.queue_updated()
            self.not_empty.notify()

    def get(self, timeout: float | None = None) -> tuple[Item, int] | None:
        """Take the next prompt; None when there was none or a flag was set."""
        with self.not_empty:
            if not self.queue and not self.flags:
                self.not_empty.wait(timeout)
            if not self.queue:
                return None
            item = heapq.heappop(self.queue)
            number = self.task_counter
            self.currently_running[number] = copy.deepcopy(item)
            self.task_counter += 1
            self.server.queue_updated()
            return item, number

    def task_done(self, number: int, result: dict[str, Any], status: dict[str, Any]) -> None:
        """Move a prompt into the history."""
        with self.mutex:
            prompt = self.currently_running.pop(number)
            if len(self.history) > MAXIMUM_HISTORY_SIZE:
                self.history.pop(next(iter(self.history)))
            self.history[prompt[1]] = {
                "prompt": prompt,
                "outputs": {},
                "status": copy.deepcopy(status),
                **result,
            }
            self.server.queue_updated()

    def get_current_queue(self) -> tuple[list[Item], list[Item]]:
        """What runs and what waits."""
        with self.mutex:
            return list(self.currently_running.values()), list(self.queue)

    def get_tasks_remaining(self) -> int:
        """How many run or wait."""
        with self.mutex:
            return len(self.queue) + len(self.currently_running)

    def wipe_queue(self) -> None:
        """Forget all that waits."""
        with self.mutex:
            self.queue = []
            self.server.queue_updated()

    def delete_queue_item(self, matches: Callable[[Item], bool]) -> bool:
        """Forget the first waiting prompt that matches."""
        with self.mutex:
            for item in self.queue:
                if matches(item):
                    self.queue.remove(item)
                    heapq.heapify(self.queue)
                    self.server.queue_updated()
                    return True
        return False

    def get_history(
        self, prompt_id: str | None = None, max_items: int | None = None, offset: int = -1
    ) -> dict[str, Any]:
        """One entry, the last few, or all of them."""
        with self.mutex:
            if prompt_id is not None:
                found = self.history.get(prompt_id)
                return {} if found is None else {prompt_id: copy.deepcopy(found)}
            entries = list(self.history.items())
            if offset < 0:
                offset = 0 if max_items is None else max(0, len(entries) - max_items)
            return dict(entries[offset:] if max_items is None else entries[offset : offset + max_items])

    def wipe_history(self) -> None:
        """Forget everything done."""
        with self.mutex:
            self.history = {}

    def delete_history_item(self, prompt_id: str) -> None:
        """Forget one."""
        with self.mutex:
            self.history.pop(prompt_id, None)

    def set_flag(self, name: str, data: Any) -> None:
        """Tell the worker something."""
        with self.mutex:
            self.flags[name] = data
            self.not_empty.notify()

    def get_flags(self) -> dict[str, Any]:
        """Take what the worker was told."""
        with self.mutex:
            flags, self.flags = self.flags, {}
            return flags
