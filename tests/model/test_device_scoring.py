"""Scoring on the GPU against scoring on the host, and the detector that chooses between them.

test_cuda_build.py runs these on an emulated GPU as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from backends import needs_cuda
from gpu import needs_gpu

from edgead import Detector
from edgead.heads.gpu import GpuScorer
from edgead.heads.map import MapHead
from edgead.heads.nearest import NearestHead
from edgead.images.files import load_image
from edgead.runtime import RUNTIMES
from edgead.runtime.device import DeviceArray, open_device
from edgead.runtime.ort import OrtRuntime

GRID, SIZE = (6, 9), (48, 72)


class OnGpu:
    """Where a network leaves its output, and what follows it in the stream."""

    def __init__(self, device, like):
        self._device, self._behind = device, []
        with device.current():
            self._pinned, address = device.pinned(like.shape, like.dtype), device.allocate(like.nbytes)
        self.array = DeviceArray(address, like.shape, device, self._behind.append)

    def run(self, output):
        """Leave an output there, as a run of the network does."""
        self._pinned[...] = output
        with self._device.current():
            self._device.copy_in(self.array.address, self._pinned)
            for work in self._behind:
                work()
            self._device.wait()


class OrtLeavingItsOutputOnTheGpu:
    """A real network whose output is where TensorRT's would be."""

    def __init__(self, artifact, graph, options, *, threads, on_device):
        assert on_device
        self._host, self._device = OrtRuntime(artifact, graph, threads=threads), open_device()
        self.input = self._host.input
        self._there = OnGpu(self._device, self._host.run(self.input)["features"])
        self.outputs = {"features": self._there.array}

    def run(self, images):
        self._there.run(self._host.run(images)["features"])
        return self.outputs

    def close(self):
        self._host.close()
        self._device.close()


@pytest.fixture
def device():
    device = open_device()
    yield device
    device.close()


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def check_equal(device, head, outputs, bank, hidden=None):
    arrays = {} if bank is None else {"memory_bank": bank}
    there = OnGpu(device, outputs[0])
    beside = {"image_score": np.array([2.5], np.float32), "hidden": hidden}
    on_host = {**beside, head.patches.name: outputs[0]}
    on_device = {**beside, head.patches.name: there.array}
    here, on_gpu = head.open(on_host, arrays, SIZE), head.open(on_device, arrays, SIZE)
    assert isinstance(on_gpu, GpuScorer)
    for output in outputs:  # the buffers are used again
        there.run(output)
        expected, found = here.score({**on_host, head.patches.name: output}), on_gpu.score(on_device)
        np.testing.assert_allclose(found.patch_scores, expected.patch_scores, rtol=2e-7)
        assert found.image_score == pytest.approx(expected.image_score, rel=1e-6)
        expected_map, expected_maximum = here.anomaly_map(expected.patch_scores)
        found_map, found_maximum = on_gpu.anomaly_map(found.patch_scores)
        np.testing.assert_allclose(found_map, expected_map, rtol=1e-5)
        assert found_maximum == found_map.max() == pytest.approx(expected_maximum, rel=1e-5)


@needs_cuda
@needs_gpu
def test_nearest_patches_are_scored_as_on_the_host(device, rng):
    bank, features = rng.random((300, 20), np.float32), rng.random((2, 1, *GRID, 20), np.float32)
    spec = NearestHead(window=3, top_patches=2, sigma_px=2.0)
    check_equal(device, spec, features, bank)


@needs_cuda
@needs_gpu
def test_a_map_is_scored_as_on_the_host(device, rng):
    check_equal(device, MapHead(border="replicate"), rng.random((2, 1, *GRID), np.float32), None)


@needs_cuda
@needs_gpu
@pytest.mark.parametrize("head", [NearestHead(sigma_px=2.0), MapHead()], ids=str)
def test_holes_are_hidden_as_on_the_host(device, rng, head):
    hidden = rng.random(GRID) < 0.2
    bank = rng.random((50, 20), np.float32)
    shape = (2, 1, *GRID) if isinstance(head, MapHead) else (2, 1, *GRID, 20)
    check_equal(device, head, rng.random(shape, np.float32), bank, hidden)


