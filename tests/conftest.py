"""Fixtures that every suite may use."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.governed import Governed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.emulators import Gcs, S3Server
    from tests.kit.s3_standin import S3StandIn
    from tests.kit.spread import Spread

# A shell that starts this in the background has it ignore Ctrl-C, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The first draw loads Unicode tables; on a busy machine that alone is over Hypothesis's second.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Spread:
    from tests.kit.spread import Spread

    return Spread(config, log)


@pytest.fixture
def bare(tmp_path: Path) -> Governed:
    """A directory without a home yet."""
    return Governed(tmp_path)


@pytest.fixture(scope="session")
def governed_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`template`, a home on the stand-in with one package, as it was at `here`: homes know their own paths."""
    place = tmp_path_factory.mktemp("governed")
    made = Governed(place / "here")
    made.root.mkdir()
    made.wheel("basis", "1.0")
    made.init(requirements="basis\n").ok()
    made.root.rename(place / "template")
    return place


@pytest.fixture
def governed(governed_template: Path) -> Governed:
    """A governed home on the stand-in, with one package: a copy, since to make one takes ten times as long."""
    here = governed_template / "here"
    subprocess.run(["rm", "-rf", here], check=True)
    subprocess.run(["cp", "-a", governed_template / "template", here], check=True)
    return Governed(here)


# -- object storage: tests/kit/emulators.py says how to use these -----------------------------------


@pytest.fixture(scope="session")
def gcp_storage_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcs]:
    from tests.kit import emulators

    with emulators.gcp_storage_emulator(tmp_path_factory.mktemp("gcs")) as running:
        yield running


@pytest.fixture(scope="session")
def fake_gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcs]:
    from tests.kit import emulators

    with emulators.fake_gcs_server(tmp_path_factory.mktemp("gcs")) as running:
        yield running


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    from tests.kit import emulators

    with emulators.seaweedfs(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3() -> Iterator[S3StandIn]:
    from tests.kit.s3_standin import s3_standin

    with s3_standin() as running:
        yield running
