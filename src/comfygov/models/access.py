"""From a source to the request for its bytes, with the credentials that belong to its host and to no other."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from comfygov.models import gcs, s3
from comfygov.models.sources import civitai_endpoint, hf_endpoint
from comfygov.ports import http

if TYPE_CHECKING:
    from comfygov.models.sources import Source
    from comfygov.ports.http import Http, Request

_HF_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_TOKEN")
_CIVITAI_TOKENS = ("CIVITAI_TOKEN", "CIVITAI_API_TOKEN")


@dataclass
class Access:
    """Makes requests; tokens that cost a request themselves are made once. Usable from several threads."""

    client: Http
    _gcs: gcs.Tokens | None = None
    _s3: s3.Keys | None = None
    _regions: dict[str, str] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def request(self, source: Source) -> Request:
        """The request for all bytes of `source`, which is no file. Raises HttpFailure, GovError."""
        if source.kind == "hf":
            return _with_bearer(source.location, hf_endpoint(), _first(_HF_TOKENS) or _stored_hf_token())
        if source.kind == "civitai":
            return _with_bearer(source.location, civitai_endpoint(), _first(_CIVITAI_TOKENS))
        if source.kind == "gs":
            return self._google(source)
        if source.kind == "s3":
            return self._amazon(source)
        return http.Request(source.location, secrets=_from_netrc(source.location))

    def _google(self, source: Source) -> Request:
        with self._lock:
            if self._gcs is None:
                self._gcs = gcs.Tokens(self.client)
            token = self._gcs.token()
        secrets = {"Authorization": f"Bearer {token}"} if token else {}
        return http.Request(gcs.object_url(source.location), secrets=secrets)

    def _amazon(self, source: Source) -> Request:
        with self._lock:
            if self._s3 is None:
                self._s3 = s3.read_keys()
            keys = self._s3
        bucket = source.location.partition("/")[0]
        return s3.request(source.location, keys, self._regions.get(bucket) or s3.region(keys))

    def learn(self, source: Source, failure: http.HttpFailure) -> bool:
        """True when `failure` taught something and the request is worth another try: a bucket's region, or
        that an open bucket is not open and this machine may have a token."""
        if source.kind == "s3" and failure.region:
            bucket = source.location.partition("/")[0]
            with self._lock:
                known = self._regions.get(bucket)
                self._regions[bucket] = failure.region
            return known != failure.region
        if source.kind == "gs" and failure.status in (401, 403) and self._gcs is not None:
            with self._lock:
                return self._gcs.ask_the_machine()
        return False


def _first(names: tuple[str, ...]) -> str:
    return next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")


def _stored_hf_token() -> str:
    """What `hf auth login` left: $HF_TOKEN_PATH, else $HF_HOME/token, else ~/.cache/huggingface/token."""
    if os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in ("1", "ON", "YES", "TRUE"):
        return ""
    folder = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    path = Path(os.environ.get("HF_TOKEN_PATH") or f"{folder}/token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _with_bearer(url: str, endpoint: str, token: str) -> Request:
    """`endpoint` was set by the person who set the token: it is the host that the token is for."""
    same_host = http.origin(url) == http.origin(endpoint)
    return http.Request(url, secrets={"Authorization": f"Bearer {token}"} if token and same_host else {})


def _from_netrc(url: str) -> dict[str, str]:
    """Basic credentials of ~/.netrc ($NETRC): for https, and for this machine itself."""
    if urlsplit(url).scheme != "https" and not http.is_loopback(url):
        return {}
    import netrc

    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(path).hosts.get(http.origin(url)[1])
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return {}
    if found is None:
        return {}
    login = f"{found[0] or found[1]}:{found[2] or ''}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
