"""Images that were taken out of a folder, or only noted as taken."""

from __future__ import annotations

import json
import os
from pathlib import Path

from edgead.files.atomic import write_whole
from edgead.sources.arrivals import Signature, signature_of

JOURNAL = ".edgead-taken"


class Journal:
    """Which images of a folder were taken, in a file of the folder, so that none is taken again after a restart.

    Attributes
    ----------
    names : dict of Signature
        What was taken, by name; another image under the same name is another one.

    Raises
    ------
    OSError
        The file cannot be read or written.
    """

    def __init__(self, folder: Path):
        self._file = folder / JOURNAL
        known = self._read()
        # Without what is gone: the file does not grow for ever.
        self.names = {name: known[name] for name, found in _files(folder).items() if known.get(name) == found}
        write_whole(self._file, "".join(_line(*one) for one in self.names.items()).encode())

    def add(self, name: str, signature: Signature) -> None:
        with open(self._file, "ab") as stream:
            stream.write(_line(name, signature).encode())
            stream.flush()
            os.fsync(stream.fileno())
        self.names[name] = signature

    def _read(self) -> dict[str, Signature]:
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        known = {}
        for line in lines:
            try:
                name, *signature = json.loads(line)
                size, modified, changed = map(int, signature)
                known[name] = (size, modified, changed)
            except (ValueError, TypeError):
                continue  # torn by a loss of power
        return known


def move_into(path: Path, folder: str) -> Path:
    """Move a file into a folder beside it, under a name that is free there.

    Raises
    ------
    OSError
        It cannot be moved.
    """
    target = path.parent / folder
    target.mkdir(exist_ok=True)
    free, number = target / path.name, 1
    while os.path.lexists(free):
        number += 1
        free = target / f"{path.stem}-{number}{path.suffix}"
    path.rename(free)
    return free


def _files(folder: Path) -> dict[str, Signature]:
    with os.scandir(folder) as entries:
        return {entry.name: signature_of(entry.stat(follow_symlinks=False)) for entry in entries}


def _line(name: str, signature: Signature) -> str:
    return json.dumps([name, *signature]) + "\n"  # ASCII: a name need not be UTF-8
