"""`inp_lite`: what it refuses, what it scores, how it learns and goes on, and one model of two products."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from command_line import run_here  # noqa: E402

from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead_foundation import inp_lite  # noqa: E402
from edgead_foundation.inp_lite import InpLite  # noqa: E402

TINY = {
    "backbone": "efficientnet_lite0",
    "image_size": (64, 80),
    "blocks": 1,
    "steps": 6,
    "batch_images": 4,
    "batch_patches": 16,
    "seen_patches": 40,
}


def flat_grey(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.full((64, 80, 3), 120, np.uint8) + rng.integers(0, 40, (64, 80, 3), np.uint8) for _ in range(count)]


IMAGES = flat_grey(12)


@pytest.fixture(scope="module")
def trained():
    method = InpLite.from_settings(TINY)
    method.fit(IMAGES)
    return method


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet18"}, "'resnet18' is none of inp_lite: choose one of efficientnet_lite0"),
        ({"heads": 7}, "heads=7: the 152 channels of a patch are no multiple of it"),
        ({"blocks": 0}, "must be at least 1"),
        ({"seen_patches": 0}, "must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        InpLite.from_settings({**TINY, **settings}, pretrained=False)


def test_a_spot_is_where_the_scores_are(trained):
    spot = IMAGES[0].copy()
    spot[20:36, 40:56] = 255
    with torch.inference_mode():
        good, bad = trained.network(torch.from_numpy(np.stack([IMAGES[1], spot]))).numpy()
    assert bad.shape == (8, 10) and bad.max() > 3 * good.max()
    row, column = np.unravel_index(bad.argmax(), bad.shape)
    assert 2 <= row <= 5 and 4 <= column <= 7


def test_the_score_is_as_loud_in_each_direction_of_what_good_images_miss(trained):
    network = trained.network
    with torch.inference_mode():
        patches = network.features(torch.from_numpy(np.stack(IMAGES))).flatten(1, 2)
        missed = network.missed(patches).flatten(0, 1)
        scaled = missed @ network.root
        scores = network(torch.from_numpy(np.stack(IMAGES)))
    torch.testing.assert_close(scores.flatten(), scaled.square().mean(dim=1), rtol=1e-4, atol=1e-5)
    before, after = (np.linalg.eigvalsh((x.T @ x).numpy().astype(np.float64)) for x in (missed, scaled))
    assert after[-1] / np.median(after) < 0.2 * before[-1] / np.median(before)


def test_patches_that_are_kept_are_bounded(monkeypatch):
    seen = []
    extract = inp_lite.extract_patches
    monkeypatch.setattr(inp_lite, "extract_patches", lambda *a, **k: seen.append(extract(*a, **k)) or seen[-1])
    InpLite.from_settings({**TINY, "max_patches": 120, "steps": 1}).fit(IMAGES)
    assert seen[0].shape == (120, 152)


def test_an_interrupted_training_goes_on(trained, tmp_path, monkeypatch):
    update, made = inp_lite.update, []

    def interrupted(*arguments):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(1)
        return update(*arguments)

    monkeypatch.setattr(inp_lite, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        InpLite.from_settings(TINY).fit(IMAGES, checkpoint=Checkpoint(tmp_path / "state", {}, every_s=0))
    monkeypatch.setattr(inp_lite, "update", update)
    again = InpLite.from_settings(TINY)
    again.fit(IMAGES, checkpoint=Checkpoint(tmp_path / "state", {}, every_s=0))
    torch.testing.assert_close(again.network.state_dict(), trained.network.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
def test_one_model_of_two_products(line_data, tmp_path):
    """From the command line, over folders of products; then in half floats and with 8 bits."""
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    for number, path in enumerate(sorted((line_data / "train" / "good").iterdir())):
        image = load_image(path)
        write_image(tmp_path / "products" / "line" / f"{number}.png", image)
        write_image(tmp_path / "products" / "negative" / f"{number}.png", 255 - image)
    model = tmp_path / "model"
    small = ["--backbone", "efficientnet_lite0", "--image-size", "96", "--set", "steps=20"]
    ended = run_here("train", tmp_path / "products", "-o", model, "--normal-dir", "*", "--detector", "inp_lite", *small)
    assert ended.returncode == 0, ended.stderr
    training = Artifact.load(model).manifest.training
    assert training["training_images"] + training["calibration_images"] == 120
    assert training["groups"]["rule"] == "folders" and training["groups"]["groups"] == 120
    from edgead.export.graph import load_graph
    from edgead.export.layers import transformer

    assert not transformer(load_graph(Artifact.load(model)))  # squared lengths stay in float, and int8 is possible
    for precision in ("fp16", "int8"):
        ended = run_here("export", model, tmp_path / "products", "--precision", precision, "--tolerance", 0.1)
        assert ended.returncode == 0, ended.stderr
    assert run_here("verify", model, "--all").returncode == 0
