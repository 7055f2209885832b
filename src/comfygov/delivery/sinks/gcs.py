"""Google Cloud Storage by Google's own library: it knows every way to credentials (workload identity too)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from comfygov.delivery.outputs import sum_and_size
from comfygov.delivery.sinks import missing
from comfygov.errors import Code, GovError
from comfygov.model.delivery import OutputMode, Uploaded

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 300.0
_HINT = "GOOGLE_APPLICATION_CREDENTIALS names a key file; gcloud auth application-default login makes one for you"


class GcsSink:
    """One bucket. STORAGE_EMULATOR_HOST is honoured, GOOGLE_APPLICATION_CREDENTIALS and all that google-auth knows.
    Signed addresses are made where `url_seconds` is given; others can be fetched by who may read the bucket."""

    kind: OutputMode = "gcs"

    def __init__(self, bucket: str, url_seconds: int | None) -> None:
        try:
            from google.cloud import storage
            from google.cloud.storage.retry import DEFAULT_RETRY
        except ImportError as error:
            raise missing("google-cloud-storage", "gcs", error) from error
        from google.auth.exceptions import DefaultCredentialsError

        self._retry: Any = DEFAULT_RETRY.with_timeout(_SECONDS)
        self._url_seconds = url_seconds
        try:
            self._client: Any = storage.Client()
        except (DefaultCredentialsError, OSError) as error:
            raise GovError(
                Code.PERMISSION, f"there are no credentials for Google Cloud Storage: {error}", _HINT
            ) from error
        self._bucket: Any = self._client.bucket(bucket)

    def put(self, path: Path, key: str, media_type: str) -> Uploaded:
        checksum, size = sum_and_size(path)
        blob = self._bucket.blob(key)
        blob.metadata = {"sha256": checksum}
        # Sent again after a lost answer: the same bytes under the same name.
        blob.upload_from_filename(
            str(path), content_type=media_type, timeout=_SECONDS, retry=self._retry, checksum="crc32c"
        )
        uri = f"gs://{self._bucket.name}/{key}"
        return Uploaded(uri, self._signed(blob) if self._url_seconds else "", size, checksum)

    def _signed(self, blob: Any) -> str:  # noqa: ANN401 (the library has no types)
        from google.auth.exceptions import DefaultCredentialsError

        lifetime = dt.timedelta(seconds=self._url_seconds or 0)
        try:
            return str(blob.generate_signed_url(version="v4", expiration=lifetime, method="GET", **self._signer()))
        except (AttributeError, TypeError, DefaultCredentialsError) as error:
            message = f"these credentials cannot sign addresses: {error}"
            raise GovError(Code.PERMISSION, message, "use a service account, or leave --url-seconds out") from error

    def _signer(self) -> dict[str, Any]:
        """Without a private key here, Google signs for the account of the machine (IAM signBlob)."""
        import google.auth
        from google.auth.credentials import AnonymousCredentials, Signing
        from google.auth.transport.requests import Request

        credentials = self._client._credentials  # noqa: SLF001 (the library offers no other way to them)
        if isinstance(credentials, AnonymousCredentials):  # an emulator asks for none; an address needs some
            credentials, _ = google.auth.default(scopes=("https://www.googleapis.com/auth/devstorage.read_only",))
        if isinstance(credentials, Signing):
            return {"credentials": credentials}
        if not getattr(credentials, "service_account_email", ""):
            raise TypeError("they belong to no service account")
        credentials.refresh(Request())
        return {"service_account_email": str(credentials.service_account_email), "access_token": str(credentials.token)}
