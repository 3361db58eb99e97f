"""Verb `user`: sets who may sign in on the daemon's page by name."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from edgead.cli.app import Json, app, print_report
from edgead.cli.console import stderr
from edgead.errors import SettingsError
from edgead.line.site.users import Role, User, find_user, read_users, user_name, write_users

UserAction = Literal["add", "remove", "list", "passwd", "role", "pin"]


@app.command()
def user(
    action: Annotated[
        UserAction,
        typer.Argument(
            help="`add` or `remove` a person; `passwd`: change the password; `role`: change the role; `pin`: set a "
            "PIN for panels, an empty PIN removes it; `list` all people."
        ),
    ],
    name: Annotated[str | None, typer.Argument(help="Name of the person, as the list of changes shows it.")] = None,
    role: Annotated[
        Role | None, typer.Option(help="Role of the person, which sets the person's rights; for `add` and `role`.")
    ] = None,
    users: Annotated[
        Path, typer.Option(help="File of the people: the file that `http.users` in the site file names.")
    ] = Path("users.yaml"),
    json: Json = False,
) -> None:
    """Set who may sign in on the daemon's page by name; it asks for passwords and PINs, or reads them from a pipe."""
    known = read_users(users)
    if action == "list":
        listed = {each: {"role": kept.role, "pin": kept.pin is not None} for each, kept in known.items()}
        print_report({"file": str(users), "users": listed}, json, lambda: _table(users, known))
        return
    if name is None:
        raise SettingsError(f"edgead user {action} needs a name")
    if (role is not None) != (action in ("add", "role")):
        raise SettingsError(f"edgead user {action}: {'it takes no --role' if role else '--role is missing'}")
    name, changed = _changed(users, known, action, name, role)
    others = {each: kept for each, kept in known.items() if each != name}
    write_users(users, others | ({name: changed} if changed else {}))
    if os.name == "posix" and os.geteuid() == 0 and users.stat().st_uid == 0:
        stderr.print(f"note: {users} belongs to root: a daemon of another user cannot read it", style="yellow")
    report = {"file": str(users), "name": name, "action": action, "role": changed.role if changed else None}
    print_report(report, json, lambda: f"{action} {name}: {users} is written")


def _changed(
    users: Path, known: dict[str, User], action: UserAction, name: str, role: Role | None
) -> tuple[str, User | None]:
    """Return a person's name with the new entry for the file, or with None to remove the entry."""
    from edgead.line.site.users import check_argon2, hash_secret

    check_argon2()  # before anything is asked for
    found = find_user(known, name)
    if action == "add":
        if found is not None:
            raise SettingsError(f"{users}: {found[0]} is there already: passwd, role and pin change what is known")
        try:
            name = user_name(name)
        except ValueError as error:
            raise SettingsError(f"{name!r}: {error}") from None
        assert role is not None
        return name, User(role=role, password=hash_secret(_asked_password(name)))
    if found is None:
        raise SettingsError(f"{users}: there is no {name!r}, known are {', '.join(known) or 'none'}")
    name, user = found
    if action == "passwd":
        return name, user.model_copy(update={"password": hash_secret(_asked_password(name))})
    if action == "pin":
        pin = _asked_pin(name)
        return name, user.model_copy(update={"pin": hash_secret(pin) if pin else None})
    return name, user.model_copy(update={"role": role}) if role else None


def _asked_password(name: str) -> str:
    from edgead.line.site.users import FEWEST_CHARACTERS, MAX_CHARACTERS, is_known

    password = _asked(f"Password of {name}")
    if not FEWEST_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise SettingsError(
            f"a password has {FEWEST_CHARACTERS} to {MAX_CHARACTERS} characters: four words are easy to keep"
        )
    if name.casefold() in password.casefold():
        raise SettingsError("the password holds the name: choose another one")
    if is_known(password):
        raise SettingsError("the password is made of what is tried first: four words of your own are easy to keep")
    return password


def _asked_pin(name: str) -> str:
    from edgead.line.site.users import PIN, is_easy

    pin = _asked(f"PIN of {name}")
    if pin and (not PIN.fullmatch(pin) or is_easy(pin)):
        raise SettingsError("a PIN has 4 to 8 digits, not all the same and not in a row")
    return pin


def _asked(what: str) -> str:
    """Ask twice for a secret at a terminal; without one read a line of stdin, for scripts that set up many devices."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    given = getpass.getpass(f"{what}: ")
    if getpass.getpass("Again: ") != given:
        raise SettingsError("the two differ: nothing is written")
    return given


def _table(users: Path, known: dict[str, User]) -> Table:
    table = Table(title=str(users), title_justify="left")
    for column in ("name", "role", "PIN"):
        table.add_column(column)
    for name, user in known.items():
        table.add_row(name, user.role, "yes" if user.pin else "")
    return table
