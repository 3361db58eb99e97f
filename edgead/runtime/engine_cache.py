"""Cache files of TensorRT: kernel timings of builds and kernels compiled at a start. They only save time.

`tensorrt` measures which of its kernels are fast on this card: with its timing cache the next build takes seconds.
`tensorrt_rtx` compiles kernels while an engine is opened: with its runtime cache the next start does not. Its own
timing cache does nothing (according to NVIDIA, since 1.2), and `tensorrt` has no runtime cache.

Each is a file in the user's cache folder, for one TensorRT on one card. If it is damaged, foreign or cannot be written,
that is logged and the work is done again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgead.files.atomic import write_whole
from edgead.files.regular_files import MissingFileError, UnreadableFileError, open_regular
from edgead.runtime.device import Gpu
from edgead.runtime.file_trust import planted
from edgead.runtime.flavour import Flavour

logger = logging.getLogger(__name__)

_MAX_BYTES = 1 << 30
_SUM_BYTES = 32  # sha256 of the content, which follows it


@dataclass(frozen=True, slots=True)
class CacheFile:
    """Cache file of one TensorRT on one card."""

    path: Path

    def read(self) -> bytes:
        """Read the content; empty if there is no usable file."""
        try:
            with open_regular(self.path, _MAX_BYTES) as (stream, found):
                problem = planted(found) or planted(os.stat(self.path.parent))
                content = b"" if problem else stream.read(found.st_size)
        except MissingFileError:
            return b""
        except UnreadableFileError as error:
            self.ignore(str(error))
            return b""
        known, content = content[:_SUM_BYTES], content[_SUM_BYTES:]
        if not problem and known != hashlib.sha256(content).digest():
            problem = "is damaged (sha256 differs)"
        if problem:
            self.ignore(problem)
            return b""
        return content

    def ignore(self, problem: str) -> None:
        """Log why the file is not used; `keep` then replaces it."""
        logger.warning("%s %s: it is not used, and written again", self.path, problem)

    def keep(self, content: bytes) -> None:
        """Write the content, readable by this user alone; a failure is only logged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self.path, hashlib.sha256(content).digest() + content, durable=False, mode=0o600)
        except OSError as error:
            logger.warning("%s cannot be written (%s): the next time takes as long again", self.path, error)


def cache_file(kind: Literal["timing", "runtime"], flavour: Flavour, gpu: Gpu) -> CacheFile:
    """Make the cache file of a TensorRT version and a card."""
    card = re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name} {gpu.target}").strip("-")
    return CacheFile(_folder() / f"{kind}.{flavour.name}-{flavour.version}.{card}")


def _folder() -> Path:
    """Return the user's cache folder, or systemd's for a service without a home (CacheDirectory=)."""
    of_service = os.environ.get("CACHE_DIRECTORY", "").partition(os.pathsep)[0]
    of_user = os.environ.get("XDG_CACHE_HOME", "")
    if of_service:
        return Path(of_service) / "tensorrt"
    # A user without a home gets a folder that cannot be written, which `keep` reports.
    return Path(of_user or Path("/", os.path.expanduser("~"), ".cache")) / "edgead" / "tensorrt"
