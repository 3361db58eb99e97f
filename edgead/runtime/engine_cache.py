"""Cache files of TensorRT: what a build has measured, and what a start has compiled. They save time and nothing else.

`tensorrt` measures which of its kernels are fast on this card: its timing cache makes the next build a matter of
seconds. `tensorrt_rtx` compiles kernels while an engine is opened: its runtime cache spares the next start that. Its
own timing cache does nothing (NVIDIA's words since 1.2), and `tensorrt` has no runtime cache.

Each is a file of the user's cache folder, for one TensorRT on one card. What is damaged, foreign or cannot be written
is a sentence in the log, and the work is done again.
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
_SUM_BYTES = 32  # sha256 of the rest, in front of it


@dataclass(frozen=True, slots=True)
class CacheFile:
    """One cache of one TensorRT on one card."""

    path: Path

    def read(self) -> bytes:
        """Read what was kept; empty where there is nothing, or nothing that may be used."""
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
        """Log why what is there is not used; `keep` then puts something else in its place."""
        logger.warning("%s %s: it is not used, and written again", self.path, problem)

    def keep(self, content: bytes) -> None:
        """Write it, readable by this user alone, unless the system refuses."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self.path, hashlib.sha256(content).digest() + content, durable=False, mode=0o600)
        except OSError as error:
            logger.warning("%s cannot be written (%s): the next time takes as long again", self.path, error)


def cache_file(kind: Literal["timing", "runtime"], flavour: Flavour, gpu: Gpu) -> CacheFile:
    """Name the file for a TensorRT and a card; another version or another card has another one."""
    card = re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name} {gpu.target}").strip("-")
    return CacheFile(_folder() / f"{kind}.{flavour.name}-{flavour.version}.{card}")


def _folder() -> Path:
    """The user's cache folder, or the one that systemd makes for a service (CacheDirectory=), which has no home."""
    of_service = os.environ.get("CACHE_DIRECTORY", "").partition(os.pathsep)[0]
    of_user = os.environ.get("XDG_CACHE_HOME", "")
    if of_service:
        return Path(of_service) / "tensorrt"
    # A user without a home gets one that cannot be written, which `keep` reports.
    return Path(of_user or Path("/", os.path.expanduser("~"), ".cache")) / "edgead" / "tensorrt"
