"""Passwords and PINs, kept as hashes of Argon2id."""

from __future__ import annotations

import re
import secrets
import unicodedata
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from edgead.errors import SettingsError
from edgead.process.installation import install_command

if TYPE_CHECKING:
    from argon2 import PasswordHasher

FEWEST_CHARACTERS = 10
MOST_CHARACTERS = 256
PIN = re.compile(r"[0-9]{4,8}")
# OWASP's smallest setting (Password Storage Cheat Sheet): one thread, and 19 MiB, for inspection runs beside it. The
# library's own takes six times the processor's time, on four threads.
_TIME, _MEMORY_KIB, _LANES = 2, 19 * 1024, 1


def check_argon2() -> None:
    """Raise SettingsError where the package of the hashes is not installed."""
    _hasher()


def hash_secret(secret: str) -> str:
    """Hash a password or a PIN, with a salt of its own."""
    return _hasher().hash(_bytes(secret))


def is_secret(stored: str | None, given: str) -> bool:
    """Compare what was given with a hash; without a hash it takes as long, and is wrong.

    Raises
    ------
    SettingsError
        The package argon2-cffi is not installed.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(stored or _of_nobody(), _bytes(given))
    except (InvalidHashError, VerificationError):
        return False
    return stored is not None


def is_easy(pin: str) -> bool:
    """Whether a PIN is one of those that are tried first: digits that are equal, or in a row."""
    steps = {int(after) - int(before) for before, after in pairwise(pin)}
    return len(steps) == 1 and steps <= {-1, 0, 1}


@cache
def _hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ModuleNotFoundError:
        raise SettingsError(f"names, passwords and PINs need argon2-cffi: {install_command('people')}") from None
    return PasswordHasher(time_cost=_TIME, memory_cost=_MEMORY_KIB, parallelism=_LANES)


@cache
def _of_nobody() -> str:
    return hash_secret(secrets.token_hex())


def _bytes(secret: str) -> bytes:
    # Two keyboards may code the same letter in two ways.
    return unicodedata.normalize("NFKC", secret).encode("utf-8", "surrogatepass")
