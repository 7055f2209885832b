"""The handler's own parts on a ComfyUI (the stand-in) that this process started: what no client can bring about."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.handlers import Stage, do, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfygov.delivery.comfyui import Comfy
    from comfygov.delivery.handler import Handler


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handler]:
    with Stage(tmp_path_factory.mktemp("inside")).prepare().inside() as made:
        yield made


def next_one(handler: Handler, old: Comfy) -> Comfy:
    """The ComfyUI that is started when `old` has ended."""
    until = time.monotonic() + 20
    while handler.supervisor.now in (None, old):
        assert time.monotonic() < until
        time.sleep(0.02)
    found = handler.supervisor.now
    assert found is not None
    return found


def test_who_ends_a_comfyui_that_is_dead_leaves_the_next_one_alone(handler: Handler) -> None:
    old = handler.supervisor.first()
    old.service.child.kill()
    new = next_one(handler, old)
    handler.supervisor.end(old, "too late")
    old.service.stop(9, 0.0)
    assert new.service.exit_code() is None
    assert do(handler, picture(1)).images


def test_a_fresh_comfyui_is_one_after_the_job(handler: Handler) -> None:
    old = handler.supervisor.first()
    assert do(handler, picture(1), refresh_worker=True).images
    assert next_one(handler, old).number == old.number + 1
