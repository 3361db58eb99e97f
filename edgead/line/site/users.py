"""Users who sign in by name: a file of names, roles and hashes, written by `edgead user`.

Passwords and PINs are kept as hashes of Argon2id.
"""

from __future__ import annotations

import os
import re
import secrets
import unicodedata
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, RootModel, ValidationError

from edgead.components.options import Section
from edgead.errors import SettingsError, tell_invalid
from edgead.files.atomic import write_whole
from edgead.files.strict_yaml import load_yaml
from edgead.process.installation import install_command

if TYPE_CHECKING:
    from argon2 import PasswordHasher

FEWEST_CHARACTERS = 12
MAX_CHARACTERS = 256
PIN = re.compile(r"[0-9]{4,8}")
# Fewest different letters of a password after all common parts are removed.
_FEWEST_LETTERS = 4
_ROWS = """
    1234567890 abcdefghijklmnopqrstuvwxyz qwertyuiop qwertzuiop azertyuiop asdfghjkl zxcvbnm yxcvbnm
    1q2w3e4r5t6y7u8i9o0p 1q2w3e4r5t6z7u8i9o0p 1qaz2wsx3edc4rfv5tgb6yhn7ujm 1qay2wsx3edc4rfv5tgb
""".split()
_DIGITS = str.maketrans("013457@$!|", "oleastasil")
# Words that public lists of the most used passwords are made of, in English and German, and words from around here.
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
# OWASP's smallest setting (Password Storage Cheat Sheet): one thread and 19 MiB, since inspection runs beside it. The
# library's default takes six times the processor's time, on four threads.
_TIME, _MEMORY_KIB, _LANES = 2, 19 * 1024, 1
_HEADER = "# Written by `edgead user`. The daemon reads it again when it changes.\n"
_MAX_NAME = 64
_BETWEEN = " .-_@'"


def check_argon2() -> None:
    """Raise SettingsError if the package for hashes is missing."""
    _hasher()


def hash_secret(secret: str) -> str:
    """Hash a password or a PIN with a new salt."""
    return _hasher().hash(_bytes(secret))


def is_secret(stored: str | None, given: str) -> bool:
    """Return whether a secret fits a hash; without a hash the call takes the same time, and returns False.

    Raises SettingsError: the package argon2-cffi is not installed.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(stored or _of_nobody(), _bytes(given))
    except (InvalidHashError, VerificationError):
        return False
    return stored is not None


def is_easy(pin: str) -> bool:
    """Return whether a PIN is easy to guess: equal digits, or digits in a row such as 1234."""
    steps = {int(after) - int(before) for before, after in pairwise(pin)}
    return len(steps) == 1 and steps <= {-1, 0, 1}


def is_known(password: str) -> bool:
    """Return whether a password consists only of pieces that attackers guess first: words, rows of keys, repetitions.

    Digits in place of letters, and other characters around or between such pieces, do not make it better.
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
    # Two keyboards may encode the same letter in two ways.
    return unicodedata.normalize("NFKC", secret).encode("utf-8", "surrogatepass")


Role = Literal["view", "operate", "engineer"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role may do all that the roles before it may."""


def user_name(name: str) -> str:
    """Check the name of a person, which the audit shows as it is.

    Letters and digits of any script, with spaces and `. - _ @ '` between them: no name can imitate edgead's additions.

    Raises ValueError: the name is not valid.
    """
    name = unicodedata.normalize("NFC", name).strip()
    plain = "".join(letter for letter in name if letter not in _BETWEEN)
    if not (name and len(name) <= _MAX_NAME and plain.isalnum() and name[0].isalnum()):
        raise ValueError(f"a name is 1 to {_MAX_NAME} letters and digits, with {_BETWEEN!r} between them")
    return name


def same_name(name: str) -> str:
    """Normalize a name: names that differ only by case or by encoding of letters become equal."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


Hash = Annotated[str, Field(pattern=r"^\$argon2id\$[\x21-\x7e]{20,300}$")]


class User(Section):
    """Record of a person: role, and hashes of password and PIN."""

    role: Role
    password: Annotated[Hash, Field(repr=False)]
    pin: Annotated[Hash | None, Field(repr=False)] = None


class _Users(RootModel[dict[Annotated[str, AfterValidator(user_name)], User]]):
    pass


def read_users(path: Path) -> dict[str, User]:
    """Read the users of a file, by name; empty if there is no file.

    Raises SettingsError: the file cannot be read, has not the form that `edgead user` writes, or two names differ only
        by case.
    """
    if not path.exists():
        return {}
    content = load_yaml(path).content
    try:
        users = _Users.model_validate(content or {}).root
    except ValidationError as error:
        raise SettingsError(
            f"{path}: {tell_invalid(error.errors(), whole='the file')}; `edgead user` writes it"
        ) from None
    if len({same_name(name) for name in users}) < len(users):
        raise SettingsError(f"{path}: two names differ by their case alone: remove one")
    return users


def check_users(path: Path) -> None:
    """Raise SettingsError if a file of users lets nobody sign in: it has no user, or cannot be read."""
    if not read_users(path):
        raise SettingsError(f"{path} has nobody: `edgead user add`")


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Write a file of users atomically, readable only by its owner; if root writes it, its owner stays the same.

    Raises OSError: the file cannot be written; the earlier one stays.
    """
    content = {name: user.model_dump(exclude_none=True) for name, user in sorted(users.items())}
    text = _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    before = path.stat() if path.exists() else None
    write_whole(path, text.encode(), mode=0o600)
    if before is not None and before.st_uid != path.stat().st_uid:
        os.chown(path, before.st_uid, before.st_gid)  # else the daemon, of another user, could not read it


def find_user(users: Mapping[str, User], name: str) -> tuple[str, User] | None:
    """Find a person by the typed name; return the stored name with the record, or None."""
    asked = same_name(name)
    return next(((known, user) for known, user in users.items() if same_name(known) == asked), None)
