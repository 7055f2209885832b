"""Jobs on a real ComfyUI (CPU): pictures, a video, audio, text, and a websocket that goes away as in the field."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import time
import wave
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import websocket_proxy
from tests.kit.handlers import Stage, living
from tests.real.test_real_comfyui import COMFYUI, INIT, RealHome

if TYPE_CHECKING:
    from pathlib import Path

BOOT_SECONDS = 600

pytestmark = [
    pytest.mark.real_comfyui,
    pytest.mark.skipif(not COMFYUI, reason="COMFYGOV_TEST_COMFYUI names no repository"),
]


class RealStage(Stage):
    """uv's own cache stays the user's: 5 GB need not be fetched again."""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **RealHome(self.root).environment()}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> RealStage:
    """A runtime file of a real version."""
    root = tmp_path_factory.mktemp("real-handler")
    made = RealStage(root)
    home = RealHome(root)
    home.timed("init", "--repo", COMFYUI, *INIT)
    home.timed("version", "create", "v1")
    graph = root / "workflow.json"
    graph.write_text(json.dumps(pictures(1, 64, 1.0)))
    home.timed("handler", "run", "--version", "v1", "--cpu", "--workflow", str(graph))
    (clone,) = (path.parent for path in (root / "cache" / "versions").glob("*/config.toml"))
    lock = json.loads(clone.with_suffix(".lock.json").read_text())
    head = json.loads((clone / "state" / "head.json").read_text())
    runtime = {
        "version": "v1",
        "digest": lock["digest"],
        "python": str(clone / ".venvs" / head["generation"] / "bin" / "python"),
        "comfyui": str(clone / "ComfyUI"),
        "packs": ["websocket_image_save.py"],
        "model_paths_files": [str(clone / "extra_model_paths.yaml")],
        "lock": str(clone.with_suffix(".lock.json")),
        "extra_args": ["--cpu"],
    }
    made.runtime.write_text(json.dumps(runtime))
    return made


def pictures(count: int, side: int, scale: float) -> dict[str, Any]:
    size = {"width": side, "height": side, "batch_size": count, "color": 0x336699}
    scaled = {"image": ["1", 0], "upscale_method": "bicubic", "scale_by": scale}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "ImageScaleBy", "inputs": scaled},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "picture"}},
    }


def tone(seconds: float = 1.0, rate: int = 22050) -> bytes:
    """A WAV file of 440 Hz."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        samples = (int(20_000 * math.sin(2 * math.pi * 440 * at / rate)) for at in range(int(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()


def everything() -> dict[str, Any]:
    video = {"video": ["10", 0], "filename_prefix": "video/clip", "format": "mp4", "codec": "h264"}
    return {
        **pictures(8, 64, 1.0),
        "10": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 8.0}},
        "11": {"class_type": "SaveVideo", "inputs": video},
        "20": {"class_type": "LoadAudio", "inputs": {"audio": "tone.wav"}},
        "21": {"class_type": "SaveAudio", "inputs": {"audio": ["20", 0], "filename_prefix": "audio/tone"}},
        "30": {"class_type": "PreviewAny", "inputs": {"source": "words"}},
    }


def test_pictures_a_video_audio_and_text_come_back(stage: RealStage) -> None:
    with stage.serving("--start-timeout", str(BOOT_SECONDS)) as running:
        files = [{"name": "tone.wav", "file": base64.b64encode(tone()).decode()}]
        for _ in range(2):  # the second time from ComfyUI's cache, if it could
            output = running.done(everything(), files=files)
            assert [one["filename"] for one in output["images"]] == [f"picture_{n:05}_.png" for n in range(1, 9)]
            found = {one["node_id"]: one for one in output["artifacts"]}
            starts = {
                node: base64.b64decode(one["data"])[:12] for node, one in found.items() if one["type"] == "base64"
            }
            assert (found["11"]["media_type"], starts["11"][4:8], found["11"]["subfolder"]) == (
                "video/mp4",
                b"ftyp",
                "video",
            )
            assert (found["21"]["media_type"], starts["21"][:4]) == ("audio/flac", b"fLaC")
            assert (found["30"]["type"], found["30"]["data"]) == ("text", "words")
        answer = running.job({"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}},
                              "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})  # fmt: skip
        assert answer["output"]["code"] == "missing_model", answer
        assert "models/checkpoints/sd.safetensors" in answer["error"]
        answer = running.job({"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}})
        assert "node 1 (SaveImage), input `images`" in answer["error"]
        late = running.job(pictures(64, 2000, 2.0), timeout=1.5)
        assert late["status"] == "TIMED_OUT"
        assert running.done(pictures(1, 64, 1.0))["images"]
        running.comfyui.kill()
        assert running.done(pictures(2, 64, 1.0), timeout=BOOT_SECONDS)["images"], "by the next ComfyUI"
    assert not living(stage.root / "cache" / "versions")


def test_the_drop_that_hangs_runpods_worker(stage: RealStage, tmp_path: Path) -> None:
    """Cut after 1.5 s, refused for 11 s: their handler still waits after a minute (measured)."""
    said = json.loads(stage.runtime.read_text())
    program = websocket_proxy.write(tmp_path / "bin" / "python", "drop", 1.5, 11.0, python=said["python"])
    own = RealStage(stage.root)
    kept = stage.runtime.read_bytes()
    try:
        stage.runtime.write_text(json.dumps({**said, "python": str(program)}))
        with own.serving("--start-timeout", str(BOOT_SECONDS)) as running:
            started = time.monotonic()
            assert len(running.done(pictures(24, 1200, 2.0))["images"]) == 24
            assert time.monotonic() - started < 60
    finally:
        stage.runtime.write_bytes(kept)
