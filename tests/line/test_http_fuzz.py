"""What nobody meant to send: requests made from the OpenAPI, paths that try to leave the store, bytes of any kind."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
import schemathesis
from fake_daemon import TOKEN, FakeDaemon
from http_side import client_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from edgead.line.site.schema import HttpSection

BEARER = {"Authorization": f"Bearer {TOKEN}"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FUZZ = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "secret.jpg").write_bytes(b"not for you")
    section = HttpSection(port=0, token=SecretStr(TOKEN), failures_most=10**6)
    daemon = FakeDaemon(folder, http=section)
    for number in range(3):
        daemon.judge(number, 0.3 * (number + 1))
    daemon.raise_notice("camera", "lost: no route")
    return daemon


@pytest.fixture(scope="module")
def client(daemon):
    with client_of(daemon, headers=BEARER) as client:
        yield client


@pytest.fixture
def api(client):
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json", headers=BEARER, timeout=30)
    return schema.exclude(path="/api/events")  # has no end


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_is_as_it_says(api, daemon, mode):
    known = {"verdict_id": daemon.store.rows[0]["id"], "image_name": "frame.jpg", "change": "remove"}
    known["notice_id"] = daemon.notices.standing()[0].id
    tried = 0
    for found in api.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters or operation.body):
            continue  # there is nothing to get wrong

        @FUZZ
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case):
            if mode is GenerationMode.POSITIVE and case.path_parameters:  # else hardly one would be found
                name = "conveyor" if "cameras" in case.path else "front"
                case.path_parameters.update({key: known.get(key, name) for key in case.path_parameters})
            response = case.call(headers=BEARER, timeout=30)
            if response.content == b"Invalid HTTP request received.":
                return  # it was not HTTP, and the server never saw a request
            case.validate_response(response, checks=CHECKS)
            assert b"Traceback" not in response.content

        holds()
        tried += 1
    assert tried >= 15


WORDS = st.sampled_from(
    ["..", ".", "", "secret.jpg", "frame.jpg", "images", "etc", "passwd", "%2e%2e", "\\", "C:", "\x00"]
)
PARTS = st.lists(st.one_of(WORDS, st.text(max_size=8)), min_size=1, max_size=6)
BASES = ("/api/verdicts/", "/api/verdicts/ID/images/", "/page/", "/api/cameras/", "/api/pipelines/", "/")


@settings(FUZZ, max_examples=200)
@given(base=st.sampled_from(BASES), parts=PARTS, encode=st.booleans())
def test_no_path_leads_out_of_the_store(client, daemon, base, parts, encode):
    path = base.replace("ID", daemon.store.rows[0]["id"])
    path += quote("/".join(parts).encode("utf-8", "replace"), safe="" if encode else "/")
    request = client.build_request("GET", "/")
    # As it stands: a client would take the dots out.
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = client.send(request)
    assert answer.status_code < 500
    assert b"not for you" not in answer.content and b"root:" not in answer.content and b"import " not in answer.content


@settings(FUZZ, max_examples=100)
@given(body=st.binary(max_size=200))
def test_no_body_is_a_fault_of_ours(client, body):
    for kind in ("application/json", "text/plain", "multipart/form-data"):
        answer = client.put("/api/pipelines/front/thresholds", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(FUZZ, max_examples=100)
@given(review=JSON, reject=JSON, by=JSON)
def test_thresholds_are_two_numbers_in_order_or_refused(client, daemon, review, reject, by):
    body = json.dumps({"review": review, "reject": reject, "by": by})
    answer = client.put("/api/pipelines/front/thresholds", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 422)
    limits = daemon.pipelines["front"].thresholds
    assert limits["review"] <= limits["reject"]
