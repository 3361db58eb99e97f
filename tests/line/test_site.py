"""The site file: what is wrong is said in its own words with the line, and paths start from the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli import edgead

from edgead.errors import SettingsError
from edgead.images.files import write_image
from edgead.line.site.load import load_site
from edgead.synthetic.line import render

BASE = "cameras:\n  top: {uri: 'synthetic:'}\npipelines:\n  a:\n    camera: top\n    model: m\n"
WRONG = {
    "a pipeline twice": (
        BASE.replace("  a:\n", "  a: {camera: top, model: x}\n  a:\n"),
        "line 5: the key 'a' is there already, in line 4: rename or remove one",
    ),
    "a camera twice": (
        BASE.replace("pipelines", "  top: {uri: camera:1}\npipelines"),
        "line 3: the key 'top' is there already, in line 2",
    ),
    "a misspelt key": (BASE.replace("model", "modle"), "line 6: pipelines.a.modle: unknown key; did you mean model?"),
    "a key like no other": (BASE + "zzzz: 1\n", "line 7: zzzz: unknown key; known are cameras, pipelines, sinks"),
    "a key of a sink": (
        BASE + "sinks:\n  b: {kind: mqtt, host: h, topci: x}\n",
        "line 8: sinks.b.topci: unknown key; did you mean topic?",
    ),
    "no list": (BASE + "    sinks: broker\n", "line 7: pipelines.a.sinks: must be a list, such as [a, b], found text"),
    "no section": (
        BASE + "    trigger: every\n",
        "line 7: pipelines.a.trigger: must be a section of `key: value` lines, found text",
    ),
    "nothing": ("cameras:\npipelines:\n", "line 1: cameras: must be a section of `key: value` lines, found nothing"),
    "an unknown kind": (
        BASE + "sinks:\n  b: {kind: mqqt, host: h}\n",
        "line 8: sinks.b: unknown kind 'mqqt'; known are jsonl, images, video, window, sqlite, mqtt, webhook, modbus, "
        "uri",
    ),
    "a misspelt kind": (BASE + "sinks:\n  b: {kind: mqqt, host: h}\n", "line 8: sinks.b: .*; did you mean mqtt?"),
    "no kind": (BASE + "sinks:\n  b: {host: h}\n", "line 8: sinks.b: 'kind' is missing"),
    "a number": (BASE + "http: {port: eighty}\n", "line 7: http.port: must be a whole number, found text"),
    "a bound": (BASE + "    budget_ms: 0\n", "line 7: pipelines.a.budget_ms: must be above 0"),
    "a choice": (BASE + "    precision: fp8\n", "line 7: pipelines.a.precision: must be 'fp32', 'fp16' or 'int8'"),
    "a name": (BASE.replace("  a:", "  Aa:"), "line 4: pipelines.Aa: a name is of lower-case letters"),
    "a camera that is not there": (
        BASE.replace("camera: top", "camera: tpo"),
        "line 5: pipelines.a.camera: there is no 'tpo'; did you mean top?",
    ),
    "a variable": (BASE.replace("synthetic:", "${NOBODY}"), "line 2: cameras.top.uri: the environment variable NOBODY"),
    "a sink's URI": (BASE + "sinks:\n  b: {kind: uri, uri: 'jsnl:x'}\n", "line 8: sinks.b.uri: jsnl:x: unknown sink"),
    "a folder watched twice": (
        BASE.replace("top: {uri: 'synthetic:'}", "top: {uri: 'watch:in'}\n  side: {uri: 'watch:./in/?after=keep'}"),
        "line 3: cameras.side.uri: camera top watches this folder too, and each would take the other's images: let the",
    ),
    "a ? in braces": ("cameras:\n  top: {uri: /a/b.avi?x=1}\n", 'line 2: .*put the value in quotes: "..."'),
    "a colon": ("cameras:\n  top: uri: x\n", "line 2: .*put the value in quotes"),
    "a percent sign": (BASE + "store: {folder: %x}\n", "line 7: .*put the value in quotes"),
    "a tab": ("cameras:\n\ttop: x\n", "line 2: .*indent with spaces"),
    "a date": (BASE + "x: 2026-13-45\n", "line 7: a value cannot be read: month must be in 1..12"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_line(name, tmp_path):
    text, expected = WRONG[name]
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_site(file, {})
    start, _, rest = expected.partition(": .*")
    assert f"{file}, {start}" in str(error.value) and rest in str(error.value)
    assert "Input should" not in str(error.value) and "valid" not in str(error.value)


def test_all_problems_come_by_their_lines_and_a_misspelt_key_once(tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text(BASE.replace("camera: top", "camra: top") + "    budget_ms: -1\n")
    with pytest.raises(SettingsError) as error:
        load_site(file)
    first, second = str(error.value).splitlines()
    assert first.endswith("line 5: pipelines.a.camra: unknown key; did you mean camera?")
    assert second.endswith("line 7: pipelines.a.budget_ms: must be above 0")


def test_a_folder_that_two_cameras_watch_is_found_by_what_it_is_and_not_by_its_name(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    path = tmp_path / "site.yaml"
    for other, refused in (("link", True), (tmp_path / "in", True), ("out", False)):
        path.write_text(
            BASE.replace("top: {uri: 'synthetic:'}", f"top: {{uri: 'watch:in'}}\n  b: {{uri: watch:{other}}}")
        )
        if refused:
            with pytest.raises(SettingsError, match="camera top watches this folder too"):
                load_site(path)
        else:
            assert set(load_site(path).cameras) == {"top", "b"}


def test_relative_paths_start_from_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    file = tmp_path / "site.yaml"
    file.write_text(
        "cameras:\n  a: {uri: 'line.avi?rate=4'}\n  b: {uri: 'parts/*.png'}\n  c: {uri: 'rtsp://10.0.0.7/x'}\n"
        "pipelines:\n  a: {camera: a, model: m}\n"
        "sinks:\n  l: {kind: uri, uri: 'jsonl:v.jsonl', required: true}\n"
        "  i: {kind: uri, uri: 'images:x?only=reject'}\n"
        "  v: {kind: uri, uri: 'video:x.avi'}\n  j: {kind: jsonl, path: v.jsonl}\n  o: {kind: uri, uri: 'jsonl:-'}\n"
        "store: {url: 'sqlite:///v.sqlite'}\n"
    )
    site = load_site(file)
    assert [camera.uri for camera in site.cameras.values()] == [
        f"{tmp_path}/line.avi?rate=4",
        f"{tmp_path}/parts/*.png",
        "rtsp://10.0.0.7/x",
    ]
    assert site.pipelines["a"].model == tmp_path / "m"
    assert site.sinks["l"].path == tmp_path / "v.jsonl" and site.sinks["l"].required
    assert site.sinks["i"].folder == tmp_path / "x" and site.sinks["i"].only == "reject"
    assert site.sinks["v"].path == tmp_path / "x.avi" and site.sinks["j"].path == tmp_path / "v.jsonl"
    assert site.sinks["o"].path == "-"
    assert site.store.url == f"sqlite:///{tmp_path}/v.sqlite" and site.store.folder == tmp_path / "evidence"


def test_a_check_reports_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "site.yaml"
    file.write_text(
        "cameras:\n  a: {uri: gone.avi}\n  b: {uri: part.png}\n  c: {uri: 'rtsp://10.0.0.7/x'}\n"
        "pipelines:\n  a: {camera: a, model: m}\n"
    )
    write_image(tmp_path / "part.png", render(1)[0])
    reported = edgead("daemon", "-c", file, "--check", code=1)
    assert f"{file}, line 2: cameras.a.uri: {file.parent}/gone.avi: no such file or folder" in reported.stderr
    assert f"relative paths start from the site file: write {tmp_path}/part.png" in reported.stderr
    assert f"{file}, line 6: pipelines.a.model: {file.parent}/m is not an edgead model" in reported.stderr
    assert "cameras.c" not in reported.stderr and "model: " + str(file.parent / "m") in reported.stdout


def test_a_check_of_what_is_there_is_quiet(trained_model, tmp_path):
    write_image(tmp_path / "part.png", render(1)[0])
    file = tmp_path / "site.yaml"
    file.write_text(
        "cameras:\n  a: {uri: '*.png'}\n  b: {uri: 'synthetic:'}\nhttp: {port: 0}\n"
        f"pipelines:\n  a: {{camera: a, model: {trained_model}}}\n"
    )
    assert edgead("daemon", "-c", Path(file), "--check").stderr == ""


def test_a_check_reports_models_too_slow_for_their_budgets(trained_model, tmp_path):
    file = tmp_path / "site.yaml"
    file.write_text(
        "cameras:\n  a: {uri: 'synthetic:'}\npipelines:\n"
        f"  fits: {{camera: a, model: {trained_model}, budget_ms: 100000}}\n"
        f"  late: {{camera: a, model: {trained_model}, budget_ms: 0.001}}\n"
        f"  gone: {{camera: a, model: {tmp_path / 'gone'}, budget_ms: 0.001}}\n"
    )
    reported = edgead("daemon", "-c", file, "--check", code=1).stderr
    assert f"{file}, line 5: pipelines.late.budget_ms: {trained_model} takes " in reported
    assert reported.count("budget_ms: ") == 1 and "pipelines.gone.model: " in reported
