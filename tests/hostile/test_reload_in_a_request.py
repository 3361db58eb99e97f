"""A reload that adds or takes out pipelines, cameras and sinks in the middle of a request: whole answers, or words."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest

pytest.importorskip("onnx", reason="RELOADS IN A REQUEST NOT TESTED: the small models need onnx")
from small_daemon import small_daemon, write_model

from edgead.line.daemon.pipeline import Pipeline
from edgead.sinks.queued import QueuedSink
from edgead.sources.reopened_camera import SupervisedCamera

CONVEYOR = "synthetic:?rate=20&count=6&repeat=1"


@pytest.fixture
def daemon(once, tmp_path):
    models = [str(write_model(once, tmp_path / name)) for name in ("one", "two", "three")]
    site = {
        "cameras": {"left": {"uri": CONVEYOR}, "right": {"uri": CONVEYOR}},
        "pipelines": {name: {"camera": "left", "model": model} for name, model in zip("abc", models, strict=True)},
        "sinks": {"first": {"kind": "jsonl", "path": "first.jsonl"}, "second": {"kind": "jsonl", "path": "2.jsonl"}},
        "http": {"port": 0},
    }
    with small_daemon(tmp_path, site) as started:
        for name in "abc":
            started.wait_state("running", name)
        yield started


@pytest.fixture
def reloads(daemon, monkeypatch):
    """Sites that are to come, each in the state of a part that a request asks for once it has asked for some others."""
    asked = []
    for kind in (Pipeline, SupervisedCamera, QueuedSink):

        def status(part, _status=kind.status):
            found = _status(part)
            if asked and threading.current_thread().name.startswith("AnyIO"):
                site, others = asked.pop()
                if others:
                    asked.append((site, others - 1))
                else:
                    daemon.site = site
                    daemon.reload()
            return found

        monkeypatch.setattr(kind, "status", status)
    return asked


def without_the_last(site):
    less = deepcopy(site)
    del less["pipelines"]["c"], less["cameras"]["right"], less["sinks"]["second"]
    return less


@pytest.mark.parametrize("path", ["/api/status", "/api/pipelines", "/api/cameras", "/metrics", "/api/lessons"])
def test_whoever_goes_through_all_parts_is_answered(daemon, reloads, path):
    whole = daemon.site
    with daemon.client as client:
        for site in (without_the_last(whole), whole):
            # A lesson asks its own pipeline first, and then which ones judge by the same model.
            reloads.append((site, 1 if path == "/api/lessons" else 0))
            if path == "/api/lessons":
                answer = client.post(path, json={"pipeline": "a", "verdicts": [], "by": "Anna"})
                assert answer.status_code == 409 and "parts with an image are marked bad" in answer.json()["detail"]
            else:
                answer = client.get(path)
                assert answer.status_code == 200, answer.text
            assert not reloads, "no state was asked for"
            assert set(daemon.daemon.pipelines) == set(site["pipelines"])
            assert set(daemon.daemon.cameras) == set(site["cameras"])
            assert set(daemon.daemon.sinks) == set(site["sinks"])


@pytest.mark.parametrize(
    "method, path, given",
    [
        ("POST", "/api/lessons", {"pipeline": "c", "verdicts": [], "by": "Anna"}),
        ("GET", "/api/pipelines/c/models", None),
    ],
)
def test_a_pipeline_that_has_just_been_taken_out_is_answered_in_words(daemon, reloads, method, path, given):
    reloads.append((without_the_last(daemon.site), 0))
    with daemon.client as client:
        answer = client.request(method, path, json=given)
    assert answer.status_code == 409 and not reloads
    assert answer.json()["detail"] == "there is no pipeline c any more: the site file has changed"
