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

FEWEST_CHARACTERS = 12
MAX_CHARACTERS = 256
PIN = re.compile(r"[0-9]{4,8}")
# Of what remains of a password without all that guesses begin with.
_FEWEST_LETTERS = 4
_ROWS = """
    1234567890 abcdefghijklmnopqrstuvwxyz qwertyuiop qwertzuiop azertyuiop asdfghjkl zxcvbnm yxcvbnm
    1q2w3e4r5t6y7u8i9o0p 1q2w3e4r5t6z7u8i9o0p 1qaz2wsx3edc4rfv5tgb6yhn7ujm 1qay2wsx3edc4rfv5tgb
""".split()
_DIGITS = str.maketrans("013457@$!|", "oleastasil")
# What public lists of the most used passwords are made of, in English and German, and what is near at hand here.
_WORDS = """
    password passwort passwd administrator admin manager master welcome willkommen login letmein changeme default secret
    geheim kennwort iloveyou ichliebedich mylove sunshine princess superman batman spiderman jamesbond starwars pokemon
    dragon monkey football fussball baseball basketball soccer hockey liverpool chelsea arsenal barcelona realmadrid
    manchester united bayern schalke dortmund michael jessica charlie jennifer daniel thomas andreas alexander computer
    internet windows microsoft google facebook samsung trustno whatever hello hallo test user guest qwerty qwertz azerty
    spring summer autumn winter fruehling frühling sommer herbst january february march april june july august september
    october november december januar februar maerz märz juni juli oktober dezember monday tuesday wednesday thursday
    friday saturday sunday montag dienstag mittwoch donnerstag freitag samstag sonntag schatz hase mausi baby love angel
    flower cookie cheese pepper ginger forever please access server service system support security network database
    engineer operator inspection inspektion quality qualitaet qualität camera kamera factory fabrik production
    produktion machine maschine edgead
""".split()  # fmt: skip
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


def is_known(password: str) -> bool:
    """Whether a password is one of those that are tried first: known words, rows of keys and repetitions, and no more.

    Digits that stand for letters, and what is put around and between, make no other one of it.
    """
    left = unicodedata.normalize("NFKC", password).casefold()
    if len(set(left)) <= _FEWEST_LETTERS:
        return True
    for row in _ROWS:
        for keys in (row * 2, (row * 2)[::-1]):
            for length in range(len(row), _FEWEST_LETTERS - 1, -1):
                for begin in range(len(row)):
                    left = left.replace(keys[begin : begin + length], "")
    left = "".join(letter for letter in left.translate(_DIGITS) if letter.isalpha())
    for word in sorted(_WORDS, key=len, reverse=True):
        left = left.replace(word, "")
    return len(set(left)) < _FEWEST_LETTERS


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
