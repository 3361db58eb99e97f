"""Which role may do what: the table of routes, and every route asked by every role, judged by what the daemon did."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from fake_daemon import FakeDaemon
from http_side import client_of
from hypothesis import HealthCheck, given, settings
from people import TOKENS, make_section

from edgead.line.site.users import ROLES
from edgead.line.web.app import build_app
from edgead.line.web.auth.roles import NEEDED, may, role_needed
from edgead.line.web.middleware import OPEN_PATHS

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
# Written down again, not taken from the table: whoever opens a route to others changes both.
OWN = {"POST /api/logout", "POST /api/unlock", "POST /api/lock"}
OPERATE = {
    "POST /api/pipelines/{name}/trigger",
    "POST /api/pipelines/{name}/judge",
    "POST /api/pipelines/{name}/self-test",
    "POST /api/pipelines/{name}/pause",
    "POST /api/pipelines/{name}/resume",
    "POST /api/verdicts/{verdict_id}/false-reject",
    "POST /api/verdicts/{verdict_id}/kind",
    "POST /api/verdicts/{verdict_id}/mark",
    "POST /api/notices/{notice_id}/acknowledge",
    "POST /api/production/orders",
}
ENGINEER = {
    "PUT /api/pipelines/{name}/thresholds",
    "POST /api/pipelines/{name}/model",
    "POST /api/pipelines/{name}/roll-back",
    "POST /api/pipelines/{name}/accept-drift",
    "POST /api/pipelines/{name}/follow",
    "POST /api/commission/{name}",
    "PUT /api/commission/{name}",
    "POST /api/commission/{name}/discard",
    "POST /api/commission/{name}/take",
    "POST /api/commission/{name}/folder",
    "POST /api/commission/{name}/images",
    "POST /api/commission/{name}/try",
    "POST /api/commission/{name}/collect",
    "POST /api/commission/{name}/images/{image_name}/{change}",
    "POST /api/commission/{name}/learn",
    "POST /api/commission/{name}/cancel",
    "POST /api/commission/{name}/go",
    "POST /api/lessons",
    "POST /api/lessons/{name}/accept",
    "POST /api/lessons/{name}/discard",
    "POST /api/pipelines/{name}/kinds/rename",
    "POST /api/pipelines/{name}/kinds/merge",
    "POST /api/pipelines/{name}/kinds/split",
    "POST /api/pipelines/{name}/heaps",
    "POST /api/pipelines/{name}/heaps/name",
    "POST /api/pipelines/{name}/heaps/discard",
}
# What each role can make the daemon do at all.
EFFECTS = {
    "view": set(),
    "operate": {"fire", "judge", "pause", "resume", "correct", "false reject"},
    "engineer": {"fire", "judge", "pause", "resume", "correct", "false reject", "thresholds", "swap", "roll back"}
    | {"accept drift"}
    | {"rename", "merge", "split", "follow again", "start", "accept", "discard"}
    | {"sort", "name"},
}
VALID: dict[str, dict[str, Any]] = {
    "thresholds": {"review": 0.3, "reject": 0.6, "by": "Eve"},
    "model": {"model": "first", "by": "Eve"},
    "rename": {"kind": "a", "name": "b", "by": "Eve"},
    "merge": {"kind": "a", "into": "b", "by": "Eve"},
    "split": {"kind": "a", "judged": "b", "by": "Eve"},
    "kind": {"kind": "scratch", "by": "Eve"},
    "name": {"kinds": {"dent": ["00000000-0000-7000-8000-000000000000"]}, "by": "Eve"},
    "trigger": {},
    "pause": {"by": "Eve"},
    "resume": {"by": "Eve"},
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roles")
    daemon = FakeDaemon(folder, http=make_section(folder))
    daemon.judge(0, 0.9)
    return daemon


@pytest.fixture(scope="module")
def client(daemon):
    with client_of(daemon) as client:
        yield client


@pytest.fixture(scope="module")
def operations(daemon) -> list[str]:
    paths = build_app(daemon).openapi()["paths"]
    return [f"{method.upper()} {path}" for path, item in paths.items() for method in item]


def test_each_operation_has_a_name_of_its_own_for_generated_clients(daemon):
    paths = build_app(daemon).openapi()["paths"]
    named = {(method, path): one["operationId"] for path, item in paths.items() for method, one in item.items()}
    assert len(set(named.values())) == len(named)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in named.values())
    assert named["post", "/api/commission/{name}/learn"] == "commission_learn"
    assert named["get", "/api/status"] == "status"


def effects(daemon: FakeDaemon) -> list[str]:
    """What the daemon was made to do since the last look; each is forgotten then."""
    lists = (
        daemon.pipelines["front"].calls,
        daemon.store.kinds.calls,
        daemon.followers["front"].calls,
        daemon.lessons.calls,
        daemon.heaps.calls,
    )
    found = [str(call[0]) for calls in lists for call in calls] + [row["action"] for row in daemon.store.changes]
    for row in daemon.store.rows:
        found += ["false reject"] if row["false_reject"] else []
        row["false_reject"] = None
    for each in (*lists, daemon.store.changes):
        each.clear()
    return found


def role_of(operation: str) -> str:
    """The role that an operation should need, by the lists above."""
    method = operation.partition(" ")[0]
    if operation in OPERATE:
        return "operate"
    return "view" if method in ("GET", "HEAD", "OPTIONS") or operation in OWN else "engineer"


def placed(daemon: FakeDaemon, path: str) -> str:
    names = {"verdict_id": daemon.store.rows[0]["id"], "image_name": "frame.jpg", "change": "remove", "name": "front"}
    return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "x"), path)


def test_every_route_that_changes_something_is_listed_with_its_role(operations):
    changing = {each for each in operations if not each.startswith("GET ")} - {"POST /api/login"}
    assert changing == OWN | OPERATE | ENGINEER
    assert {f"{method} {path}" for method, path in NEEDED} == OWN | OPERATE, "all others need an engineer"


def test_the_table_finds_the_role_of_every_route(daemon, operations):
    for operation in operations:
        method, _, path = operation.partition(" ")
        assert role_needed(method, placed(daemon, path)) == role_of(operation), operation


@pytest.mark.parametrize(
    "path", ["/api/pipelines/a/trigger/", "/api/pipelines/a/b/trigger", "/api/pipelines//trigger", "//api/logout"]
)
def test_what_only_looks_like_an_operators_route_needs_an_engineer(path):
    assert role_needed("POST", path) == "engineer"
    assert role_needed("PUT", "/api/logout") == role_needed("post", "/api/logout") == "engineer"


def test_each_role_may_what_those_before_it_may():
    assert [[may(one, other) for other in ROLES] for one in ROLES] == [
        [True, False, False],
        [True, True, False],
        [True] * 3,
    ]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_does_what_it_may_not_by_any_method_of_any_route(client, daemon, operations, role):
    effects(daemon)
    tried, done = 0, set()
    for path in dict.fromkeys(each.partition(" ")[2] for each in operations):
        if path in ("/api/events", "/api/logout"):  # the one has no end, the other ends what is tried here
            continue
        for method in METHODS:
            body = VALID.get(path.rpartition("/")[2], {"by": "Eve"}) if method in ("POST", "PUT", "PATCH") else None
            headers = {"Authorization": f"Bearer {TOKENS[role]}"}
            answer = client.request(method, placed(daemon, path), headers=headers, json=body)
            found = set(effects(daemon))
            assert found <= EFFECTS[role], (method, path)
            allowed = may(role, role_of(f"{method} {path}")) or path in OPEN_PATHS
            assert (answer.status_code == 403) == (not allowed), (method, path, answer.text)
            done |= found
            tried += 1
    assert tried >= 100
    # An image, and marked parts, are wanted by what may be missing.
    assert EFFECTS[role] - {"judge", "start", "accept", "discard"} <= done


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_no_role_does_what_it_may_not_by_a_thousand_requests(client, daemon, role):
    headers = {"Authorization": f"Bearer {TOKENS[role]}"}
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json", headers=headers, timeout=30)
    counts = {"tried": 0, "refused": 0}
    effects(daemon)
    for found in schema.exclude(path=["/api/events", "/api/login"]).get_all_operations():
        operation = found.ok()
        asked = f"{operation.method.upper()} {operation.path}"

        @settings(
            max_examples=60 if not asked.startswith("GET") else 15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def holds(case):
            asked = f"{case.method.upper()} {case.operation.path}"
            if case.path_parameters:  # else hardly one would be found
                case.path_parameters.update({key: placed(daemon, f"{{{key}}}") for key in case.path_parameters})
            answer = case.call(headers=headers, timeout=30)
            counts["tried"] += 1
            counts["refused"] += answer.status_code == 403
            assert set(effects(daemon)) <= EFFECTS[role], asked
            if not may(role, role_of(asked)):
                assert answer.status_code in (400, 403, 413), (asked, answer.text)

        holds()
    assert counts["tried"] >= 1000, counts
    assert (counts["refused"] == 0) == (role == "engineer"), counts
