"""The file of people, and the verb that writes it."""

from __future__ import annotations

import io
import json
import os
import stat
import sys

import pytest
from typer.testing import CliRunner

from edgead.cli.app import app
from edgead.errors import SettingsError
from edgead.line.site import users
from edgead.line.site.http import HttpSection
from edgead.line.site.users import User, find_user, hash_secret, is_known, is_secret, read_users, user_name, write_users

PASSWORD = "four words are enough"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "users.yaml"


def run(file, *words: str, given: str = "") -> dict:
    done = CliRunner().invoke(app, ["user", *words, "--users", str(file), "--json"], input=given)
    if isinstance(done.exception, SettingsError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_person_is_added_changed_and_removed(file):
    run(file, "add", "Anna", "--role", "view", given=f"{PASSWORD}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run(file, "role", "anna", "--role", "engineer")
    run(file, "pin", "ANNA", given="2580\n")
    user = read_users(file)["Anna"]
    assert user.role == "engineer" and is_secret(user.password, PASSWORD) and is_secret(user.pin, "2580")
    assert run(file, "list")["users"] == {"Anna": {"role": "engineer", "pin": True}}
    run(file, "passwd", "Anna", given="five words are better\n")
    assert not is_secret(read_users(file)["Anna"].password, PASSWORD)
    run(file, "pin", "Anna", given="\n")
    assert read_users(file)["Anna"].pin is None
    assert PASSWORD not in file.read_text() and "2580" not in file.read_text()
    run(file, "remove", "anna")
    assert read_users(file) == {}


@pytest.mark.parametrize(
    ("words", "given", "reason"),
    [
        (["add", "Otto"], PASSWORD, "--role is missing"),
        (["add"], PASSWORD, "needs a name"),
        (["add", "otto", "--role", "view"], "eleven char", "12 to 256"),
        (["add", "otto", "--role", "view"], "P@ssw0rd-2026!", "made of what is tried first"),
        (["add", "otto", "--role", "view"], "otto is enough", "holds the name"),
        (["add", "ANNA", "--role", "view"], PASSWORD, "is there already"),
        (["add", "Eve (signed in)", "--role", "view"], PASSWORD, "a name is"),
        (["passwd", "nobody"], PASSWORD, "there is no 'nobody', known are Anna"),
        (["passwd", "anna", "--role", "view"], PASSWORD, "takes no --role"),
        (["pin", "anna"], "1234", "not in a row"),
        (["pin", "anna"], "0000", "not all the same"),
        (["pin", "anna"], "123", "4 to 8 digits"),
        (["pin", "anna"], "٢٥٨٠", "4 to 8 digits"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(file, words, given, reason):
    write_users(file, {"Anna": User(role="view", password=hash_secret(PASSWORD))})
    before = file.read_bytes()
    with pytest.raises(SettingsError, match=reason):
        run(file, *words, given=given)
    assert file.read_bytes() == before


def test_a_password_is_asked_for_twice_at_a_terminal(file, monkeypatch):
    answers = [PASSWORD, PASSWORD[::-1]]
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    from edgead.cli.line.user import _asked

    with pytest.raises(SettingsError, match="differ"):
        _asked("Password")
    assert answers == []


@pytest.mark.parametrize(
    "text", ["- anna", "anna: view", "anna: {role: emperor, password: x}", "a: &b c", "anna: {role: view}"]
)
def test_a_file_of_something_else_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(SettingsError, match="users.yaml"):
        read_users(file)


def test_names_that_nobody_can_tell_apart_are_one(file):
    user = User(role="view", password=hash_secret(PASSWORD))
    file.write_text("")
    assert read_users(file) == {}
    write_users(file, {"Jürgen": user, "jürgen": user})
    with pytest.raises(SettingsError, match="case alone"):
        read_users(file)
    assert find_user({"Jürgen": user}, "JU\u0308RGEN ")[0] == "Jürgen"
    for bad in ("", " ", "a" * 65, "a,b", "a\nb", "a(b)", "-a", "a\u200bb", "a\u202eb"):
        with pytest.raises(ValueError, match="a name is"):
            user_name(bad)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can leave a file to another user"
)
def test_root_leaves_the_file_to_whom_it_belongs(file):
    users = {"Anna": User(role="view", password=hash_secret(PASSWORD))}
    write_users(file, users)
    os.chown(file, 12345, 12345)
    file.chmod(0o644)
    write_users(file, users)
    found = file.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (12345, 0o600)


def test_without_the_package_the_error_names_its_extra(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "argon2", None)
    users._hasher.cache_clear()
    with pytest.raises(SettingsError, match=r"need argon2-cffi: .*people"):
        run(file, "add", "Anna", "--role", "view", given=PASSWORD)
    assert not file.exists()


def test_a_hash_differs_each_time_and_is_argon2id():
    one, other = hash_secret(PASSWORD), hash_secret(PASSWORD)
    assert one != other and one.startswith("$argon2id$")
    assert not is_secret(None, PASSWORD) and not is_secret("$argon2id$broken", PASSWORD)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"host": "0.0.0.0"}, "give a token or users"),
        ({"tokens": {"mes": {"token": "short"}}}, "shorter than 16"),
        ({"token": "t" * 16, "tokens": {"mes": {"token": "t" * 16}}}, "same token"),
        ({"panels": {"a": {"token": "t" * 16}}, "tokens": {"a": {"token": "u" * 16}}}, "same name"),
        ({"panels": {"a": {"token": "t" * 16, "role": "engineer"}}}, "view"),
        ({"proxy": {"from": [], "roles": {"a": "view"}}}, "at least 1"),
        ({"proxy": {"from": ["0.0.0.0/0"], "roles": {"a": "view"}}}, "believes everybody"),
        ({"proxy": {"from": ["::/0"], "roles": {"a": "view"}}}, "believes everybody"),
        ({"proxy": {"from": ["10.0.0.1"], "roles": {}}}, "at least 1"),
        ({"proxy": {"from": ["10.0.0.1", "127.0.0.1/32"], "roles": {"a": "view"}}}, "needs a secret"),
        ({"proxy": {"from": ["::1"], "roles": {"a": "view"}}}, "needs a secret"),
        ({"proxy": {"from": ["10.0.0.1"], "roles": {"a": "view"}, "user_header": "X_User"}}, "pattern"),
        ({"proxy": {"from": ["10.0.0.1"], "roles": {"a": "view"}, "groups_header": "x-forwarded-user"}}, "different"),
    ],
)
def test_a_section_that_lets_in_the_wrong_ones_is_refused(section, reason):
    with pytest.raises(ValueError, match=reason):
        HttpSection.model_validate(section)


def test_anything_that_lets_people_in_allows_other_addresses():
    proxy = {"from": ["10.0.0.1"], "roles": {"a": "view"}}
    token = {"token": "t" * 16}
    for more in (
        {"users": "users.yaml"},
        token,
        {"tokens": {"mes": token}},
        {"panels": {"a": token}},
        {"proxy": proxy},
    ):
        assert not HttpSection.model_validate({"host": "0.0.0.0", **more}).is_open
    assert HttpSection().is_open


KNOWN = """passwordpassword Password2024! P@ssw0rd2024 123456789012 987654321098 qwertyuiop12 1q2w3e4r5t6y aaaaaaaaaaaa
    abcabcabcabc Administrator1 iloveyou1234 Sommer2024!! EdgeadEdgead1 willkommen1!""".split()
OWN = ("correct horse battery staple", "839201758362", "xK9#mQ2$vL5p", "Пароль от дома", "summer rain on tin roof")


@pytest.mark.parametrize("password", KNOWN)
def test_what_is_made_of_what_is_tried_first_is_known(password):
    assert is_known(password) and len(password) >= 12


@pytest.mark.parametrize("password", [PASSWORD, *OWN])
def test_what_has_more_in_it_is_not_known(password):
    assert not is_known(password)
