"""Who is let in: tokens, cookies, foreign pages, and those who guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from fake_daemon import TOKEN, FakeDaemon
from pydantic import SecretStr

from edgead.line.site.schema import HttpSection
from edgead.line.web.app import build_app
from edgead.line.web.auth.callers import Who
from edgead.line.web.auth.cookies import Sessions
from edgead.line.web.auth.rate_limit import FailureLimit
from edgead.line.web.middleware import OPEN_PATHS
from edgead.line.web.server import serve

BEARER = {"Authorization": f"Bearer {TOKEN}"}
TRIGGER = "/api/pipelines/front/trigger"


@contextmanager
def served(tmp_path, **section) -> Iterator[httpx.Client]:
    daemon = FakeDaemon(tmp_path, http=HttpSection(port=0, **section))
    server = serve(build_app(daemon), daemon.site.http)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            yield client
    finally:
        server.close()


@pytest.fixture
def guarded(tmp_path):
    with served(tmp_path, token=SecretStr(TOKEN), failures_most=3, failures_within_s=60) as client:
        yield client


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A guard that lets an address guess for ever."""
    with served(tmp_path_factory.mktemp("patient"), token=SecretStr(TOKEN), failures_most=10**6) as client:
        yield client


@pytest.fixture(scope="module")
def open_to_this_computer(tmp_path_factory):
    with served(tmp_path_factory.mktemp("open")) as client:
        yield client


def signed_in(client: httpx.Client) -> str:
    """Sign in, as the page does; gives the CSRF token."""
    assert client.post("/api/login", json={"token": TOKEN}).status_code == 200
    return client.get("/api/session").json()["csrf"]


def test_everything_but_probes_and_the_empty_page_demands_the_token(patient):
    paths = patient.get("/openapi.json", headers=BEARER).json()["paths"]
    assert len(paths) > 15
    for path, methods in paths.items():
        for method in methods:
            answer = patient.request(
                method, path.format_map(dict.fromkeys(("name", "verdict_id", "image_name", "notice_id", "change"), "x"))
            )
            refused = answer.status_code == 401
            assert refused == (path not in OPEN_PATHS) or path == "/api/login", (method, path)
    assert patient.get("/openapi.json").status_code == 401
    assert patient.get("/api/nothing").status_code == 401
    assert patient.get("/").status_code == 200


def test_the_token_opens_the_api(patient):
    assert patient.get("/api/status", headers=BEARER).status_code == 200
    assert patient.post(TRIGGER, headers=BEARER).status_code == 200
    assert patient.get("/metrics", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xff"])
def test_a_wrong_token_is_refused_and_not_repeated(patient, header):
    answer = patient.get("/api/status", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_a_wrong_sign_in_repeats_nothing(patient):
    for body in (
        {"token": "sesame-open-sesame"},
        {"token": ["sesame"]},
        {"sesame": "sesame"},
        {"token": "sesame" * 999},
    ):
        answer = patient.post("/api/login", json=body)
        assert answer.status_code in (401, 422)
        assert "sesame" not in answer.text
        assert "set-cookie" not in answer.headers


def test_the_cookie_is_no_token_and_no_script_reads_it(guarded):
    answer = guarded.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert TOKEN not in cookie
    assert guarded.get("/api/status").status_code == 200


def test_behind_https_the_cookie_is_for_https_alone(tmp_path):
    with served(tmp_path, token=SecretStr(TOKEN), secure_cookie=True) as client:
        cookie = client.post("/api/login", json={"token": TOKEN}).headers["set-cookie"]
        assert cookie.startswith("__Host-") and "Secure" in cookie and "Path=/" in cookie
        client.cookies.clear()
        foreign = {"Cookie": cookie.partition(";")[0].removeprefix("__Host-")}
        assert client.get("/api/status", headers=foreign).status_code == 401


def test_a_page_over_https_gets_such_a_cookie_without_being_asked(guarded):
    plain = guarded.post("/api/login", json={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
    guarded.cookies.clear()
    page = {"Origin": f"https://{guarded.base_url.netloc.decode()}"}
    cookie = guarded.post("/api/login", json={"token": TOKEN}, headers=page).headers["set-cookie"]
    assert cookie.startswith("__Host-edgead=") and "Secure" in cookie and "Path=/" in cookie
    guarded.cookies.clear()
    both = {"Cookie": f"{plain}; {cookie.partition(';')[0]}"}
    csrf = guarded.get("/api/session", headers=both).json()["csrf"]
    guarded.cookies.clear()
    out = guarded.post("/api/logout", headers=both | page | {"X-CSRF-Token": csrf})
    ended = out.headers.get_list("set-cookie")
    assert out.status_code == 200 and {each.partition("=")[0] for each in ended} == {"edgead", "__Host-edgead"}
    guarded.cookies.clear()
    for each in (plain, cookie.partition(";")[0]):
        assert guarded.get("/api/status", headers={"Cookie": each}).status_code == 401


def test_a_change_by_cookie_needs_the_sessions_csrf_token(guarded):
    csrf = signed_in(guarded)
    assert guarded.post(TRIGGER).status_code == 403
    assert guarded.post(TRIGGER, headers={"X-CSRF-Token": csrf[::-1]}).status_code == 403
    assert guarded.post(TRIGGER, headers={"X-CSRF-Token": csrf}).status_code == 200


def test_signing_out_ends_the_session_not_only_the_cookie(guarded):
    csrf = signed_in(guarded)
    cookies = dict(guarded.cookies)
    assert guarded.post("/api/logout", headers={"X-CSRF-Token": csrf}).status_code == 200
    assert not guarded.cookies
    assert httpx.get(guarded.base_url.join("/api/status"), cookies=cookies, timeout=30).status_code == 401


def test_who_guesses_must_wait_and_locks_nobody_out(guarded):
    for _ in range(3):
        assert guarded.post("/api/login", json={"token": "guess"}).status_code == 401
    for answer in (
        guarded.post("/api/login", json={"token": "guess"}),
        guarded.get("/api/status", headers={"Authorization": "Bearer guess"}),
    ):
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 60
    assert guarded.get("/api/status", headers=BEARER).status_code == 200
    csrf = signed_in(guarded)
    assert guarded.post(TRIGGER, headers={"X-CSRF-Token": csrf}).status_code == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_foreign_page_changes_nothing(open_to_this_computer, headers):
    assert open_to_this_computer.post(TRIGGER, headers=headers).status_code == 403


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_foreign_page_cannot_sign_in(patient, headers):
    assert patient.post("/api/login", json={"token": TOKEN}, headers=headers).status_code == 403


def test_our_own_page_and_programs_may_change(open_to_this_computer):
    own = str(open_to_this_computer.base_url).rstrip("/")
    assert open_to_this_computer.post(TRIGGER).status_code == 200
    headers = {"Origin": own, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert open_to_this_computer.post(TRIGGER, headers=headers).status_code == 200


def test_a_body_that_is_no_json_changes_nothing(open_to_this_computer):
    # What a form of a foreign page can send without asking first.
    content = '{"review": 0.1, "reject": 0.2, "by": "Eve"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = open_to_this_computer.put(
            "/api/pipelines/front/thresholds", content=content, headers={"Content-Type": kind}
        )
        assert answer.status_code == 422, kind


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "@127.0.0.1.x"),
        *("evil@127.0.0.1", "127.0.0.1#evil", "127.0.0.1/evil", "127.0.0.1?evil", "127.0.0.1:80:80", "127.0.0.1:evil"),
        *("127.0.0.1 evil", "[::1]evil", "::1", "[127.0.0.1]:x", "localhost,evil", "127.0.0.1\\evil"),
    ],
)
def test_a_name_that_was_rebound_to_this_computer_is_refused(open_to_this_computer, host):
    assert open_to_this_computer.get("/api/status", headers={"Host": host}).status_code == 421
    assert open_to_this_computer.get("/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:99", "127.0.0.1", "[::1]:8080", "127.1.2.3:1"])
