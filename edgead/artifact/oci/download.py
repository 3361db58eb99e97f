"""Download of a blob into a file, in as many pieces as it takes."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from edgead.artifact.oci.package import Blob
from edgead.artifact.oci.tokens import RegistryError

_BLOCK = 1 << 16


class WrongBytesError(RegistryError):
    """Other bytes came than were asked for."""


class Download:
    """What is there of a blob, hashed as it comes.

    Parameters
    ----------
    blob : Blob
    stream : BinaryIO
        Open for reading and appending; may have the beginning of the blob.
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
        """Take the next bytes.

        Raises
        ------
        WrongBytesError
            There are more than the blob has.
        """
        if self.have + len(block) > self.blob.size:
            raise WrongBytesError(f"more than the {self.blob.size} bytes come that {self.blob.digest[:19]} has")
        self._stream.write(block)
        self._hash.update(block)
        self.have += len(block)
        self.came += len(block)

    def check(self) -> None:
        """Raise WrongBytesError where the whole is not what was asked for."""
        if f"sha256:{self._hash.hexdigest()}" != self.blob.digest:
            raise WrongBytesError(f"other bytes come than those of {self.blob.digest[:19]}: they are not used")
