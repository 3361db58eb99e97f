"""User accounts from the current file of users: passwords, PINs and roles."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from edgead.errors import SettingsError
from edgead.line.site.users import User, check_argon2, find_user, is_secret, read_users

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]


class Accounts:
    """Accounts of a file, read again when it changes; if that fails, the known accounts stay valid.

    Raises
    ------
    SettingsError
        The package for hashes is missing.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._users: dict[str, User] = {}
        self._stamp: _Stamp | None = None
        self._lock = threading.Lock()
        if path is not None:
            check_argon2()

    def find(self, name: str) -> tuple[str, User] | None:
        """Find a person in the current file; return the stored name with the record, or None."""
        return find_user(self._current(), name)

    def by_password(self, name: str, password: str) -> tuple[str, User] | None:
        """Find a person by name and password, in a time that does not reveal whether the name exists."""
        found = self.find(name)
        return found if is_secret(found[1].password if found else None, password) else None

    def by_pin(self, name: str, pin: str) -> tuple[str, User] | None:
        """Find a person by name and PIN, as `by_password` does."""
        found = self.find(name)
        return found if is_secret(found[1].pin if found else None, pin) else None

    def _current(self) -> dict[str, User]:
        if self._path is None:
            return {}
        stamp = _stamp(self._path)
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._users = read_users(self._path)
                except (SettingsError, OSError) as error:
                    logger.error("the file of users cannot be used, those known before stay: %s", error)
            return self._users


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
