"""MemoryOut: each part by hand, settings that are refused, strips taken apart, and how it learns and goes on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from drawn_clips import draw_clip  # noqa: E402
from published import check_docs  # noqa: E402

from edgead.adapt.methods import METHODS  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.trainer import loop  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead.workstation.trainer.device import CPU  # noqa: E402
from edgead_video.memoryout import detector, network  # noqa: E402
from edgead_video.memoryout.detector import MemoryOut, take_apart  # noqa: E402
from edgead_video.memoryout.filtering import SCALE, Experts, Filter, Routing, balance, route  # noqa: E402
from edgead_video.memoryout.losses import motion_loss, semantic_error  # noqa: E402
from edgead_video.strips import FRAMES, GIVEN, strips  # noqa: E402

SMALL = {"image_size": (32, 48), "dim": 16, "layers": 1, "experts": 5, "chosen": 2, "steps": 4, "batch_images": 2}


def build(**settings) -> MemoryOut:
    return MemoryOut.from_settings({**SMALL, **settings})


def laid(clip: list[np.ndarray], size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    from edgead.artifact.preprocess import preprocess

    spec = build(image_size=size).preprocessing
    return [preprocess(strip, spec) for strip in strips(clip)]


STRIPS = laid(draw_clip(0, 12))


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": (40, 48)}, "that of one frame is needed, multiples of 16"),
        ({"image_size": (16, 48)}, "multiples of 16 from 32 on"),
        ({"dim": 24}, "dim 24: a multiple of 16"),
        ({"bottleneck": 16}, "at least 1 and less than dim, 16"),
        ({"chosen": 6}, "at most experts, 5"),
        ({"layers": 0}, "must be at least 1"),
        ({"window": -1}, "window at least 0"),
        ({"semantic_weight": 1.5}, "a share from 0 to 1"),
        ({"backbone": "resnet18"}, "takes one of efficientnet_lite0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        build(**settings)


def test_presets_can_be_and_none_is_said_to_be_as_published():
    assert METHODS.find("memoryout") is MemoryOut
    assert MemoryOut.presets.keys() == MemoryOut.preset_purposes.keys() and MemoryOut.purpose
    for settings in MemoryOut.presets.values():
        MemoryOut.config_class(**settings)
    check_docs({}, ("memoryout",))


def test_the_predictor_has_the_authors_numbers():
    """Of qzfm/sib_vad_code 466ca7e; `default` is smaller, and `large` has theirs."""
    large = MemoryOut.config_class(**MemoryOut.presets["large"])
    theirs = {
        "dim": 256,  # unet.py:25
        "layers": 4,  # ped2.yaml:40, unet.py:31 and 34
        "bottleneck": 8,  # ped2.yaml:41
        "experts": 63,  # decoder.py:62
        "chosen": 7,  # decoder.py:61
        "semantic_weight": 0.2,  # ped2.yaml:43
        "window": 0,  # eval.py:94, the mean of all
        "batch_images": 64,  # ped2.yaml:6
        "learning_rate": 2e-4,  # ped2.yaml:8
    }
    assert {name: getattr(large, name) for name in theirs} == theirs
    grid = [side // network.PATCH for side in large.image_size]
    assert grid == [32, 32]  # unet.py:40
    # moe.py:45, train_w_diff.py:83, unet.py:31, moe.py:42, dataset/ped2_dataset.py
    found = (detector.BALANCE_WEIGHT, detector.WEIGHT_DECAY, network.HEADS, SCALE, GIVEN)
    assert found == (0.001, 1e-5, 4, 2.0, 4)


# Filters.


def test_tokens_take_the_experts_with_the_highest_scores():
    rng = np.random.default_rng(0)
    tokens, gate = rng.normal(size=(2, 3, 4)), rng.normal(size=(5, 4))
    found = route(torch.from_numpy(tokens), torch.from_numpy(gate), 2)
    for n in range(2):
        for t in range(3):
            logits = gate @ tokens[n, t]
            scores = np.exp(logits) / np.exp(logits).sum()
            best = np.argsort(scores)[-2:]
            weights = np.zeros(5)
            weights[best] = 2 * scores[best] / scores[best].sum()
            np.testing.assert_allclose(found.scores[n, t], scores, rtol=1e-12)
            np.testing.assert_allclose(found.weights[n, t], weights, rtol=1e-12)
    alone = route(torch.from_numpy(tokens), torch.from_numpy(gate), 1)
    np.testing.assert_allclose(alone.weights.sum(-1), 2 * alone.scores.amax(-1))  # one alone keeps its score


def test_experts_by_hand():
    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    experts = Experts(3, 6, 2).double()
    for parameter in experts.parameters():
        parameter.data.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape))))
    tokens, weights = rng.normal(size=(2, 4, 6)), rng.random((2, 4, 3))
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    each = []
    for number in range(3):
        own = {name: value.detach().numpy()[number] for name, value in experts.named_parameters()}
        squeezed = (normal * own["norm_weight"] + own["norm_bias"]) @ own["down_weight"].T + own["down_bias"]
        each.append((squeezed / (1 + np.exp(-squeezed))) @ own["up_weight"].T + own["up_bias"])
    with torch.inference_mode():
        counted = experts(torch.from_numpy(tokens), torch.from_numpy(weights)).numpy()
        summed = experts(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(counted, sum(weights[..., [k]] * each[k] for k in range(3)), rtol=1e-9)
    np.testing.assert_allclose(summed, sum(each), rtol=1e-9)


def test_balance_is_one_where_experts_are_taken_alike():
    even = torch.eye(4)[None]
    assert float(balance(Routing(torch.full((1, 4, 4), 0.25), 2 * even), 1)) == pytest.approx(1)
    one = torch.zeros(1, 4, 4)
    one[..., 2] = 1
    assert float(balance(Routing(one, 2 * one), 1)) == pytest.approx(4)


def test_nothing_goes_around_a_filter():
    torch.manual_seed(0)
    filters = Filter(16, 2, 5, 2)
    for experts in (filters.experts, filters.shared):
        experts.up_weight.data.zero_()
        experts.up_bias.data.zero_()
    assert not filters(torch.randn(1, 3, 16))[0].any()


# Losses.


def test_losses_by_hand():
    a, b = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [-2.0, 0.0]])
    np.testing.assert_allclose(semantic_error(a, b), [1 - 24 / 25, 2], rtol=1e-6)
    predicted, frame, last = (torch.tensor(x).view(1, 1, 1, 3) for x in ([1.0, 1.0, 3.0], [2.0, 1.5, 2.0], [1.5, 0, 0]))
    # 1 - 0.25, 0.25 - 1 cut, 1 - 9 cut
    assert float(motion_loss(predicted, frame, last)) == pytest.approx(0.75 / 3)


# The network.


def test_places_have_codes_of_their_own_and_tokens_of_none_have_none():
    codes = network.place_codes(8, (2, 3), 1).numpy()
    assert codes.shape == (7, 8) and not codes[0].any()
    row, column = 1, 2
    expected = [f(place / rate) for place in (column, row) for f in (np.sin, np.cos) for rate in (1, 100)]
    np.testing.assert_allclose(codes[1 + 3 * row + column], expected, rtol=1e-6)


def test_attention_by_hand():
    rng = np.random.default_rng(2)
    queries, keys, values = rng.normal(size=(1, 3, 8)), rng.normal(size=(1, 5, 8)), rng.normal(size=(1, 5, 8))
    expected = np.empty((3, 8))
    for head in range(4):
        own = slice(2 * head, 2 * head + 2)
        weights = np.exp(queries[0][:, own] @ keys[0][:, own].T / np.sqrt(2))
        expected[:, own] = weights / weights.sum(1, keepdims=True) @ values[0][:, own]
    np.testing.assert_allclose(network.attend(*map(torch.from_numpy, (queries, keys, values)))[0], expected)


def test_the_appearance_of_a_place_is_its_pixels():
    frame = torch.arange(3 * 32 * 48, dtype=torch.float32).view(1, 3, 32, 48)
    found = build().network.appearance(frame)[0]
    assert found.shape == (1 + 4 * 6, 3 * 64)
    torch.testing.assert_close(found[1 + 6 + 2].view(3, 8, 8), frame[0, :, 8:16, 16:24])
    torch.testing.assert_close(found[0], found[1:].mean(0))


def test_training_begins_with_the_last_frame_shown_again():
    clip = build(dim=64).network
    grey = np.repeat(np.concatenate(STRIPS, axis=1)[None, :, :48, :1], 3, axis=3)
    frames = clip.normal(torch.from_numpy(grey).unflatten(1, (FRAMES, -1)))
    frames = frames.mean(2, keepdim=True).expand(-1, -1, 3, -1, -1)  # grey there too, which takes 64 numbers a patch
    seen, semantic = torch.randn(1, GIVEN, 25, 152), torch.randn(1, 320)
    with torch.inference_mode():
        predicted, *_ = clip.predictor(frames[:, :GIVEN], seen, clip.appearance(frames[:, GIVEN - 1]), semantic)
    torch.testing.assert_close(predicted, frames[:, GIVEN - 1], atol=1e-4, rtol=1e-4)
    basis = network.cosine_basis(8, 192)
    torch.testing.assert_close(basis @ basis.T, torch.eye(192), atol=1e-5, rtol=0)


def test_what_the_backbone_sees_of_a_frame_is_the_same_alone_and_in_a_strip():
    clip = build().network
    frames = torch.from_numpy(np.stack(np.split(STRIPS[0], FRAMES)))
    with torch.inference_mode():
        seen, deep = clip.look(frames)
        alone, deep_alone = clip.look(frames[2:3])
    assert seen.shape[:2] == (5, 25) and deep.shape == (5, 320)
    torch.testing.assert_close(seen[2], alone[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(deep[2], deep_alone[0], atol=1e-4, rtol=1e-4)
    fine = clip.backbone(frames.permute(0, 3, 1, 2).float())[0]
    torch.testing.assert_close(seen[1, 1 + 6 + 2, : fine.shape[1]], fine[1, :, 1, 2])


def test_errors_lie_on_the_last_frame_and_are_those_of_its_pixels(monkeypatch):
    clip = build().network
    clip.usual.copy_(torch.tensor([0.5, 4.0]))
    strip = torch.from_numpy(STRIPS[3])[None]
    frames = clip.normal(strip.unflatten(1, (FRAMES, -1)))
    given = {}

    def predict(before, seen, appearance, semantic):
        given.update(before=before, seen=seen, semantic=semantic)
        predicted = frames[:, GIVEN].clone()
        predicted[0, :, 8:16, 16:24] += 2
        return predicted, -semantic, torch.zeros(())

    monkeypatch.setattr(clip.predictor, "forward", predict)
    with torch.inference_mode():
        patches, score = clip(strip)
    assert patches.shape == (1, FRAMES * 4, 6) and score.tolist() == pytest.approx([2 / 4.0])
    expected = torch.zeros(20, 6)
    expected[GIVEN * 4 + 1, 2] = 4 / 0.5
    torch.testing.assert_close(patches[0], expected)
    torch.testing.assert_close(given["before"], frames[:, :GIVEN])
    assert given["seen"].shape[:2] == (1, GIVEN)


def test_the_score_of_the_whole_frame_is_its_mean():
    head = build(window=0, semantic_weight=0.0).head
    patches = np.zeros((1, 20, 6), np.float32)
    patches[0, 16:] = np.random.default_rng(0).random((4, 6))
    score = head.open({"patch_scores": patches}, {}, (160, 48)).score({"patch_scores": patches}).image_score
    assert score == pytest.approx(patches.sum() / 36)  # a window as wide and as high as the frame is wide


# Learning.


def test_frames_that_strips_share_are_looked_at_once():
    clips = take_apart(STRIPS, build().network, CPU, lambda done, total: None)
    assert len(clips.frames) == len(clips.seen) == len(clips.deep) == 12 and len(clips.strips) == 8
    np.testing.assert_array_equal(clips.strips, np.arange(8)[:, None] + np.arange(FRAMES))
    for strip, index in zip(STRIPS, clips.strips, strict=True):
        np.testing.assert_array_equal(strip, np.concatenate(list(clips.frames[torch.from_numpy(index)].numpy())))


def test_a_step_has_all_losses_and_usual_scores_are_one(monkeypatch):
    seen = []
    monkeypatch.setattr(detector, "motion_loss", lambda *frames: seen.append(frames) or motion_loss(*frames))
    method = build(window=2)
    trained = method.fit(STRIPS)
    assert len(seen) == 4 and all(frame.shape == (2, 3, 32, 48) for frames in seen for frame in frames)
    normal = method.network.normal(torch.from_numpy(np.stack([np.split(strip, FRAMES) for strip in STRIPS])))
    for _, came, last in seen:
        for one, before in zip(came, last, strict=True):
            (at,) = [n for n in range(len(STRIPS)) if torch.equal(normal[n, GIVEN], one)]
            assert torch.equal(normal[at, GIVEN - 1], before)
    with torch.inference_mode():
        patches, semantic = (x.numpy() for x in trained.network(torch.from_numpy(np.stack(STRIPS))))
    windows = np.lib.stride_tricks.sliding_window_view(patches, (2, 2), axis=(1, 2)).mean((3, 4)).max((1, 2))
    assert windows.mean() == pytest.approx(1, rel=0.01) and semantic.mean() == pytest.approx(1, rel=0.01)
    assert trained.preprocessing.image_size == (160, 48)
    assert (trained.head.patch_weight, trained.head.graph_weight) == (0.8, 0.2)


def test_it_goes_on_after_an_interruption(tmp_path, monkeypatch):
    method = build()
    method.fit(STRIPS)

    class Once(Checkpoint):
        """Ends after the second step that is saved."""

        saved = 0

        def save(self, learner, step):
            super().save(learner, step)
            Once.saved += 1
            if Once.saved == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build().fit(STRIPS, checkpoint=Once(tmp_path / "state", {}, every_s=0))
    resumed = []
    monkeypatch.setattr(loop.logger, "warning", lambda text, *values: resumed.append(values))
    again = build()
    again.fit(STRIPS, checkpoint=Checkpoint(tmp_path / "state", {}, every_s=0))
    assert resumed[0][1:] == (2, 4)
    torch.testing.assert_close(again.network.state_dict(), method.network.state_dict(), rtol=0, atol=0)


def test_the_device_side_needs_no_torch():
    code = "import sys, edgead_video.source, edgead_video.command; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
