"""Role that each route needs: one that is not in the table needs `engineer` to change something, `view` to read."""

from __future__ import annotations

import re

from edgead.site.users import ROLES, Role

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# Whoever adds a route that an operator needs adds it here; nothing else opens it to one.
NEEDED: dict[tuple[str, str], Role] = {
    # Of one's own session; what they do of it they check themselves.
    ("POST", "/api/logout"): "view",
    ("POST", "/api/unlock"): "view",
    ("POST", "/api/lock"): "view",
    # The work at the line: it judges parts and says what they were.
    ("POST", "/api/pipelines/{name}/trigger"): "operate",
    ("POST", "/api/pipelines/{name}/judge"): "operate",
    ("POST", "/api/pipelines/{name}/self-test"): "operate",
    ("POST", "/api/verdicts/{verdict_id}/false-reject"): "operate",
    ("POST", "/api/verdicts/{verdict_id}/kind"): "operate",
    ("POST", "/api/verdicts/{verdict_id}/mark"): "operate",
    ("POST", "/api/notices/{notice_id}/acknowledge"): "operate",
    ("POST", "/api/production/orders"): "operate",
    # What holds for every part from now on, or changes how those of the past are shown.
    ("PUT", "/api/pipelines/{name}/thresholds"): "engineer",
    ("POST", "/api/pipelines/{name}/model"): "engineer",
    ("POST", "/api/pipelines/{name}/roll-back"): "engineer",
    ("POST", "/api/pipelines/{name}/accept-drift"): "engineer",
    ("POST", "/api/pipelines/{name}/follow"): "engineer",
    ("POST", "/api/commission/{name}"): "engineer",
    ("PUT", "/api/commission/{name}"): "engineer",
    ("POST", "/api/commission/{name}/discard"): "engineer",
    ("POST", "/api/commission/{name}/take"): "engineer",
    ("POST", "/api/commission/{name}/collect"): "engineer",
    ("POST", "/api/commission/{name}/images/{image_name}/remove"): "engineer",
    ("POST", "/api/commission/{name}/learn"): "engineer",
    ("POST", "/api/commission/{name}/cancel"): "engineer",
    ("POST", "/api/commission/{name}/go"): "engineer",
    ("POST", "/api/lessons"): "engineer",
    ("POST", "/api/lessons/{name}/accept"): "engineer",
    ("POST", "/api/lessons/{name}/discard"): "engineer",
    ("POST", "/api/pipelines/{name}/kinds/rename"): "engineer",
    ("POST", "/api/pipelines/{name}/kinds/merge"): "engineer",
    ("POST", "/api/pipelines/{name}/kinds/split"): "engineer",
}
_PATTERNS = [(method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), role) for (method, path), role in NEEDED.items()]


def role_needed(method: str, path: str) -> Role:
    """Give the role that a request needs, by its method and its path as it came."""
    for known, pattern, role in _PATTERNS:
        if known == method and pattern.fullmatch(path):
            return role
    return "view" if method in SAFE_METHODS else "engineer"


def may(role: Role, needed: Role) -> bool:
    """Whether a role is enough for what another one is needed for."""
    return ROLES.index(role) >= ROLES.index(needed)


def higher(one: Role, other: Role) -> Role:
    """Give the one of two roles that may more."""
    return one if may(one, other) else other
