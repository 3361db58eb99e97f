"""Roles that requests need, with a table of the routes that operators may use.

A route that is not in the table needs `engineer` for changes, and `view` for reading.
"""

from __future__ import annotations

import re

from edgead.line.site.users import ROLES, Role

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Add a new route for operators here; only this table opens one to them.
NEEDED: dict[tuple[str, str], Role] = {
    # One's own session; the handlers check the rest.
    ("POST", "/api/logout"): "view",
    ("POST", "/api/unlock"): "view",
    ("POST", "/api/lock"): "view",
    # Work at the line: judging parts, and marking them.
    ("POST", "/api/pipelines/{name}/trigger"): "operate",
    ("POST", "/api/pipelines/{name}/judge"): "operate",
    ("POST", "/api/pipelines/{name}/self-test"): "operate",
    ("POST", "/api/pipelines/{name}/pause"): "operate",
    ("POST", "/api/pipelines/{name}/resume"): "operate",
    ("POST", "/api/verdicts/{verdict_id}/false-reject"): "operate",
    ("POST", "/api/verdicts/{verdict_id}/kind"): "operate",
    ("POST", "/api/verdicts/{verdict_id}/mark"): "operate",
    ("POST", "/api/notices/{notice_id}/acknowledge"): "operate",
    ("POST", "/api/production/orders"): "operate",
}
_PATTERNS = [(method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), role) for (method, path), role in NEEDED.items()]


def role_needed(method: str, path: str) -> Role:
    """Return the role that a request needs, by its method and its raw path."""
    for known, pattern, role in _PATTERNS:
        if known == method and pattern.fullmatch(path):
            return role
    return "view" if method in SAFE_METHODS else "engineer"


def may(role: Role, needed: Role) -> bool:
    """Return whether a role includes the rights of the role `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def higher(one: Role, other: Role) -> Role:
    """Return the higher of two roles."""
    return one if may(one, other) else other
