"""The verb `tune`: its help, what it refuses before it reads an image, and what a trial changes of what was trained."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="tuning needs the workstation's packages")
from test_cli import edgead, refused  # noqa: E402
from test_made import good, made, rejects  # noqa: E402, F401

from edgead.adapt.methods import METHODS  # noqa: E402
from edgead_tune.trial import with_rows, with_window  # noqa: E402


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detectors", "oracle"], "cannot tune oracle"),
        (["--precisions", "fp8"], "unknown precision 'fp8'"),
        (["--runtime", "oracle"], "unknown runtime 'oracle'"),
    ],
)
def test_a_search_checks_its_options_before_images_are_read(line_data, tmp_path, monkeypatch, options, message):
    def refuse(*_arguments, **_settings):
        raise AssertionError("an image was read")

    monkeypatch.setattr("edgead.dataset.folders.load_image", refuse)
    command = ["tune", line_data, "-o", "out", "--latency-ms", "9", *options]
    assert message in refused(monkeypatch, tmp_path, command)


def test_made_defects_are_refused(made, tmp_path):  # noqa: F811
    ended = edgead("tune", made / "test" / "good", "-o", tmp_path / "new", "--latency-ms", 100, code=2)
    assert "made defects" in ended.stderr and not (tmp_path / "new").exists()


def test_the_help_of_the_verb_is_edgeads():
    shown = " ".join(edgead("tune", "--help").stdout.split())
    assert "edgead tune [OPTIONS]" in shown and "Examples: edgead tune good_images" in shown


def test_what_was_trained_gets_another_window_and_fewer_rows():
    settings = {"backbone": "efficientnet_lite0", "image_size": (64, 64)}
    trained = METHODS["mvg"].from_settings(settings, pretrained=False).trained()
    windowed = with_window(trained, 3)
    assert windowed.head.window == 3 and windowed.settings["window"] == 3 and trained.settings.get("window") != 3
    assert with_rows(trained, 3).arrays == trained.arrays  # mvg has no bank