def test_the_names_of_this_computer_are_answered(open_to_this_computer, host):
    assert open_to_this_computer.get("/api/status", headers={"Host": host}).status_code == 200


def test_with_a_token_any_name_will_do(patient):
    assert patient.get("/api/status", headers={**BEARER, "Host": "line-3.factory.example"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/style.css", "/api/session", "/api/status", "/nothing"])
def test_every_answer_has_the_headers_that_browsers_heed(patient, path):
    headers = patient.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers
    assert headers["cache-control"] == (
        "no-store" if path in ("/api/session", "/api/status", "/nothing") else "no-cache"
    )


def test_failures_are_counted_in_constant_memory():
    now = [0.0]
    limit = FailureLimit(most=2, within_s=10, clock=lambda: now[0])
    for i in range(5000):
        limit.add(f"10.0.{i // 256}.{i % 256}")
    assert len(limit) == 1024
    limit.add("10.0.19.135")
    assert limit.wait_s("10.0.19.135") == 10
    assert limit.wait_s("10.0.19.134") == 0
    now[0] = 10.0
    assert limit.wait_s("10.0.19.135") == 0


def test_failures_of_one_ipv6_network_count_together():
    limit = FailureLimit(most=2, within_s=10)
    limit.add("2001:db8::1")
    limit.add("2001:db8::2")
    assert limit.wait_s("2001:db8::3") > 0
    assert limit.wait_s("2001:db8:0:1::1") == 0
    limit.add("::ffff:10.0.0.1")
    limit.add("10.0.0.1")
    assert limit.wait_s("10.0.0.1") > 0


def test_sessions_end_and_are_few():
    now = [0.0]
    sessions = Sessions(lifetime_s=60, clock=lambda: now[0])
    cookies = [sessions.open(Who("view", "token")) for _ in range(100)]
    assert len(sessions) == 64
    assert sessions.find(cookies[0]) is None
    assert sessions.find(cookies[-1]) is not None
    now[0] = 60.0
    assert sessions.find(cookies[-1]) is None
    assert sessions.find("\ud800") is sessions.find(None) is None


def test_a_session_ends_where_its_browser_asks_for_nothing():
    now = [0.0]
    sessions = Sessions(lifetime_s=100, idle_s=30, clock=lambda: now[0])
    open_page, closed_page = (sessions.open(Who("view", "token")) for _ in range(2))
    for _ in range(4):
        now[0] += 20
        assert sessions.find(open_page) is not None
    assert sessions.find(closed_page) is None
    now[0] += 20
    assert sessions.find(open_page) is None  # its whole time is over
