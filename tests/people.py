"""People, panels, programs and a proxy for tests of who is let in: the section, the file of users, their secrets."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fake_daemon import TOKEN

from edgead.line.site.schema import HttpSection
from edgead.line.site.users import Role, User, hash_secret, write_users

PASSWORDS = {"anna": "four words are enough", "otto": "five words are enough", "vera": "six words are enough"}
ROLE_OF: dict[str, Role] = {"anna": "engineer", "otto": "operate", "vera": "view"}
PIN = "2580"
TOKENS = {role: f"token-of-a-program-that-may-{role}" for role in ("view", "operate", "engineer")}
PANEL = "token-of-the-panel-at-press-3"
PROXY_SECRET = "known-to-the-proxy-alone"


@cache
def hashed(secret: str) -> str:
    return hash_secret(secret)


def make_users(path: Path, **changed: User | None) -> Path:
    """Write a file of anna (with a PIN), otto and vera, with some of them changed or taken out."""
    users: dict[str, User | None] = {
        name: User(role=ROLE_OF[name], password=hashed(password), pin=hashed(PIN) if name == "anna" else None)
        for name, password in PASSWORDS.items()
    }
    write_users(path, {name: user for name, user in (users | changed).items() if user is not None})
    return path


def make_section(folder: Path, **more: Any) -> HttpSection:
    """Everything at once: a token, users, tokens with roles, a panel."""
    tokens = {f"may-{role}": {"token": token, "role": role} for role, token in TOKENS.items()}
    content = {"port": 0, "token": TOKEN, "users": make_users(folder / "users.yaml"), "tokens": tokens}
    content |= {"panels": {"press-3": {"token": PANEL, "role": "view"}}, "failures_most": 10**6}
    return HttpSection.model_validate(content | more)


def sign_in(client: httpx.Client, **given: str) -> dict[str, str]:
    """Sign in as the page does; gives the headers of a change."""
    assert client.post("/api/login", json=given).status_code == 200
    return csrf_of(client)


def csrf_of(client: httpx.Client) -> dict[str, str]:
    return {"X-CSRF-Token": client.get("/api/session").json()["csrf"]}
