"""MC4AD on height maps: what its pushes and its network do, what is refused, and from the command line to verdicts."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from command_line import run_here  # noqa: E402

from benchmarks.plates import MM_PER_COUNT, render_plate, write_plates  # noqa: E402
from edgead import Detector  # noqa: E402
from edgead.artifact.inputs import Relief  # noqa: E402
from edgead.artifact.manifest import Preprocessing  # noqa: E402
from edgead.artifact.relief import add_heights, channels_of, surface_of  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.trainer import loop  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead_height.mc4ad.detector import Mc4ad  # noqa: E402
from edgead_height.mc4ad.network import SHRINK, PushNetwork  # noqa: E402
from edgead_height.mc4ad.pushes import MOVED, PARTS, drawn_push, smooth_push  # noqa: E402

SIZE = (32, 48)
SMALL = {"image_size": SIZE, "widths": (4, 8), "steps": 6, "batch_images": 2}
RELIEF = Relief(mm_per_count=0.005, height_mm=0.1, slope_mm=0.02, sigma_px=4)
SPEC = Preprocessing(image_size=SIZE, colour="relief", relief=RELIEF)


def good_maps(count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = rng.normal(0, 0.01, (count, *SIZE)).astype(np.float32)
    return [channels_of(surface_of(mm, RELIEF.sigma_px), RELIEF) for mm in made]


def build(**settings):
    method = Mc4ad.from_settings({**SMALL, **settings})
    assert method.prepared(SPEC).relief is not None
    return method


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": (30, 32)}, "multiples of 8"),
        ({"least_mm": 0.0}, "least_mm"),
        ({"least_mm": 2.0, "most_mm": 1.0}, "in order"),
        ({"smooth_share": 1.5}, "share"),
        ({"widths": (8,)}, "widths"),
        ({"steps": 0}, "steps"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Mc4ad.from_settings({**SMALL, **settings})


def test_weights_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="--weights"):
        Mc4ad.from_settings(SMALL, weights=tmp_path / "weights")


def test_a_drawn_push_tilts_one_patch():
    rng = np.random.default_rng(3)
    for _ in range(5):
        push = drawn_push((64, 64), 0.5, rng)
        up = push[..., 2]
        assert int((np.abs(push).sum(axis=2) > 0).sum()) in range(64 * 64 // PARTS - 3, 64 * 64 // PARTS + 1)
        assert 0.4 < np.abs(up).max() <= 0.5
        assert np.abs(push[..., :2]).max() < 0.06 * 0.5  # nearly along the normal
        assert up.min() < 0 < up.max()
    assert MOVED < PARTS


@pytest.mark.parametrize("distance", [0.05, 1.0])
def test_a_smooth_push_goes_one_way(distance):
    rng = np.random.default_rng(0)
    signs = set()
    for _ in range(20):
        push = smooth_push((64, 64), distance, rng)
        assert not push[..., :2].any()
        extremes = push[..., 2].min(), push[..., 2].max()
        assert min(map(abs, extremes)) < 1e-3 * distance
        assert 0.8 * distance < max(map(abs, extremes)) <= distance * (1 + 1e-5)
        signs.add(float(np.sign(sum(extremes))))
    assert signs == {-1.0, 1.0}


def test_the_range_is_widened_so_that_the_largest_push_is_seen():
    method = Mc4ad.from_settings({**SMALL, "most_mm": 3.0})
    widened = method.prepared(SPEC)
    assert widened.relief.height_mm == 1.5 and widened.relief.slope_mm == RELIEF.slope_mm
    assert method.prepared(widened) == widened  # of the folds
    np.testing.assert_allclose(method.network.reach_mm, [1.5, 0.02, 0.02])


def test_the_network_reads_millimetres():
    """What it is shown in another range is the same push; deeper it is a deeper one, and of a cast the opposite."""
    network = PushNetwork((4, 8)).eval()
    for parameter in network.unet.parameters():
        parameter.data *= 3  # untrained, hardly anything would come through
    mm = np.random.default_rng(1).normal(0, 0.02, SIZE).astype(np.float32)
    wide = RELIEF.model_copy(update={"height_mm": 0.7})
    found = []
    for relief, factor in ((RELIEF, 1.0), (wide, 1.0), (RELIEF, 2.0), (RELIEF, -1.0)):
        network.take_ranges(relief)
        network.usual_mm.fill_(0.02 * abs(factor))
        with torch.no_grad():
            found.append(network(torch.from_numpy(channels_of(surface_of(factor * mm, 4), relief))[None]).numpy())
    assert found[0].shape == (1, SIZE[0] // SHRINK, SIZE[1] // SHRINK)
    scale = np.abs(found[0]).max()
    np.testing.assert_allclose(found[1], found[0], atol=1e-4 * scale)
    np.testing.assert_allclose(found[2], 2 * found[0], atol=1e-4 * scale)
    np.testing.assert_allclose(found[3], -found[0], atol=1e-4 * scale)
    assert scale > 1e-4


def test_a_dent_is_learnt_as_too_low_and_a_bump_as_too_high():
    method, good, alike = build(steps=200, batch_images=4, learning_rate=3e-3, smooth_share=1.0), good_maps(), []
    method.fit(good)
    for seed in range(8):
        push = smooth_push(SIZE, 0.5, np.random.default_rng(seed))[..., 2]
        with torch.no_grad():
            back = method.network(torch.from_numpy(add_heights(good[0], push, method._relief))[None])[0].numpy()
        moved = push.reshape(SIZE[0] // SHRINK, SHRINK, -1, SHRINK).mean(axis=(1, 3))
        alike.append(np.corrcoef(back.ravel(), -moved.ravel())[0, 1])
    assert np.mean(alike) > 0.4  # 0.76; of targets with the other sign below 0


def test_surfaces_are_cut_as_the_authors_cut_them():
    assert (PARTS, MOVED) == (64, 32)


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    images, whole = good_maps(), build()
    whole.fit(images)
    stopped = build()
    monkeypatch.setattr(loop, "_finite", lambda losses, number: 1 / 0 if number == 3 else [])
    checkpoint = Checkpoint(tmp_path / "state", {}, every_s=0)
    with pytest.raises(ZeroDivisionError):
        stopped.fit(images, checkpoint=checkpoint)
    monkeypatch.undo()
    resumed = build()
    resumed.fit(images, checkpoint=Checkpoint(tmp_path / "state", {}, every_s=0))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_other_images_are_refused(tmp_path):
    write_plates(tmp_path / "plates", good=4, tested=1, dents_mm=(), size=(32, 32))
    ended = run_here("train", tmp_path / "plates" / "images", "-o", tmp_path / "model", "--detector", "mc4ad")
    assert ended.returncode and "add --input relief" in ended.stderr


@pytest.mark.slow
def test_from_height_maps_to_millimetres(tmp_path):
    """Trained, verified in each precision, and judged by the device side: the dent's depth, and its sign."""
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    plates, model = tmp_path / "plates", tmp_path / "model"
    write_plates(plates, good=30, tested=3, dents_mm=(0.5,), size=(96, 96))
    heights = plates / "heights"
    arguments = ["--input", "relief", "--mm-per-count", MM_PER_COUNT, "--detector", "mc4ad", "--image-size", 64]
    arguments += ["--set", "steps=400", "--set", "widths=[16,24,32]", "--false-reject-rate", 0.2]
    ended = run_here("train", heights, "-o", model, *arguments)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, heights, "--precision", "fp16", "--tolerance", 0.1)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, heights, "--precision", "int8")
    assert ended.returncode and "int8" in ended.stderr
    ended = run_here("verify", model, "--all")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    content = json.loads((model / "manifest.json").read_text())
    assert content["head"]["kind"] == "push"
    with Detector.load(model) as detector:
        for depth in (0.5, -0.5):
            plate = render_plate(np.random.default_rng(4), dent_mm=depth, size=(96, 96))
            verdict = detector.predict(plate.heights)
            assert verdict.decision == "reject"
            assert verdict.measured["push_mm"] == pytest.approx(depth, rel=0.5)
    ended = run_here("predict", model, heights / "test" / "dent_0.5mm", "--csv", tmp_path / "verdicts.csv")
    assert "mm too low" in ended.stdout
    assert "push_mm" in (tmp_path / "verdicts.csv").read_text()
