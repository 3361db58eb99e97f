"""From clips by the command line: trained, exported, verified in each precision, and scored frame by frame."""

from __future__ import annotations

import csv

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("onnx", reason="exporting needs the workstation's packages")

import onnxruntime  # noqa: E402
from command_line import run_here  # noqa: E402
from drawn_clips import draw_clip  # noqa: E402
from test_memoryout import STRIPS, build  # noqa: E402

from edgead.adapt.build import write_draft  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402

pytestmark = pytest.mark.slow


def test_the_graph_gives_what_torch_gives_for_any_number_of_strips(tmp_path):
    trained = build(layers=2).fit(STRIPS)
    write_draft(trained, tmp_path, trained.preprocessing)
    graph = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3):
        batch = np.stack(STRIPS[:count])
        patches, scores = graph.run(None, {"image": batch})
        with torch.inference_mode():
            expected = trained.network(torch.from_numpy(batch))
        np.testing.assert_allclose(patches, expected[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(scores, expected[1], rtol=1e-3, atol=1e-4)


def test_from_clips_to_scores_in_every_precision(tmp_path):
    for seed in range(8):
        for number, image in enumerate(draw_clip(seed, 14)):
            write_image(tmp_path / "clips" / f"clip{seed}" / f"{number:02d}.png", image)
    for number, image in enumerate(draw_clip(50, 20, "square")):
        write_image(tmp_path / "square" / f"{number:02d}.png", image)
    data, model = tmp_path / "data", tmp_path / "model"
    assert run_here("video", "strips", *sorted((tmp_path / "clips").iterdir()), "-o", data).returncode == 0
    settings = {"dim": 32, "layers": 1, "steps": 150, "batch_images": 4}
    arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    arguments += ["--detector", "memoryout", "--image-size", 64, "--group", data / "groups.csv", "--precision", "fp32"]
    ended = run_here("train", data, "-o", model, *arguments, "--false-reject-rate", 0.25)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, data, "--precision", "fp16", "--tolerance", 0.1)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, data, "--precision", "int8")
    assert ended.returncode == 2 and "take fp16" in ended.stderr
    ended = run_here("verify", model, "--all")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert load_network(Artifact.load(model)) is not None
    csv_file, sheet = tmp_path / "scores.csv", tmp_path / "sheet.png"
    ended = run_here("video", "score", model, tmp_path / "square", "--csv", csv_file, "--sheet", sheet)
    assert ended.returncode == 0, ended.stderr
    with csv_file.open() as file:
        scores = {int(row["frame"]): float(row["score"]) for row in csv.DictReader(file)}
    assert list(scores) == list(range(4, 20)) and load_image(sheet).shape[1] == 1400
    assert min(scores[n] for n in range(12, 20)) > max(scores[n] for n in range(4, 10))
    assert run_here("stream", model, f"strips:{tmp_path / 'square'}").returncode == 0
