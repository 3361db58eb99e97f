"""Secrets in every place of a URI where cameras and receivers take them: none is shown, logged or in an error."""

from __future__ import annotations

import io
import logging

import pytest

from edgead.line.daemon.logs import JsonFormatter
from edgead.line.site.load import resolved
from edgead.line.site.schema import Site
from edgead.sources import SourceError, open_source
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection

SECRET = "Hunter2x"
CAMERAS = [
    "rtsp://kim:{}@10.0.0.7/stream",
    "rtsp://{}@10.0.0.7/stream",
    "rtsp://10.0.0.7/{}",
    "rtsp://10.0.0.7/{}/stream1",
    "rtsp://10.0.0.7:7447/live/{}",
    "rtsp://10.0.0.7/user=admin_password={}_channel=1",
    "rtsp://10.0.0.7/stream?u=oper&p={}",
    "rtsp://10.0.0.7/stream?{}",
    "http://10.0.0.7/video?auth={}&fps=5",
    "http://10.0.0.7/video?x={}&fps=5",
    "http://10.0.0.7/video#{}",
    "https://10.0.0.7/cgi-bin/{}.cgi",
    "udp://10.0.0.7:5000/{}",
]
DEVICES = [
    "v4l2:///dev/video99?password={}",
    "v4l2:///dev/video99?token={}&width=640",
    "csi://9?secret={}",
    "camera:kim:{}@/dev/video0",
]
SINKS = ["webhook:http://host/{}", "webhook:https://kim:{}@host/x", "webhook:http://host/x?a={}", "mqtt://kim:{}@h/t"]


def site(**changed):
    content = {"cameras": {"top": {"uri": "camera:0"}}, "pipelines": {"a": {"camera": "top", "model": "m"}}}
    return Site.model_validate(content | changed)


def check_hidden(site, value):
    """Neither what `--check` prints nor a log line that quotes the value shows the secret."""
    assert SECRET not in resolved(site)
    assert SECRET not in repr(site)
    stream = io.StringIO()
    formatter = JsonFormatter()
    formatter.hide(site)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error("cannot open %s", value)
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("uri", CAMERAS)
def test_a_camera_keeps_its_secret(uri):
    uri = uri.format(SECRET)
    check_hidden(site(cameras={"top": {"uri": uri}}), uri)
    assert SECRET not in str(SupervisedCamera("top", CameraSection(uri=uri)).status())


@pytest.mark.parametrize("uri", DEVICES)
def test_a_device_keeps_its_secret_in_errors_too(uri):
    uri = uri.format(SECRET)
    with pytest.raises(SourceError) as refused:
        open_source(uri)
    assert SECRET not in str(refused.value)
    assert SECRET not in resolved(site(cameras={"top": {"uri": uri}}))


@pytest.mark.parametrize("uri", SINKS)
def test_a_sink_keeps_its_secret(uri):
    uri = uri.format(SECRET)
    check_hidden(site(sinks={"x": {"kind": "uri", "uri": uri}}), uri)


def test_the_path_of_a_webhook_is_its_secret():
    url = f"https://chat.example/hooks/{SECRET}"
    check_hidden(site(sinks={"x": {"kind": "webhook", "url": url}}), url)
