"""INP-Former on a tiny tower: what it refuses, how it learns and goes on, its artifact."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="the backbone is timm's")

from command_line import run_here  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from towers import SMALL  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead_foundation.backbones.names import TOWERS  # noqa: E402
from edgead_foundation.backbones.networks import create  # noqa: E402
from edgead_foundation.inp_former import training  # noqa: E402
from edgead_foundation.inp_former.detector import InpFormer, InpFormerConfig  # noqa: E402
from edgead_foundation.inp_former.training import TrainingSchedule  # noqa: E402

NAME = "dinov2_vits14_reg"
TINY = {
    "backbone": NAME,
    "layers": ["block2", "block3"],
    "image_size": (28, 42),
    "blocks": 2,
    "batch_images": 4,
    "map_size": 20,
}
REAL = dict(TOWERS)

pytestmark = pytest.mark.usefixtures("small_towers")


@pytest.fixture
def small_towers(monkeypatch):
    for name, tower in SMALL.items():
        monkeypatch.setitem(TOWERS, name, tower)


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    tower = TOWERS[NAME]
    state = create(tower, (tower.side, tower.side)).state_dict()
    save_file({name: x + 0.02 * torch.randn_like(x) for name, x in state.items()}, tmp_path / "tower.safetensors")
    return tmp_path / "tower.safetensors"


def images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 28, 42, 3), np.uint8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "efficientnet_lite2"}, "has no tokens: inp_former needs one of clip_vitb32"),
        ({"layers": ["block4"]}, "layers .* choose from block1, block2, block3"),
        ({"layers": ["block1", "block2", "block3"]}, "even numbers of them, found 3 and 2"),
        ({"blocks": 3}, "even numbers of them, found 2 and 3"),
        ({"epochs": -1}, "epochs at least 0"),
        ({"batch_images": 0}, "must be at least 1"),
        ({"top_share": 0.0}, "at most 1 and above 0"),
        ({"map_size": 29}, r"29 is more than image_size \[28, 42\] has"),
        ({"image_size": (30, 42)}, "multiples of them"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        InpFormer.from_settings({**TINY, **settings}, pretrained=False)


def test_presets_are_of_real_towers(monkeypatch):
    monkeypatch.undo()
    for settings in InpFormer.presets.values():
        config = InpFormerConfig(**settings)
        TOWERS[config.backbone].check_image_size(config.image_size)
        blocks = [int(layer.removeprefix("block")) for layer in config.layers]
        assert len(blocks) == 8 and max(blocks) < TOWERS[config.backbone].depth


def test_its_map_is_square_and_the_image_score_a_share_of_it(weights):
    method = InpFormer.from_settings({**TINY, "top_share": 0.02}, weights=weights)
    with torch.inference_mode():
        found = method.network(torch.from_numpy(np.stack(images(2))))
    assert found.shape == (2, 20, 20) and method.head.top_patches == 8
    score, shown = method.head.reference({"patch_scores": found[0].double().numpy()}, {}, (28, 42))
    assert score == pytest.approx(float(found[0].flatten().topk(8).values.mean())) and shown.shape == (28, 42)


def test_each_epoch_has_an_order_of_its_own_and_whole_batches():
    plan = TrainingSchedule(images=10, epochs=3, batch=4, learning_rate=1e-3, warm_up=2, seed=1)
    assert (plan.per_epoch, plan.steps) == (2, 6)
    epochs = [np.concatenate([plan.of(step) for step in (first, first + 1)]) for first in (0, 2, 4)]
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    few = TrainingSchedule(images=3, epochs=2, batch=4, learning_rate=1e-3, warm_up=2, seed=1)
    assert few.steps == 2 and sorted(few.of(1).tolist()) == [0, 1, 2]


def test_it_learns_and_goes_on_after_an_interruption(weights, tmp_path, monkeypatch):
    settings = {**TINY, "epochs": 3, "warm_up": 1}

    def fit(checkpoint=None):
        method = InpFormer.from_settings(settings, weights=weights)
        before = method.network.reconstruction.prototypes.detach().clone()
        method.fit(images(8), checkpoint=checkpoint)
        assert not torch.equal(before, method.network.reconstruction.prototypes)
        return method.network.state_dict()

    whole = fit()
    update, made = training.update, []

    def interrupted(*arguments):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(1)
        return update(*arguments)

    monkeypatch.setattr(training, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(Checkpoint(tmp_path / "state", {}, every_s=0))
    monkeypatch.setattr(training, "update", update)
    resumed = fit(Checkpoint(tmp_path / "state", {}, every_s=0))
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_images_beyond_the_memory_are_looked_at_again(weights, monkeypatch):
    settings = {**TINY, "epochs": 2, "warm_up": 1}
    kept = InpFormer.from_settings(settings, weights=weights).fit(images(4)).network.state_dict()
    monkeypatch.setattr(training, "KEPT_BYTES", 0)
    again = InpFormer.from_settings(settings, weights=weights).fit(images(4)).network.state_dict()
    torch.testing.assert_close(again, kept, rtol=0, atol=0)


@pytest.mark.slow
def test_from_the_command_line_to_half_floats(line_data, weights, tmp_path):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    model = tmp_path / "model"
    settings = {
        "layers": "[block2,block3]",
        "backbone": NAME,
        "blocks": 4,
        "epochs": 2,
        "map_size": 56,
        "batch_images": 4,
        "warm_up": 2,
    }
    arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    arguments += ["--image-size", "56,84", "--weights", weights, "--detector", "inp_former"]
    ended = run_here("train", line_data, "-o", model, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert f"{NAME}: about " in ended.stderr
    ended = run_here("export", model, line_data, "--precision", "fp16")
    assert ended.returncode == 0, ended.stderr
    assert run_here("verify", model, "--all").returncode == 0
