"""The history is the truth: whatever becomes of ComfyUI's websocket, jobs end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit import websocket_proxy
from tests.kit.handlers import Stage, picture, sleep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mode", ["drop", "silent", "refuse"])
def test_a_websocket_that_is_dropped_silent_or_refused_changes_nothing(tmp_path: Path, mode: str) -> None:
    stage = Stage(tmp_path)
    stage.prepare(python=str(websocket_proxy.write(tmp_path / "env" / "bin" / "python", mode, refuse_for=600.0)))
    with stage.serving() as running:
        job = picture(count=4) | {"9": sleep(1.5)["1"]}
        assert len(running.done(job, timeout=60)["images"]) == 4, "it does not wait for the websocket to come back"
        assert running.done(picture(2))["images"]
