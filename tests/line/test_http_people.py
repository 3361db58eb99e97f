"""People: sign-in by name, sessions that end with what they stand on, tokens with roles, a proxy's word, PINs."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from fake_daemon import TOKEN, FakeDaemon
from people import (
    PANEL,
    PASSWORDS,
    PIN,
    PROXY_SECRET,
    ROLE_OF,
    TOKENS,
    csrf_of,
    hashed,
    make_section,
    make_users,
    sign_in,
)

from edgead.line.daemon.logs import JsonFormatter
from edgead.line.site.http import PanelSection
from edgead.line.site.users import User
from edgead.line.web.app import build_app
from edgead.line.web.auth.callers import Who
from edgead.line.web.auth.cookies import Sessions
from edgead.line.web.auth.panels import Panels, PinLocks
from edgead.line.web.server import serve

TRIGGER = "/api/pipelines/front/trigger"
THRESHOLDS = "/api/pipelines/front/thresholds"
LIMITS = {"review": 0.3, "reject": 0.6}
PROXY = {"from": ["127.0.0.1/32"], "roles": {"line": "operate", "quality": "engineer"}, "secret": PROXY_SECRET}
BY_PROXY = {"X-Forwarded-User": "olga", "X-Forwarded-Groups": "cooks, line", "X-Proxy-Secret": PROXY_SECRET}


class Line:
    """A fake daemon that is served, its folder, and browsers to ask it with."""

    def __init__(self, folder, **more):
        self.daemon = FakeDaemon(folder, http=make_section(folder, **more))
        self.folder, self.server = folder, serve(build_app(self.daemon), self.daemon.site.http)
        self.clients: list[httpx.Client] = []

    def browser(self) -> httpx.Client:
        self.clients.append(httpx.Client(base_url=f"http://127.0.0.1:{self.server.port}", timeout=30))
        return self.clients[-1]

    def signed_in(self, **given: str) -> tuple[httpx.Client, dict[str, str]]:
        browser = self.browser()
        return browser, sign_in(browser, **given)

    def person(self, name: str) -> tuple[httpx.Client, dict[str, str]]:
        return self.signed_in(name=name, password=PASSWORDS[name])

    @property
    def audit(self) -> list[tuple[str, str]]:
        return [(row["by"], row["action"]) for row in self.daemon.store.changes]


@contextmanager
def running(folder, **more) -> Iterator[Line]:
    line = Line(folder, **more)
    try:
        yield line
    finally:
        for client in line.clients:
            client.close()
        line.server.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with running(tmp_path_factory.mktemp("people"), proxy=PROXY) as line:
        yield line


@pytest.fixture
def line(shared):
    """The same, for tests that change its users or count wrong PINs."""
    guard = shared.server._app.state.guard
    make_users(shared.folder / "users.yaml")
    guard._locks = PinLocks()
    shared.daemon.store.changes.clear()
    yield shared
    make_users(shared.folder / "users.yaml")


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_person_signs_in_with_name_and_role(shared, name):
    browser, csrf = shared.person(name)
    found = browser.get("/api/session").json()
    assert (found["name"], found["role"], found["way"]) == (name, ROLE_OF[name], "password")
    assert browser.post(TRIGGER, headers=csrf).status_code == (403 if name == "vera" else 200)
    answer = browser.put(THRESHOLDS, json=LIMITS, headers=csrf)
    assert answer.status_code == (200 if name == "anna" else 403)
    if name == "otto":
        assert answer.json()["detail"] == "this needs the role engineer, otto has the role operate"


def test_who_is_signed_in_stands_in_the_audit_whatever_the_body_claims(shared):
    browser, csrf = shared.person("anna")
    for claim in ({}, {"by": "otto"}, {"by": "anna"}):
        assert browser.put(THRESHOLDS, json=LIMITS | claim, headers=csrf).status_code == 200
        assert shared.audit[0] == ("anna (signed in, 127.0.0.1)", "thresholds")


def test_a_claim_never_looks_like_a_name_that_is_signed_in(shared):
    browser, bearer = shared.browser(), {"Authorization": f"Bearer {TOKEN}"}
    assert browser.put(THRESHOLDS, json=LIMITS, headers=bearer).status_code == 422  # nobody says who
    claim = {"by": "anna (signed in, 127.0.0.1)"}
    assert browser.put(THRESHOLDS, json=LIMITS | claim, headers=bearer).status_code == 200
    assert shared.audit[0][0] == "anna [signed in, 127.0.0.1] (127.0.0.1)"
    wide = {"by": "anna \uff08signed in\uff09"}
    assert browser.put(THRESHOLDS, json=LIMITS | wide, headers=bearer).status_code == 200
    assert shared.audit[0][0] == "anna [signed in] (127.0.0.1)"
    for turned in ("anna \u202e)ni dengis(", "\u2066anna", "\ufdfa" * 64):
        assert browser.put(THRESHOLDS, json=LIMITS | {"by": turned}, headers=bearer).status_code == 422


@pytest.mark.parametrize(
    "given",
    [
        {"name": "anna", "password": PASSWORDS["otto"]},
        {"name": "nobody", "password": PASSWORDS["anna"]},
        {"name": "anna", "password": PIN},
        {"name": "anna", "password": hashed(PASSWORDS["anna"])},
    ],
)
def test_a_wrong_name_and_a_wrong_password_are_answered_alike(shared, given):
    answer = shared.browser().post("/api/login", json=given)
    assert (answer.status_code, answer.json()["detail"]) == (401, "the name or the password is wrong")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "given", [{"name": "anna"}, {"password": "x"}, {"name": "a", "password": "b", "token": "c"}, {}]
)
def test_half_a_sign_in_is_none(shared, given):
    assert shared.browser().post("/api/login", json=given).status_code == 422


def test_an_unknown_name_takes_as_long_as_a_known_one(shared):
    def took_s(name: str) -> float:
        begun = time.perf_counter()
        shared.browser().post("/api/login", json={"name": name, "password": "wrong, and as long as others"})
        return time.perf_counter() - begun

    known, unknown = map(min, zip(*((took_s("anna"), took_s("nobody")) for _ in range(8)), strict=True))
    assert 1 / 3 < known / unknown < 3  # a look-up alone takes a twentieth


def test_passwords_are_not_looked_at_any_more_after_too_many_wrong_ones(tmp_path):
    with running(tmp_path, failures_most=2) as line:
        browser = line.browser()
        for _ in range(2):
            assert browser.post("/api/login", json={"name": "anna", "password": "a guess"}).status_code == 401
        right = {"name": "anna", "password": PASSWORDS["anna"]}
        answer = browser.post("/api/login", json=right)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) <= 61
        assert browser.post("/api/login", json={"token": TOKEN}).status_code == 200  # a token cannot be guessed


@pytest.mark.parametrize(
    "change",
    [
        {"otto": None},
        {"otto": User(role="view", password=hashed(PASSWORDS["otto"]))},
        {"otto": User(role="operate", password=hashed("another password"))},
    ],
    ids=["removed", "another role", "another password"],
)
def test_whatever_changes_of_a_person_ends_their_sessions_at_once(line, change):
    otto, csrf = line.person("otto")
    anna, _ = line.person("anna")
    make_users(line.folder / "users.yaml", **change)
    assert otto.post(TRIGGER, headers=csrf).status_code == 401
    assert anna.get("/api/status").status_code == 200
    make_users(line.folder / "users.yaml")
    assert otto.get("/api/status").status_code == 401  # what has ended does not come back


def test_a_stream_ends_with_its_session(line):
    otto, _ = line.person("otto")
    line.server._app.state.events._heartbeat_s = 0.05
    with otto.stream("GET", "/api/events") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        make_users(line.folder / "users.yaml", otto=None)
        list(lines)  # ends


def test_a_file_that_somebody_broke_keeps_those_who_were_known(line, caplog):
    otto, csrf = line.person("otto")
    (line.folder / "users.yaml").write_text("otto: {role: emperor}")
    assert otto.post(TRIGGER, headers=csrf).status_code == 200
    assert "the file of users cannot be used" in caplog.text
    (line.folder / "users.yaml").unlink()
    assert otto.post(TRIGGER, headers=csrf).status_code == 401


def test_a_sign_in_takes_no_cookie_that_somebody_else_chose(line):
    browser = line.browser()
    browser.cookies.set("edgead", "chosen-by-somebody-else", domain="127.0.0.1")
    sign_in(browser, name="otto", password=PASSWORDS["otto"])
    first = dict(browser.cookies)
    assert first["edgead"] != "chosen-by-somebody-else"
    sign_in(browser, name="anna", password=PASSWORDS["anna"])
    other = httpx.get(browser.base_url.join("/api/status"), cookies=first, timeout=30)
    assert other.status_code == 401  # the session before has ended


@pytest.mark.parametrize("role", TOKENS)
def test_a_program_has_a_name_and_a_role(shared, role):
    bearer = {"Authorization": f"Bearer {TOKENS[role]}"}
    answer = shared.browser().put(THRESHOLDS, json=LIMITS, headers=bearer)
    assert answer.status_code == (200 if role == "engineer" else 403)
    if role == "engineer":
        assert shared.audit[0][0] == "may-engineer (token, 127.0.0.1)"


# A proxy


def test_the_proxys_word_counts_with_its_secret(shared):
    browser = shared.browser()
    found = browser.get("/api/session", headers=BY_PROXY).json()
    assert (found["name"], found["role"], found["way"]) == ("olga", "operate", "proxy")
    assert browser.post(TRIGGER, headers=BY_PROXY).status_code == 403  # a foreign page could make a browser send it
    csrf = {"X-CSRF-Token": found["csrf"]}
    assert browser.post(TRIGGER, headers=BY_PROXY | csrf).status_code == 200
    mark = {"kind": "scratch", "by": "anna"}
    shared.daemon.judge(901, 0.9)
    id = shared.daemon.store.rows[-1]["id"]
    assert browser.post(f"/api/verdicts/{id}/kind", json=mark, headers=BY_PROXY | csrf).status_code == 200
    assert shared.daemon.store.kinds.calls[-1][-1] == "olga (proxy, 127.0.0.1)"


def test_the_highest_of_the_groups_counts_and_a_token_of_the_proxy_is_not_ours(shared):
    headers = BY_PROXY | {"X-Forwarded-Groups": "line,quality", "Authorization": "Bearer of-the-proxys-own"}
    assert shared.browser().get("/api/session", headers=headers).json()["role"] == "engineer"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"X-Proxy-Secret": "guessed"}, "not the secret"),
        ({"X-Proxy-Secret": ""}, "not the secret"),
        ({"X-Forwarded-User": ""}, "a name is"),
        ({"X-Forwarded-User": "olga, anna"}, "a name is"),
        ({"X-Forwarded-User": "olga (signed in, 1.2.3.4)"}, "a name is"),
        ({"X-Forwarded-Groups": ""}, "in no group"),
        ({"X-Forwarded-Groups": "online, Quality, lines"}, "in no group"),
        ({"X_Forwarded_User": "anna"}, "came as x_forwarded_user"),
        ({"X-Forwarded_Groups": "quality"}, "came as x-forwarded_groups"),
    ],
)
def test_what_a_careless_proxy_would_let_through_is_refused_in_words(shared, changed, reason):
    answer = shared.browser().get("/api/status", headers=BY_PROXY | changed)
    assert answer.status_code == 403 and reason in answer.json()["detail"]


def test_headers_that_come_twice_or_without_the_name_are_refused(shared):
    twice = [*BY_PROXY.items(), ("X-Forwarded-User", "anna")]
    assert shared.browser().get("/api/status", headers=twice).status_code == 403
    raw = [*BY_PROXY.items(), ("x-forwarded-groups", "quality")]
    assert shared.browser().get("/api/status", headers=raw).status_code == 403
    without = {name: value for name, value in BY_PROXY.items() if name != "X-Forwarded-User"}
    assert "came without" in shared.browser().get("/api/status", headers=without).json()["detail"]


def test_headers_from_elsewhere_are_refused_whatever_they_say_of_where_they_come_from(tmp_path):
    with running(tmp_path, proxy=PROXY | {"from": ["10.1.2.0/24"]}, secure_cookie=True) as line:
        for claimed in ({}, {"X-Forwarded-For": "10.1.2.3"}):
            answer = line.browser().get("/api/status", headers=BY_PROXY | claimed)
            assert answer.status_code == 403 and "http.proxy.from" in answer.json()["detail"]
        problem = line.browser().get("/api/session", headers=BY_PROXY).json()
        assert not problem["signed_in"] and "http.proxy.from" in problem["problem"]
        assert line.browser().get("/api/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_behind_the_proxy_the_address_is_that_of_its_client(shared):
    headers = BY_PROXY | {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Groups": "quality"}
    csrf = {"X-CSRF-Token": shared.browser().get("/api/session", headers=headers).json()["csrf"]}
    assert shared.browser().put(THRESHOLDS, json=LIMITS, headers=headers | csrf).status_code == 200
    assert shared.audit[0][0] == "olga (proxy, 192.0.2.7)"


# Panels and PINs


def test_a_pin_raises_a_panel_for_a_time_and_every_step_is_audited(line):
    panel, csrf = line.signed_in(token=PANEL)
    before = dict(panel.cookies)
    assert panel.post(TRIGGER, headers=csrf).json()["detail"].endswith("unlock the panel with a PIN")
    assert panel.post("/api/unlock", json={"name": "anna", "pin": "0852"}, headers=csrf).status_code == 403
    assert panel.post("/api/unlock", json={"name": "ANNA", "pin": PIN}, headers=csrf).status_code == 200
    found = panel.get("/api/session").json()
    assert (found["name"], found["role"], found["way"], found["panel"]) == ("anna", "engineer", "pin", "press-3")
    assert 290 < found["raised_s"] <= 300
    assert panel.put(THRESHOLDS, json=LIMITS, headers=csrf_of(panel)).status_code == 200
    # Whoever copied the panel's cookie before has won nothing.
    copy = httpx.put(panel.base_url.join(THRESHOLDS), json=LIMITS, cookies=before, headers=csrf, timeout=30)
    assert copy.status_code == 403
    assert panel.post("/api/lock", headers=csrf_of(panel)).status_code == 200
    assert panel.put(THRESHOLDS, json=LIMITS, headers=csrf_of(panel)).status_code == 403
    at = "anna (PIN at press-3, 127.0.0.1)"
    refused = ("anna (panel press-3, 127.0.0.1)", "unlock_refused")
    assert line.audit[::-1] == [refused, (at, "unlock"), (at, "thresholds"), (at, "lock")]


@pytest.mark.parametrize("end", ["time", "person"])
def test_what_a_pin_raised_ends_with_its_time_and_with_the_person(line, end, monkeypatch):
    panel, csrf = line.signed_in(token=PANEL)
    assert panel.post("/api/unlock", json={"name": "anna", "pin": PIN}, headers=csrf).status_code == 200
    raised_csrf = csrf_of(panel)
    if end == "time":
        raised = line.server._app.state.guard.cookies.raised
        monkeypatch.setattr(raised, "_clock", lambda: time.monotonic() + 301)
    else:
        make_users(line.folder / "users.yaml", anna=User(role="engineer", password=hashed("another password")))
    assert panel.put(THRESHOLDS, json=LIMITS, headers=raised_csrf).status_code == 403
    assert panel.get("/api/session").json()["way"] == "panel"


def test_a_refused_pin_puts_nothing_into_the_audit_but_a_name(line):
    panel, csrf = line.signed_in(token=PANEL)
    for name in ("x\n\x1b[2J\u202e", "(otto)", "=HYPERLINK(1)"):
        answer = panel.post("/api/unlock", json={"name": name, "pin": "0852"}, headers=csrf)
        assert answer.status_code == 422
    assert line.audit == []


def test_a_pin_is_worth_nothing_elsewhere(line):
    otto, csrf = line.person("otto")
    answer = otto.post("/api/unlock", json={"name": "anna", "pin": PIN}, headers=csrf)
    assert answer.status_code == 409
    assert otto.post("/api/lock", headers=csrf).status_code == 409
    assert line.browser().post("/api/unlock", json={"name": "anna", "pin": PIN}).status_code == 401
    bearer = {"Authorization": f"Bearer {PANEL}"}
    assert line.browser().get("/api/status", headers=bearer).status_code == 401  # a panel's token is for its browser


def test_wrong_pins_lock_the_person_and_the_panel(line):
    panel, csrf = line.signed_in(token=PANEL)
    for _ in range(5):
        assert panel.post("/api/unlock", json={"name": "anna", "pin": "0000"}, headers=csrf).status_code == 403
    answer = panel.post("/api/unlock", json={"name": "anna", "pin": PIN}, headers=csrf)
    assert answer.status_code == 429 and 50 < int(answer.headers["retry-after"]) <= 61
    assert panel.post("/api/unlock", json={"name": "otto", "pin": PIN}, headers=csrf).status_code == 429
    assert [action for _, action in line.audit] == 5 * ["unlock_refused"]
    line.person("anna")  # a password is no PIN


def test_of_many_wrong_pins_at_once_no_more_are_looked_at(line):
    panel, csrf = line.signed_in(token=PANEL)

    def guess(pin: int) -> int:
        return panel.post("/api/unlock", json={"name": "anna", "pin": f"{pin:04}"}, headers=csrf).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(guess, range(20)))
    assert statuses == {403: 5, 429: 15}


def test_locks_double_and_are_forgotten_with_a_right_pin():
    now = [0.0]
    locks, anna, panel = PinLocks(clock=lambda: now[0]), ("person", "anna"), ("panel", "press-3")
    waits = []
    for _ in range(18):
        locks.failed(panel)
        waits.append(locks.wait_s(anna, panel))
        now[0] += waits[-1]
    assert waits[:8] == [0, 0, 0, 0, 60, 120, 240, 480]
    assert waits[-1] == 24 * 3600
    assert locks.wait_s(anna) == 0
    locks.passed(panel)
    locks.failed(panel)
    assert locks.wait_s(panel) == 0


def test_a_person_waits_everywhere_only_after_wrong_pins_at_several_panels_and_not_for_ever():
    now = [0.0]
    locks, anna = PinLocks(clock=lambda: now[0]), ("person", "anna")
    for _ in range(19):
        locks.failed(anna)
    assert locks.wait_s(anna) == 0
    locks.failed(anna)
    assert locks.wait_s(anna) == 60
    now[0] += 3 * 24 * 3600
    locks.failed(anna)
    assert locks.wait_s(anna) == 0


def test_sessions_of_one_end_no_sessions_of_others():
    people = [Who("engineer", "password", f"person {number}") for number in range(5)]
    sessions = Sessions(lifetime_s=60)
    theirs = [sessions.open(person) for person in people]
    token = Who("view", "token")
    first, *_ = [sessions.open(token) for _ in range(200)]
    assert len(sessions) == 64 and sessions.find(first) is None
    assert all(sessions.find(cookie) for cookie in theirs)
    mine = [sessions.open(people[0]) for _ in range(8)]
    assert all(sessions.find(cookie) for cookie in mine + theirs[1:])
    assert sessions.find(theirs[0]) is None  # a person's ninth ends the first


def test_a_panel_stays_signed_in_over_a_restart_until_its_token_is_another_one():
    now = [1e9]
    section = PanelSection(token=PANEL, days=1)
    cookie = Panels({"press-3": section}, clock=lambda: now[0]).open("press-3")
    again = Panels({"press-3": section, "press-4": section}, clock=lambda: now[0])
    assert again.find(cookie).name == "press-3"
    name, ends, number, seal = cookie.split(".")
    for forged in (
        f"press-4.{ends}.{number}.{seal}",
        f"{name}.{int(ends) + 1}.{number}.{seal}",
        cookie[:-1],
        "",
        "...",
    ):
        assert again.find(forged) is None
    assert Panels({"press-3": PanelSection(token=PANEL[::-1])}, clock=lambda: now[0]).find(cookie) is None
    again.close(cookie)
    assert again.find(cookie) is None
    now[0] += 86_401
    assert Panels({"press-3": section}, clock=lambda: now[0]).find(cookie) is None


def test_signing_out_ends_a_panels_cookie(line):
    panel, csrf = line.signed_in(token=PANEL)
    cookies = dict(panel.cookies)
    assert panel.post("/api/logout", headers=csrf).status_code == 200
    assert not panel.cookies
    assert httpx.get(panel.base_url.join("/api/status"), cookies=cookies, timeout=30).status_code == 401


def test_no_secret_is_logged(line, caplog):
    caplog.set_level(logging.DEBUG)
    formatter = JsonFormatter()
    formatter.hide(line.daemon.site)
    panel, csrf = line.signed_in(token=PANEL)
    for pin in (PIN, "85209631", "not-a-pin"):
        panel.post("/api/unlock", json={"name": "anna", "pin": pin}, headers=csrf)
    line.person("anna")
    line.browser().post("/api/login", json={"name": "anna", "password": "a wrong password"})
    logging.getLogger("edgead").error("given %s, %s", TOKENS["view"], PANEL)  # by whom ever
    written = "".join(formatter.format(record) for record in caplog.records)
    assert "***" in written
    for secret in (
        PANEL,
        TOKEN,
        *TOKENS.values(),
        *PASSWORDS.values(),
        PIN,
        "85209631",
        "a wrong password",
        "$argon2id",
    ):
        assert secret not in written, secret
    shown = repr(line.daemon.site) + str(line.daemon.site.model_dump(mode="json"))
    assert not any(secret in shown for secret in (PANEL, TOKEN, *TOKENS.values()))


def test_sign_ins_and_their_refusals_stand_in_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with running(tmp_path) as line:  # which has logged no refusal yet: many at once are left out
        browser = line.browser()
        for given in (
            {"name": "anna", "password": "wrong one"},
            {"name": "no secret?", "password": "wrong"},
            {"token": "wrong"},
        ):
            assert browser.post("/api/login", json=given).status_code == 401
        assert browser.get("/api/status", headers={"Authorization": "Bearer wrong"}).status_code == 401
        anna, csrf = line.person("anna")
        assert anna.post("/api/logout", headers=csrf).status_code == 200
    said = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "edgead.line.web.auth.guard"]
    assert said == [
        ("WARNING", "sign-in refused: a wrong password for anna, from 127.0.0.1"),
        # What was typed as a name may be a password.
        ("WARNING", "sign-in refused: a name that nobody has, from 127.0.0.1"),
        ("WARNING", "sign-in refused: a wrong token, from 127.0.0.1"),
        ("WARNING", "sign-in refused: a wrong token, from 127.0.0.1"),
        ("INFO", "signed in: anna (password, engineer), from 127.0.0.1"),
        ("INFO", "signed out: anna (password, engineer), from 127.0.0.1"),
    ]


def test_guesses_do_not_fill_the_log(tmp_path, caplog):
    with running(tmp_path, failures_most=2) as line:
        browser = line.browser()
        answers = [browser.post("/api/login", json={"token": f"wrong {number}"}).status_code for number in range(60)]
    said = [one.getMessage() for one in caplog.records if one.name == "edgead.line.web.auth.guard"]
    assert answers == [401, 401, *58 * [429]] and len(said) == 20
    assert "sign-in refused: too many wrong tokens, from 127.0.0.1" in said
