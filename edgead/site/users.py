"""People who sign in by name: a file of names, roles and hashes, written by `edgead user` and read by the daemon."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, RootModel, ValidationError

from edgead.components.options import Section
from edgead.errors import SettingsError, tell_invalid
from edgead.files.atomic import write_whole
from edgead.files.strict_yaml import load_yaml

Role = Literal["view", "operate", "engineer"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""

_HEADER = "# Written by `edgead user`. The daemon reads it again when it changes.\n"
_MAX_NAME = 64
_BETWEEN = " .-_@'"


def user_name(name: str) -> str:
    """Check the name of a person, which stands in the audit as it is.

    Letters and digits of any script, with spaces and `. - _ @ '` between them: no name can look like what edgead adds.

    Raises
    ------
    ValueError
        It is none.
    """
    name = unicodedata.normalize("NFC", name).strip()
    plain = "".join(letter for letter in name if letter not in _BETWEEN)
    if not (name and len(name) <= _MAX_NAME and plain.isalnum() and name[0].isalnum()):
        raise ValueError(f"a name is 1 to {_MAX_NAME} letters and digits, with {_BETWEEN!r} between them")
    return name


def same_name(name: str) -> str:
    """Give what is equal for names that nobody can tell apart by their case or by how their letters are coded."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


Hash = Annotated[str, Field(pattern=r"^\$argon2id\$[\x21-\x7e]{20,300}$")]


class User(Section):
    """What is known of a person."""

    role: Role
    password: Annotated[Hash, Field(repr=False)]
    pin: Annotated[Hash | None, Field(repr=False)] = None


class _Users(RootModel[dict[Annotated[str, AfterValidator(user_name)], User]]):
    pass


def read_users(path: Path) -> dict[str, User]:
    """Read the users of a file, by name; none where there is no file.

    Raises
    ------
    SettingsError
        It cannot be read, is not what `edgead user` writes, or two names differ by their case alone.
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


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Write a file of users, atomically; nobody but its owner can read it, and root leaves it to the owner it had.

    Raises
    ------
    OSError
        It cannot be written; what was there stays.
    """
    content = {name: user.model_dump(exclude_none=True) for name, user in sorted(users.items())}
    text = _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    before = path.stat() if path.exists() else None
    write_whole(path, text.encode(), mode=0o600)
    if before is not None and before.st_uid != path.stat().st_uid:
        os.chown(path, before.st_uid, before.st_gid)  # else the daemon, of another user, could not read it


def find_user(users: Mapping[str, User], name: str) -> tuple[str, User] | None:
    """Find a person by a name as people write it; gives the name as it is on record."""
    asked = same_name(name)
    return next(((known, user) for known, user in users.items() if same_name(known) == asked), None)
