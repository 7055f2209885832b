"""Where the bytes of a model come from: each form of source, judged, and turned into a request."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from comfygov.errors import Code, GovError
from comfygov.ports.source import without_credentials

Kind = Literal["http", "hf", "civitai", "gs", "s3", "file"]

_HF_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_CIVITAI_HOSTS = ("civitai.com", "www.civitai.com", "civitai.red", "civitai.green")
_SECRET_FIELD = re.compile(
    r"token|api_?key|secret|passw|^key$|^sig$|signature|credential|auth|^x-amz-|^x-goog-|^policy$", re.IGNORECASE
)
_MAX_LENGTH = 4000


@dataclass(frozen=True)
class Source:
    """A source that was judged. `text` is as it was written; `location` is what its kind needs: a URL, a path,
    or `bucket/key`; `public` may be shown."""

    kind: Kind
    text: str
    location: str
    public: str

    @property
    def file_name(self) -> str:
        """The last part of the address, "" where it says nothing (Civitai numbers its files)."""
        path = self.location if self.kind in ("file", "gs", "s3") else unquote(urlsplit(self.location).path)
        return "" if self.kind == "civitai" else path.rstrip("/").rpartition("/")[2]


def parse(text: str, base: Path) -> Source:
    """Judge a source; plain relative paths start at `base`. Raises `bad_source`."""
    if not text.strip() or len(text) > _MAX_LENGTH or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise _bad(text, "it is empty, very long, or has control characters")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _file(text, base / Path(text).expanduser())
    known = {
        "http": _url, "https": _url, "hf": _hugging_face, "civitai": _civitai, "gs": _bucket, "s3": _bucket,
        "file": _file_url,
    }  # fmt: skip
    judge = known.get(scheme.lower())
    if judge is None:
        raise _bad(text, f"`{scheme}` is not one of {', '.join(known)}")
    try:
        return judge(text, rest)
    except ValueError as error:
        raise _bad(text, str(error)) from error


def _url(text: str, rest: str) -> Source:
    del rest
    parts = urlsplit(text)
    if not parts.hostname or parts.port == 0:
        raise _bad(text, "it names no host")
    if parts.username or parts.password:
        raise _bad(text, "it holds credentials, which the spec would keep; put them into ~/.netrc")
    secret = next(
        (name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET_FIELD.search(name)), ""
    )
    if secret:
        raise _bad(text, f"it holds a secret (`{secret}`), which the spec would keep; {_where_instead(parts.hostname)}")
    if parts.hostname in _HF_HOSTS:
        return _hugging_face_url(text, parts.path)
    if parts.hostname in _CIVITAI_HOSTS:
        return _civitai_url(text, parts.path, parts.query)
    return Source("http", text, urlunsplit(parts._replace(fragment="")), without_credentials(text))


def _where_instead(host: str) -> str:
    return "set CIVITAI_TOKEN instead" if host in _CIVITAI_HOSTS else "use a source that needs none, or ~/.netrc"


def hf_endpoint() -> str:
    from comfygov.ports.http import endpoint

    return endpoint(("HF_ENDPOINT",), "https://huggingface.co")


def civitai_endpoint() -> str:
    from comfygov.ports.http import endpoint

    return endpoint(("CIVITAI_ENDPOINT",), "https://civitai.com")


def _hugging_face(text: str, rest: str) -> Source:
    """`hf://org/repo/path@revision`; also `hf://org/repo@revision/path`, as huggingface_hub writes it."""
    kind, rest = _repository_kind(rest)
    parts = rest.split("/")
    if len(parts) < 3 or not all(parts):
        raise _bad(text, "it is to be hf://org/repo/path@revision")
    organisation, repository, path = parts[0], parts[1], "/".join(parts[2:])
    revision = "main"
    if "@" in repository:
        repository, _, revision = repository.partition("@")
    elif "@" in path:
        path, _, revision = path.rpartition("@")
    return _hugging_face_source(text, f"{kind}{organisation}/{repository}", unquote(revision), path)


def _repository_kind(path: str) -> tuple[str, str]:
    for kind in ("datasets/", "spaces/"):
        if path.startswith(kind):
            return kind, path.removeprefix(kind)
    return "", path


def _hugging_face_url(text: str, path: str) -> Source:
    kind, rest = _repository_kind(unquote(path).strip("/"))
    parts = rest.split("/")
    if len(parts) < 5 or parts[2] not in ("resolve", "blob", "raw") or not all(parts):
        raise _bad(text, "it is no file on Hugging Face (…/org/repo/resolve/REVISION/PATH)")
    return _hugging_face_source(text, f"{kind}{parts[0]}/{parts[1]}", parts[3], "/".join(parts[4:]))


def _hugging_face_source(text: str, repository: str, revision: str, path: str) -> Source:
    if ".." in (*repository.split("/"), *path.split("/"), *revision.split("/")) or not revision:
        raise _bad(text, "`..` and empty revisions are not taken")
    url = f"{hf_endpoint()}/{quote(repository)}/resolve/{quote(revision, safe='')}/{quote(path)}"
    return Source("hf", text, url, without_credentials(text))


def _civitai(text: str, rest: str) -> Source:
    version, _, query = rest.partition("?")
    if not version.isascii() or not version.isdigit():
        raise _bad(text, "it is to be civitai://VERSION-ID, a number")
    return _civitai_source(text, version, query)


def _civitai_url(text: str, path: str, query: str) -> Source:
    download = re.fullmatch(r"/api/download/models/(\d+)/?", path, re.ASCII)
    if download:
        return _civitai_source(text, download[1], query)
    versions = parse_qs(query).get("modelVersionId", [])
    if re.fullmatch(r"/models/\d+(/[^/]*)?/?", path, re.ASCII) and versions and versions[0].isdigit():
        return _civitai_source(text, versions[0], "")
    raise _bad(text, "it names no version; open the version and copy its address (…?modelVersionId=NUMBER)")


def _civitai_source(text: str, version: str, query: str) -> Source:
    wanted = [(name, value) for name, value in parse_qsl(query) if name in ("type", "format", "size", "fp")]
    suffix = f"?{urlencode(wanted)}" if wanted else ""
    url = f"{civitai_endpoint()}/api/download/models/{version}{suffix}"
    return Source("civitai", text, url, without_credentials(text))


def _bucket(text: str, rest: str) -> Source:
    bucket, _, key = rest.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}", bucket) or not key or key.endswith("/"):
        raise _bad(text, "it is to be gs://bucket/name or s3://bucket/name")
    kind: Literal["gs", "s3"] = "gs" if text.lower().startswith("gs:") else "s3"
    return Source(kind, text, f"{bucket}/{key}", text)


def _file_url(text: str, rest: str) -> Source:
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise _bad(text, "a file:// address has no host (file:///path)")
    return _file(text, Path("/" + unquote(path)))


def _file(text: str, path: Path) -> Source:
    return Source("file", text, os.path.normpath(path.absolute()), text)


def _bad(text: str, reason: str) -> GovError:
    shown = without_credentials(text[:200])
    hint = "https://…, hf://org/repo/path@revision, civitai://VERSION-ID, gs://…, s3://…, file:///… or a path"
    return GovError(Code.BAD_SOURCE, f"`{shown}` is not taken as the source of a model: {reason}", hint)
