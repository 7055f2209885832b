"""Which tests pytest-xdist keeps on one worker: those that share what takes long to make.

The mark `xdist_group` does not do it: xdist 3.8 appends the group to the id of a test, and pytest 9.2 lets nobody
change that id. All workers would then make the same image.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

_TOGETHER = ("tests/image/", "tests/life/test_image_context.py")


def scope_of(nodeid: str) -> str:
    """Tests of the same scope run on the same worker, in order: a file of `_TOGETHER`, else the test alone."""
    return nodeid.partition("::")[0] if nodeid.startswith(_TOGETHER) else nodeid


class Spread(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """One test after another to whoever has little left, and whole files where one fixture is made for all."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
