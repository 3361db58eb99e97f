"""Hostile site files: each is an error that says why, and a daemon that is asked to read it goes on judging."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from daemons import START, conveyor, make_site, started, wait_for, write_site
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from patience import usual_s
from site_files import REFUSED, SITE_FILES, UNREADABLE
from typer.testing import CliRunner

from edgead.cli import app
from edgead.errors import EdgeadError
from edgead.line.site.load import load_site, resolved
from edgead.line.site.schema import Site

GOOD = {
    "cameras": {"conveyor": {"uri": "synthetic:?rate=20", "health": {"every_s": 1.0}}},
    "pipelines": {
        "a": {"camera": "conveyor", "model": "m", "trigger": {"kind": "interval", "every_s": 1.0}, "sinks": ["x"]}
    },
    "sinks": {"x": {"kind": "webhook", "url": "http://example/x", "queue": {"messages": 5}}},
    "store": {"folder": "evidence", "keep_days": 30},
    "http": {"host": "127.0.0.1", "port": 8080},
    "limits": {"restarts": 3, "drain_s": 1.5},
}


def test_there_are_as_many_as_were_tried():
    assert len(SITE_FILES) >= 39


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_check_refuses_it_with_the_reason(name, tmp_path):
    file = write_site(tmp_path, GOOD)
    SITE_FILES[name](file, GOOD, tmp_path / "none")
    begin_s = time.process_time()
    outcome = CliRunner().invoke(app, ["daemon", "-c", str(file), "--check"])
    assert time.process_time() - begin_s < 5
    # What the command line's own edge prints, with exit code 2.
    assert isinstance(outcome.exception, EdgeadError) and str(file) in str(outcome.exception)
    assert "Error:" not in str(outcome.exception)


def test_an_alias_is_refused_by_its_line(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text("cameras:\n  a: &a {uri: 'camera:0'}\n  b: *a\n")
    with pytest.raises(EdgeadError, match=r"site.yaml, line 3: .*aliases"):
        load_site(file)


# Random changes of a good file

_BYTES = yaml.safe_dump(GOOD).encode()
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def _places(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from _places(item, (*path, key))


@st.composite
def changed_sites(draw):
    """The text of the good file with some bytes changed, or with some of its values."""
    if draw(st.booleans()):
        data = bytearray(_BYTES)
        for _ in range(draw(st.integers(1, 5))):
            at = draw(st.integers(0, len(data) - 1))
            data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
        return bytes(data)
    site = yaml.safe_load(_BYTES)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(sorted(_places(GOOD))))
        part = site
        for key in way:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[last] = draw(_VALUES)
    return yaml.safe_dump(site, allow_unicode=True).encode("utf-8", "surrogatepass")


@settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(b"")
@example(_BYTES)
@given(changed_sites())
def test_a_random_change_loads_or_is_an_error_of_ours(tmp_path, data):
    file = tmp_path / "site.yaml"
    file.write_bytes(data)
    try:
        site = load_site(file)
    except EdgeadError as error:
        assert str(file) in str(error)
    else:
        assert isinstance(site, Site) and resolved(site)


# A running daemon


@pytest.fixture(scope="module")
def daemon(trained_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("daemon")
    site = make_site(trained_model, cameras={"conveyor": conveyor(10)})
    with started(folder, site, code=UNREADABLE + START) as running:
        running.site, running.model = site, Path(trained_model)
        running.wait_state("running")
        yield running
        running.stop(within_s=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SITE_FILES)
def test_a_daemon_that_reads_it_goes_on_judging(name, daemon):
    file = daemon.folder / "site.yaml"
    outcomes = ("not reloaded", "reloaded")

    def reloads():
        return sum(line["message"].startswith(outcomes) for line in daemon.log)

    before, restarts = reloads(), daemon.pipeline()["restarts"]
    SITE_FILES[name](file, daemon.site, daemon.model)
    try:
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: reloads() > before, "the reload's end")
        line = [line for line in daemon.log if line["message"].startswith(outcomes)][-1]
        assert line["message"].startswith("not reloaded, the old site goes on") == (name in REFUSED or "sink" in name)
        reported = daemon.wait_judged(2)
        assert reported["state"] == "running" and reported["restarts"] == restarts
        assert reported["model"] == str(daemon.model)
    finally:
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        file.unlink(missing_ok=True)
        write_site(daemon.folder, daemon.site)


@pytest.mark.slow
def test_a_model_that_is_loaded_for_ever_holds_up_no_signal(trained_model, tmp_path):
    hangs = (
        "import time\nfrom edgead.line.daemon import reload\nfrom edgead.line.daemon.active_model import ActiveModel\n"
        "reload._FOLLOW_S = 1.0\n"
        "ActiveModel.swap = lambda slot, model, record: time.sleep(600)\n"
    )
    site = make_site(trained_model, limits={"drain_s": 1.5})
    with started(tmp_path, site, code=hangs + START) as daemon:
        daemon.wait_state("running")
        site["pipelines"]["a"]["model"] = str(shutil.copytree(trained_model, tmp_path / "another"))
        write_site(tmp_path, site)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said("is not loaded after 1 s"), "the report")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said("is still being loaded"), "the second reload")
        daemon.wait_judged(3)
        daemon.stop(within_s=4)


@pytest.mark.slow
def test_the_service_manager_gets_its_signs_while_a_reload_hangs(trained_model, tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(90)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
        hangs = "import time\nfrom edgead.line.daemon.run import Daemon\nDaemon._reload = lambda _: time.sleep(600)\n"
        site = make_site(trained_model, limits={"drain_s": 1.5})
        with started(tmp_path, site, code=hangs + START, environment=environment) as daemon:
            daemon.wait_state("running")
            daemon.process.send_signal(signal.SIGHUP)
            while b"RELOADING=1" not in manager.recv(4096):
                pass

            def next_sign():
                while b"WATCHDOG=1" not in manager.recv(4096):
                    pass

            assert usual_s([next_sign] * 5) < 1.5
            daemon.stop(within_s=4)
