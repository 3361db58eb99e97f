"""Repository of a registry: its tags' digests, its manifests, and its blobs with resumable downloads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlencode

from edgead.artifact.oci.client import REDIRECTS, Client, RegistryError
from edgead.artifact.oci.package import MANIFEST_TYPE, MAX_MANIFEST_BYTES, Blob, digest_of
from edgead.artifact.oci.reference import Reference

if TYPE_CHECKING:
    import httpx

_BLOCK = 1 << 16
# A slower average is taken for a connection that hangs.
_SLOWEST_BYTES_S = 8192
_ATTEMPTS = 4
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class WrongBytesError(RegistryError):
    """Received bytes that do not match the requested digest or size."""


class Download:
    """Partial download of a blob, hashed while its bytes arrive.

    `stream`: file open for reading and appending; may hold the beginning of the blob.
    """

    def __init__(self, blob: Blob, stream: BinaryIO):
        self.blob = blob
        self.have = self.came = 0
        self._stream, self._hash = stream, hashlib.sha256()
        stream.seek(0)
        while block := stream.read(_BLOCK):
            self._hash.update(block)
            self.have += len(block)
        if self.have > blob.size:
            self.begin_again()

    @property
    def whole(self) -> bool:
        return self.have == self.blob.size

    def begin_again(self) -> None:
        self._stream.truncate(0)
        self.have, self._hash = 0, hashlib.sha256()

    def add(self, block: bytes) -> None:
        """Append the next bytes.

        Raises WrongBytesError: the blob has fewer bytes.
        """
        if self.have + len(block) > self.blob.size:
            raise WrongBytesError(f"more than the {self.blob.size} bytes come that {self.blob.digest[:19]} has")
        self._stream.write(block)
        self._hash.update(block)
        self.have += len(block)
        self.came += len(block)

    def check(self) -> None:
        """Raise WrongBytesError unless the complete blob has the requested digest."""
        if f"sha256:{self._hash.hexdigest()}" != self.blob.digest:
            raise WrongBytesError(f"other bytes come than those of {self.blob.digest[:19]}: they are not used")


class Repository:
    """Repository of a reference; must be closed.

    `transport`: replaces the network, for tests.
    """

    def __init__(self, reference: Reference, transport: httpx.BaseTransport | None = None):
        self.reference = reference
        self._client = Client(reference, transport)

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def digest(self) -> str:
        """Ask for the digest of the reference's tag.

        Raises RegistryError: the registry cannot be reached, or has no such tag.
        """
        response, _ = self._client.answer(
            "HEAD", f"manifests/{self.reference.wanted}", headers={"Accept": MANIFEST_TYPE}
        )
        digest = response.headers.get("docker-content-digest", "")
        self._expect(response, 200)
        # The standard does not demand the header; the manifest itself always gives the digest.
        return digest if _DIGEST.fullmatch(digest) else self.manifest()[0]

    def manifest(self) -> tuple[str, bytes]:
        """Read the manifest of the reference, with its digest.

        Raises RegistryError: the manifest is missing, or does not have the requested digest.
        """
        path = f"manifests/{self.reference.wanted}"
        response, body = self._client.answer("GET", path, MAX_MANIFEST_BYTES, headers={"Accept": MANIFEST_TYPE})
        self._expect(response, 200)
        if not body.lstrip().startswith(b"{"):
            raise RegistryError(
                f"{self.reference}: the registry sends something else than a manifest, such as the page of a sign-in: "
                "look at the address"
            )
        digest = digest_of(body)
        if self.reference.digest not in ("", digest):
            raise RegistryError(f"{self.reference}: the registry sends another manifest than was asked for")
        return digest, body

    def put_manifest(self, content: bytes) -> str:
        """Upload a manifest under the reference's tag; return its digest."""
        path, headers = f"manifests/{self.reference.wanted}", {"Content-Type": MANIFEST_TYPE}
        response, _ = self._client.answer("PUT", path, headers=headers, content=content)
        self._expect(response, 201)
        return digest_of(content)

    def has(self, blob: Blob) -> bool:
        response, _ = self._client.answer("HEAD", f"blobs/{blob.digest}")
        if response.status_code == 404:
            return False
        if response.status_code not in REDIRECTS:  # redirected to its storage
            self._expect(response, 200)
        return True

    def put(self, blob: Blob, content: BinaryIO) -> None:
        """Upload a blob in one request; the registry checks its digest."""
        response, _ = self._client.answer("POST", "blobs/uploads/")
        self._expect(response, 202)
        url = self._client.place(response)
        url += ("&" if "?" in url else "?") + urlencode({"digest": blob.digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        response, _ = self._client.answer("PUT", url, headers=headers, content=content, within_s=_longest_s(blob.size))
        self._expect(response, 201)

    def fetch(self, blob: Blob, file: Path, pace: Callable[[int], None] = lambda count: None) -> int:
        """Download a blob into a file, which may hold its beginning; return the number of bytes received.

        `pace`: called with the number of bytes of each block; may wait.
        Raises RegistryError: the registry cannot be reached; `file` keeps what was received, for the next attempt.
        Raises WrongBytesError: the registry sends other content; `file` is removed.
        """
        with file.open("a+b") as stream:
            download = Download(blob, stream)
            try:
                for attempt in range(_ATTEMPTS):
                    if download.whole:
                        break
                    self._go_on(download, pace, last=attempt == _ATTEMPTS - 1)
                download.check()
            except WrongBytesError as error:
                file.unlink()
                raise WrongBytesError(f"{self.reference}: {error}") from None
            return download.came

    def _go_on(self, download: Download, pace: Callable[[int], None], *, last: bool) -> None:
        """Receive missing bytes; a response that ends early is an error if it is the `last` attempt or was empty."""
        before = download.came
        try:
            self._receive(download, pace)
        except WrongBytesError:
            raise
        except RegistryError:
            if last or download.came == before:
                raise
        if not download.whole and (last or download.came == before):
            raise RegistryError(f"{self.reference}: the transfer ended before its end; it goes on with the next pull")

    def _receive(self, download: Download, pace: Callable[[int], None]) -> None:
        blob, have = download.blob, download.have
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._client.followed(f"blobs/{blob.digest}", headers, _longest_s(blob.size)) as response:
            if response.status_code == 206:
                if not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                    raise WrongBytesError("another range comes than was asked for")
            else:
                self._expect(response, 200)
                download.begin_again()
            for block in response.iter_raw():
                download.add(block)
                pace(len(block))

    def _expect(self, response: httpx.Response, status: int) -> None:
        code = response.status_code
        if code == status:
            return
        if code == 404:
            raise RegistryError(f"{self.reference}: the registry has none")
        raise RegistryError(f"{self.reference}: the registry answers {code}, expected was {status}")


def _longest_s(size: int) -> float:
    return 60.0 + size / _SLOWEST_BYTES_S
