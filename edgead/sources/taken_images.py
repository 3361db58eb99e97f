"""Images that were taken out of a folder, or only noted as taken."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from pathlib import Path

from edgead.files.atomic import write_whole
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular
from edgead.sources.arrivals import Signature, signature_of

JOURNAL = ".edgead-taken"
_MAX_BYTES = 1 << 30


class Journal:
    """Which images of a folder were taken, in a file of the folder, so that none is taken again after a restart.

    Attributes
    ----------
    names : dict of Signature
        What was taken, by name; another image under the same name is another one.

    Raises
    ------
    OSError
        The file cannot be read or written, or is none of ours: whoever may write into the folder may have put it there.
    """

    def __init__(self, folder: Path):
        self._file = folder / JOURNAL
        if os.path.lexists(self._file) and not stat.S_ISREG(self._file.lstat().st_mode):
            raise OSError(errno.EINVAL, "is no regular file: remove it", str(self._file))
        known = self._read()
        # Without what is gone: the file does not grow for ever.
        self.names = {name: known[name] for name, found in _files(folder).items() if known.get(name) == found}
        write_whole(self._file, "".join(_line(*one) for one in self.names.items()).encode())

    def add(self, name: str, signature: Signature) -> None:
        with open(self._file, "ab", opener=_open_no_link) as stream:
            stream.write(_line(name, signature).encode())
            stream.flush()
            os.fsync(stream.fileno())
        self.names[name] = signature

    def _read(self) -> dict[str, Signature]:
        try:
            lines = read_regular(self._file, _MAX_BYTES).splitlines()
        except MissingFileError:
            return {}
        except UnreadableFileError as error:
            raise OSError(errno.EINVAL, str(error), str(self._file)) from None
        known = {}
        for line in lines:
            try:
                name, *signature = json.loads(line)
                size, modified, changed = map(int, signature)
                known[name] = (size, modified, changed)
            except (ValueError, TypeError, OverflowError, RecursionError):
                continue  # torn by a loss of power, or not of ours
        return known


def move_into(path: Path, folder: Path) -> Path:
    """Move a file into a folder, which is made, under a name that is free there.

    Raises
    ------
    OSError
        It cannot be moved, or the folder is a link.
    """
    with suppress(FileExistsError):
        folder.mkdir()
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise OSError(errno.ENOTDIR, "is a link or no folder", str(folder))
    free, number = folder / path.name, 1
    while os.path.lexists(free):
        number += 1
        free = folder / f"{path.stem}-{number}{path.suffix}"
    path.rename(free)
    return free


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)


def _files(folder: Path) -> dict[str, Signature]:
    with os.scandir(folder) as entries:
        return {entry.name: signature_of(entry.stat(follow_symlinks=False)) for entry in entries}


def _line(name: str, signature: Signature) -> str:
    return json.dumps([name, *signature]) + "\n"  # ASCII: a name need not be UTF-8
