"""Whatever clients do, the probes answer, few files are open, the log stays short, and it ends with them."""

from __future__ import annotations

import resource

import pytest
from hostile.http_clients import KNOWN, WINDOWS, window
from hostile.served import MAX_FILES, served
from patience import wait_until

pytestmark = pytest.mark.slow

FOR_S = 3.0
QUICK = {"nobody", "garbage_8", "half_requests_64", "idle_3000"}
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in WINDOWS]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with served(tmp_path_factory.mktemp("served")) as server:
        yield server
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("name", ALL)
def test_probes_answer_throughout(server, name):
    found = window(server, name, FOR_S)
    for path, seen in found.probes.items():
        assert [status for status, _ in seen if status != 200] == [], (path, seen)
        assert len(seen) >= 3, path
    if name not in KNOWN:
        assert set(found.page) == {200}, found.page
    assert found.most_files < MAX_FILES / 2
    assert found.log_lines <= 25
    wait_until(lambda: server.files < 60)
