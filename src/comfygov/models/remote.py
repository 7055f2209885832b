"""The far end of one download: requests for ranges, and whether what answers is still the same file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from comfygov.ports import http
from comfygov.ports.http import HttpFailure

if TYPE_CHECKING:
    from comfygov.models.access import Access
    from comfygov.models.part import Piece
    from comfygov.models.sources import Source

_EXPIRED = (400, 401, 403, 404, 410)
_NO_MIDDLE = "it breaks off, or changes, and what is missing cannot be had alone"
_CHANGES = "what it has changes again and again while it is read"


class Unfit(Exception):
    """The source answers, and what it has is not what is wanted."""


class StartOver(Exception):
    """What has arrived does not belong to what the server has now."""


@dataclass
class Remote:
    """One source. `validators` (ETag, Last-Modified) and `size` are of the file of which bytes are there already;
    `has_checksum`: a mixture of two files would be found. Usable from several threads."""

    access: Access
    source: Source
    piece_bytes: int
    has_checksum: bool
    validators: tuple[str, str] = ("", "")
    size: int | None = None
    published: str | None = None
    _direct: http.Request | None = None

    def accept(self, answer: http.Answer, size: int | None) -> None:
        """From now on this is the file."""
        self.validators = (answer.headers.get("etag", ""), answer.headers.get("last-modified", ""))
        self.size = size

    def open(self, piece: Piece, *, resuming: bool, has_bytes: bool) -> http.Answer:
        """An answer that begins at `piece.position`. Raises StartOver when it is of another
        file than before; with `has_bytes` an answer that begins at the first byte is one of those."""
        if piece.end is None or (piece.end == 0 and resuming):
            if piece.position:
                raise StartOver(_NO_MIDDLE)
            return self._get({})
        wanted = {"Range": f"bytes={piece.position}-{piece.end - 1}"}
        validator = self._if_range() if resuming else ""
        try:
            answer = self._get({**wanted, **({"If-Range": validator} if validator else {})})
        except HttpFailure as failure:
            if failure.status != 416:
                raise
            if resuming:
                raise StartOver(_CHANGES) from failure
            return self._get({})  # an empty file has no first byte
        try:
            return self._judged(answer, piece, resuming=resuming, has_bytes=has_bytes)
        except BaseException:
            answer.close()
            raise

    def _judged(self, answer: http.Answer, piece: Piece, *, resuming: bool, has_bytes: bool) -> http.Answer:
        if answer.status != 206:
            if resuming and (piece.position > 0 or has_bytes):
                raise StartOver(_NO_MIDDLE)
            return answer
        start, total = _range_start(answer), total_of(answer)
        if start != piece.position:
            raise HttpFailure("it answers another range than it was asked for", transient=False)
        if resuming:
            if total is None or total != self.size or not self._is_same(answer):
                raise StartOver(_CHANGES)
            return answer
        if total is None or (total > self.piece_bytes and not self._can_tell(answer)):
            answer.close()
            return self._get({})
        return answer

    def _can_tell(self, answer: http.Answer) -> bool:
        """False when pieces of two different files could be put together and nobody would see it."""
        has_validator = answer.headers.get("etag") or answer.headers.get("last-modified")
        return bool(has_validator) or self.has_checksum

    def _is_same(self, answer: http.Answer) -> bool:
        etag, modified = self.validators
        found = (answer.headers.get("etag", ""), answer.headers.get("last-modified", ""))
        if etag or found[0]:
            return etag == found[0]
        return modified == found[1] and (bool(modified) or self.has_checksum)

    def _if_range(self) -> str:
        """What makes the server answer with everything when the file has changed; a weak ETag may not (RFC 9110)."""
        etag, modified = self.validators
        return etag if etag.startswith('"') else "" if etag else modified

    def _get(self, more: dict[str, str]) -> http.Answer:
        direct = self._direct
        if direct is not None:
            try:
                return self.access.client.get(direct, more)
            except HttpFailure as failure:
                if failure.status not in _EXPIRED:
                    raise
                self._direct = None  # a signed address has run out: ask for a new one
        request = self.access.request(self.source)
        try:
            answer = self.access.client.get(request, more)
        except HttpFailure as failure:
            if not self.access.learn(self.source, failure):
                raise
            request = self.access.request(self.source)
            answer = self.access.client.get(request, more)
        self.published = _published_by(answer) or self.published
        if answer.history:
            same = http.origin(answer.url) == http.origin(request.url)
            self._direct = replace(request, url=answer.url, secrets=request.secrets if same else {}, sign=None)
        return answer


def length_of(answer: http.Answer) -> int | None:
    text = answer.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _range_start(answer: http.Answer) -> int | None:
    match = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""), re.ASCII)
    return int(match[1]) if match else None


def total_of(answer: http.Answer) -> int | None:
    match = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("content-range", "").strip(), re.ASCII)
    return int(match[1]) if match else None


def _published_by(answer: http.Answer) -> str | None:
    """The sha256 that Hugging Face gives of a large file, in the answer that redirects to it."""
    for headers in (*answer.hop_headers, answer.headers):
        found = headers.get("x-linked-etag", "").strip('"').lower()
        if re.fullmatch(r"[0-9a-f]{64}", found):
            return found
    return None