@needs_cuda
@needs_gpu
@pytest.mark.parametrize("head", [NearestHead(sigma_px=2.0), MapHead()], ids=str)
def test_each_image_of_a_run_is_scored_by_itself(device, rng, head):
    """Bit for bit what it gets alone, also where it alone has holes."""
    shape = (3, *GRID) if isinstance(head, MapHead) else (3, *GRID, 20)
    outputs = rng.random(shape, np.float32)
    arrays = {"memory_bank": rng.random((50, 20), np.float32)} if head.arrays else {}
    together, alone = OnGpu(device, outputs), OnGpu(device, outputs[:1])
    several, single = (head.open({head.patches.name: there.array}, arrays, SIZE) for there in (together, alone))
    assert (len(several.lanes), len(single.lanes)) == (3, 1)
    for _ in range(2):
        together.run(outputs)
        found = []
        for number, lane in enumerate(several.lanes):
            beside = {"hidden": rng.random(GRID) < 0.2} if number == 1 else {}
            scored = lane.score(beside)
            found.append((scored.image_score, *lane.anomaly_map(scored.patch_scores), beside))
        for output, (image_score, anomaly_map, maximum, beside) in zip(outputs, found, strict=True):
            alone.run(output[None])
            scored = single.score(beside)
            expected, highest = single.anomaly_map(scored.patch_scores)
            assert (image_score, maximum) == (scored.image_score, highest)
            np.testing.assert_array_equal(anomaly_map, expected)
        outputs = outputs[::-1].copy()


@needs_cuda
@needs_gpu
def test_a_map_that_was_handed_out_stays(device, rng):
    there = OnGpu(device, np.zeros((1, *GRID), np.float32))
    scorer = MapHead().open({"patch_scores": there.array}, {}, SIZE)
    there.run(rng.random(GRID, np.float32))
    first, _ = scorer.anomaly_map(scorer.score({}).patch_scores)
    kept = first.copy()
    there.run(rng.random(GRID, np.float32))
    second, _ = scorer.anomaly_map(scorer.score({}).patch_scores)
    np.testing.assert_array_equal(first, kept)
    assert (second != kept).any()


@needs_cuda
@needs_gpu
def test_the_map_of_other_patch_scores_than_the_networks_is_theirs(device, rng):
    head, bank, features = NearestHead(sigma_px=2.0), rng.random((50, 20), np.float32), rng.random((1, *GRID, 20))
    there, arrays = OnGpu(device, features.astype(np.float32)), {"memory_bank": bank}
    scorer = head.open({head.patches.name: there.array}, arrays, SIZE)
    there.run(features)
    scorer.score({head.patches.name: there.array})
    others = rng.random(GRID, np.float32)  # as without the fold that an image is in
    expected, highest = head.open({head.patches.name: features}, arrays, SIZE).anomaly_map(others)
    found, maximum = scorer.anomaly_map(others)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert maximum == pytest.approx(highest, rel=1e-5)


@needs_cuda
@needs_gpu
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(device, rng, bad):
    features = rng.random((1, *GRID, 4), np.float32)
    features[0, 3, 3, 1] = bad
    banks = {"memory_bank": rng.random((9, 4), np.float32)}
    for head, output in ((NearestHead(), features), (MapHead(), features[..., 1].copy())):
        there = OnGpu(device, output)
        scorer = head.open({head.patches.name: there.array}, banks, SIZE)
        there.run(output)
        with pytest.raises(ValueError, match="NaN or infinity"):
            scorer.score({})


@needs_cuda
@needs_gpu
def test_the_detector_scores_where_the_output_is(trained_model, line_data, monkeypatch):
    image = load_image(line_data / "test" / "good" / "000.jpg")
    image[40:110, 300:400] = (0, 0, 255)
    with Detector.load(trained_model, runtime="onnxruntime") as on_host:
        expected = on_host.predict(image)
    tensorrt = replace(RUNTIMES.named("tensorrt"), open=OrtLeavingItsOutputOnTheGpu)
    monkeypatch.setitem(RUNTIMES._components, "tensorrt", tensorrt)
    with Detector.load(trained_model, runtime="tensorrt") as on_device:
        found = on_device.predict(image)
    assert isinstance(on_device._scorer, GpuScorer)
    assert found.image_score == pytest.approx(expected.image_score, rel=1e-6)
    assert found.decision == expected.decision == "reject"
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-4)
    assert [box.peak for box in found.boxes] == pytest.approx([box.peak for box in expected.boxes], rel=1e-5)


def test_what_the_gpu_cannot_score_is_left_to_the_host(monkeypatch):
    for where in ("map", "nearest"):
        monkeypatch.setattr(f"edgead.heads.{where}.cuda_problem", lambda: "")
    assert MapHead().takes_gpu_arrays and NearestHead().takes_gpu_arrays
    assert not NearestHead(num_neighbors=3).takes_gpu_arrays
    monkeypatch.setattr("edgead.heads.map.cuda_problem", lambda: "not built")
    assert not MapHead().takes_gpu_arrays
