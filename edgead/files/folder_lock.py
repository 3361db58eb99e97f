"""Lock of a folder for one process: two daemons would take each other's images, and remove each other's files."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

from edgead.errors import EdgeadError

logger = logging.getLogger(__name__)

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class HeldFolderError(EdgeadError):
    """Folder that another process has locked, or that cannot be opened."""


class FolderLock:
    """Lock of a folder, held until `close` or the end of the process; it locks the folder itself and leaves no file.

    `folder`: folder to lock; made if it is missing.
    `otherwise`: advice in the message if another process holds it.
    `mode`: permissions of a folder that is made.
    Raises HeldFolderError: another process, which the message names, has locked it; or it cannot be made.
    """

    def __init__(self, folder: Path, otherwise: str, *, mode: int = 0o777):
        try:
            folder.mkdir(mode, parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise HeldFolderError(f"{folder}: cannot be made or opened: {error}; check path and rights") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._descriptor)
            if error.errno in _HELD:
                self.close()
                raise HeldFolderError(f"{folder}: is held by {holder}: {otherwise}") from None
            # A file system of the network may know no locks: then nobody can hold one.
            logger.warning("%s: cannot be locked against a second daemon: %s", folder, error.strerror)

    def close(self) -> None:
        """Release the folder; may be called more than once."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Return a text that names the process with the lock, from `/proc/locks`."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                return f"process {fields[4]}{_command(fields[4])}"
    except OSError:
        pass
    return "another process"


def _command(process: str) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    # An address may have a password in it.
    return f" ({' '.join(word for word in words if '://' not in word).strip()[-120:]})"
