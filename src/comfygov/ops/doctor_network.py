"""Whether the sources that a home is made of answer: package indexes, and the hosts of its repositories."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from comfygov.errors import Code, GovError
from comfygov.model.version import WHEELS
from comfygov.ops.doctor_check import Check
from comfygov.ops.init import OFFICIAL_REPOSITORY
from comfygov.ports.git import Git
from comfygov.ports.source import recorded_source, without_credentials
from comfygov.ports.uv import Uv
from comfygov.versions import portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comfygov.ops.context import Context

_AT_ONCE = 8


def network(context: Context | None) -> Iterator[Check]:
    """One check: every source that was asked, those that do not answer first. Asks all at once, 15 s at the most."""
    asked = [*_indexes(context), *_repositories(context)]
    if not asked:
        yield Check("network", "pass", "nothing here comes from a server")
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        troubles = list(pool.map(lambda entry: entry[1](), asked))
    silent = [f"{name}: {trouble}" for (name, _), trouble in zip(asked, troubles, strict=True) if trouble]
    answered = [f"{name}: answers" for (name, _), trouble in zip(asked, troubles, strict=True) if not trouble]
    words = f"{len(answered)} of {len(asked)} sources answer"
    advice = ("check the network, the proxy (HTTPS_PROXY) and the address; rollback and gov run need none",)
    yield Check("network", "warn" if silent else "pass", words, (*silent, *answered), advice if silent else ())


def _indexes(context: Context | None) -> Iterator[tuple[str, Callable[[], str]]]:
    project = context.home.root / "pyproject.toml" if context else None
    urls = portable.indexes(project.read_text()) if project and project.is_file() else ("pypi",)
    uv = Uv()
    for url in urls:
        if url == WHEELS:
            continue
        named = "" if url == "pypi" else url
        yield f"{without_credentials(named) or 'PyPI'} (packages)", partial(_of_index, uv, named)


def _of_index(uv: Uv, url: str) -> str:
    with tempfile.TemporaryDirectory(prefix="comfygov-doctor-") as folder:
        return _trouble(partial(uv.ask_index, url, Path(folder)))


def _repositories(context: Context | None) -> Iterator[tuple[str, Callable[[], str]]]:
    """One repository of every host."""
    sources = [OFFICIAL_REPOSITORY]
    if context and context.snapshots.head():
        state = context.head_state()
        sources = [state.declared.comfyui.repo, *(plugin.source for plugin in state.registry.plugins)]
    git = context.git if context else Git(Path.cwd)
    hosts: dict[str, str] = {}
    for text in sources:
        host = _host(text)
        if host:
            hosts.setdefault(host, text)
    for host, text in hosts.items():
        yield f"{host} (git)", partial(_trouble, partial(git.ask_server, recorded_source(text)))


def _host(source: str) -> str:
    """Empty for folders, content and packs of the node registry."""
    if "://" in source:
        return "" if source.startswith("file:") else urlsplit(source).hostname or ""
    return source.partition("@")[2].partition(":")[0] if "@" in source and not source.startswith("/") else ""


def _trouble(ask: Callable[[], None]) -> str:
    try:
        ask()
    except GovError as error:
        return "does not answer" if error.code is Code.TIMEOUT else error.message
    return ""
