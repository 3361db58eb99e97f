"""Frames on a GPU from the image to the map: runtime and scorer as they are, a network that ONNX Runtime computes.

test_cuda_build.py runs these on an emulated GPU; on a real one test_tensorrt.py takes their place.
"""

from __future__ import annotations

import ctypes
import gc
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from backends import needs_cuda
from emulated_driver import emulated_driver
from gpu import needs_gpu
from test_device import needs_graphs
from test_engine_runtime import StandIn, refuses_to_be_captured

from benchmarks import gpu_batch
from edgead import Detector
from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import preprocess
from edgead.artifact.tiling import Tiling
from edgead.cli import doctor
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead
from edgead.images.files import load_image
from edgead.runtime import RUNTIMES, tensorrt
from edgead.runtime.device import CopiedMemory, Gpu, OneMemory
from edgead.runtime.engine_builder import EngineError
from edgead.runtime.frames_on_gpu import FramesOnGpu
from edgead.runtime.ort import OrtRuntime
from edgead.runtime.tensorrt import TensorRtRuntime

pytestmark = [needs_cuda, needs_gpu, needs_graphs]

ONE_GRAPH = "as one CUDA graph from the image to the map"


class OrtNetwork(StandIn):
    """An engine that ONNX Runtime computes, when the stream gets that far, on the memory of the emulated GPU."""

    def __init__(self, artifact, library, during_run=lambda stream: True, batch=1):
        super().__init__(during_run)
        self.host, self.library = OrtRuntime(artifact, artifact.graph()), library
        self.names = [artifact.manifest.input, *artifact.manifest.outputs]
        self.batches = [1, batch] if batch > 1 else [1]
        self.contexts = []

    @property
    def num_io_tensors(self):
        return len(self.names)

    @property
    def num_optimization_profiles(self):
        return len(self.batches)

    @property
    def seen(self):
        """What the network for one image saw last."""
        return self.contexts[0].seen

    def get_tensor_profile_shape(self, name, profile):
        return [(self.batches[profile], *self.host.input.shape[1:])] * 3

    def get_tensor_name(self, i):
        return self.names[i]

    def get_tensor_dtype(self, name):
        return "uint8" if name == self.names[0] else "float"

    def create_execution_context(self):
        self.contexts.append(OrtContext(self, self._during_run))
        return self.contexts[-1]


class OrtContext:
    """A context of `OrtNetwork`: by one of its profiles, with addresses of its own."""

    def __init__(self, engine, during_run):
        self._engine, self._during_run = engine, during_run
        self._addresses, self._profile, self.runs = {}, 0, 0
        self._compute = ctypes.CFUNCTYPE(None)(self._computed)

    def set_optimization_profile_async(self, profile, stream):
        self._profile = profile
        return True

    def set_input_shape(self, name, shape):
        self.seen = np.empty(shape, np.uint8)
        return shape == self._engine.get_tensor_profile_shape(name, self._profile)[0]

    def get_tensor_shape(self, name):
        return (len(self.seen), *self._engine.host.outputs[name].shape[1:])

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        if not self._during_run(stream):
            return False
        return self._engine.library.emulator_call(ctypes.c_void_p(stream), self._compute) == 0

    def _computed(self):
        self.runs += 1
        ctypes.memmove(self.seen.ctypes.data, self._addresses[self._engine.names[0]], self.seen.nbytes)
        for i in range(len(self.seen)):
            for name, output in self._engine.host.run(self.seen[i : i + 1]).items():
                ctypes.memmove(self._addresses[name] + i * output.nbytes, output.ctypes.data, output.nbytes)


@pytest.fixture
def driver():
    return emulated_driver()


@pytest.fixture
def board(driver):
    """A card that has one memory with the host."""
    driver.emulator_set(b"integrated", 1)
    yield driver
    driver.emulator_set(b"integrated", 0)
    driver.emulator_set(b"maps", 1)


@pytest.fixture
def network(driver, trained_model, monkeypatch, tmp_path):
    """Makes a network the engine of the shared model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)

    def install(during_run=lambda stream: True, model=trained_model, batch=1):
        made = OrtNetwork(Artifact.load(model), driver, during_run, batch)
        wanted = SimpleNamespace(flavour=made.flavour, gpu=Gpu("Card", "sm86"), path=Path("m.engine"), read=lambda: b"")
        monkeypatch.setattr(tensorrt, "find_engine", lambda artifact, graph, gpu: wanted)
        return made

    return install


@pytest.fixture
def images(line_data):
    good = load_image(line_data / "test" / "good" / "000.jpg")
    bad = good.copy()
    bad[40:110, 300:400] = (0, 0, 255)
    return [good, bad, good]


@pytest.fixture
def no_collector():
    """Memory of the GPU goes with the last reference to a detector, not when Python happens to look for cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def counts(driver):
    names = ("graphs launched", "waits", "copies in", "copies out", "allocations")
    return [driver.emulator_count(name.encode()) for name in names]


def check_verdicts(trained_model, images, each=lambda: None):
    """Compare with ONNX Runtime; returns how frames were launched."""
    with (
        Detector.load(trained_model, runtime="onnxruntime") as here,
        Detector.load(trained_model, runtime="tensorrt") as there,
    ):
        for image in images:
            expected = here.predict(image)
            each()
            found = there.predict(image)
            each()
            assert found.decision == expected.decision
            assert found.image_score == pytest.approx(expected.image_score, rel=1e-6)
            np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-4)
            assert [box.peak for box in found.boxes] == pytest.approx([box.peak for box in expected.boxes], rel=1e-5)
        return there.launches


def test_a_frame_is_one_graph_one_wait_and_a_copy_each_way(trained_model, network, driver, images):
    network()
    found = []
    assert check_verdicts(trained_model, images, lambda: found.append(counts(driver))) == ONE_GRAPH
    assert found[3::2] == [[1, 1, 1, 1, 0]] * 2  # the first frame of a shape prepares for it


@pytest.mark.parametrize(("faster", "copied"), [(OneMemory, 0), (CopiedMemory, 1)])
def test_with_one_memory_nothing_is_copied_but_what_is_read_faster_so(
    trained_model, network, board, images, monkeypatch, caplog, faster, copied
):
    monkeypatch.setattr(FramesOnGpu, "_seconds", lambda self, frames: 0.001 * (2 - isinstance(frames, faster)))
    network()
    found = []
    with caplog.at_level("INFO"):
        assert check_verdicts(trained_model, images, lambda: found.append(counts(board))) == ONE_GRAPH
    assert found[3::2] == [[1, 1, copied, 0, 0]] * 2
    times = ("1.000", "2.000") if faster is OneMemory else ("2.000", "1.000")
    said = "a frame of 480 x 480: {} ms read in place, {} ms copied before"
    assert said.format(*times) in caplog.text


def test_only_the_faster_way_of_a_frame_keeps_memory(trained_model, network, board, images, monkeypatch):
    network()
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        added = []
        for rows, faster in enumerate((OneMemory, CopiedMemory), 1):
            monkeypatch.setattr(FramesOnGpu, "_seconds", lambda self, frames, of=faster: not isinstance(frames, of))
            before = board.emulator_live()
            detector.predict(images[0][rows:])
            added.append(board.emulator_live() - before)
    assert added[1] - added[0] == 1  # the GPU's own copy


def test_how_long_a_frame_takes_to_the_network_is_measured(trained_model, network, board, images, monkeypatch):
    waits, seconds = [], FramesOnGpu._seconds

    def measured(self, frames):
        board.emulator_count(b"waits")
        took = seconds(self, frames)
        waits.append((type(frames), board.emulator_count(b"waits"), took > 0))
        return took

    monkeypatch.setattr(FramesOnGpu, "_seconds", measured)
    network()
    check_verdicts(trained_model, images)
    assert waits == [(OneMemory, 1, True)] * 5 + [(CopiedMemory, 1, True)] * 5


def test_a_board_that_maps_nothing_copies(trained_model, network, board, images):
    board.emulator_set(b"maps", 0)
    network()
    found = []
    check_verdicts(trained_model, images, lambda: found.append(counts(board)))
    assert found[3::2] == [[1, 1, 1, 1, 0]] * 2


def test_with_one_memory_everything_goes_with_the_detector(trained_model, network, board, images, no_collector):
    network()
    before = board.emulator_live()
    check_verdicts(trained_model, images)
    assert board.emulator_live() == before


@pytest.mark.parametrize("integrated", [0, 1])
def test_what_cannot_be_captured_goes_piece_by_piece(trained_model, network, board, images, monkeypatch, integrated):
    monkeypatch.setattr(FramesOnGpu, "_seconds", lambda self, frames: isinstance(frames, CopiedMemory))
    board.emulator_set(b"integrated", integrated)
    network(refuses_in_captures)
    found = []
    launches = check_verdicts(trained_model, images, lambda: found.append(counts(board)))
    assert launches == "piece by piece from the image to the map: it cannot be captured in a CUDA graph"
    copied = 1 - integrated
    assert found[3::2] == [[0, 1, copied, copied, 0]] * 2


def refuses_in_captures(stream):
    """Waits where it is captured, which is refused."""
    from cuda.bindings import driver

    captured = driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
    return driver.cuStreamIsCapturing(stream)[1] == captured or refuses_to_be_captured(stream)


def test_frames_of_many_shapes(trained_model, network, driver, images):
    """The memory of the GPU is for some; what comes after goes another way, to the same verdicts."""
    network()
    shapes = [images[1][: -10 * i or None, 7 * i :] for i in range(5)]
    found = []
    check_verdicts(trained_model, [*shapes, *shapes], lambda: found.append(counts(driver)))
    assert found[11::2] == [[1, 1, 1, 1, 0]] * 5


def test_a_card_that_gives_other_pixels_gets_them_from_the_cpu(trained_model, network, images, monkeypatch, caplog):
    network()
    monkeypatch.setattr(FramesOnGpu, "differing", lambda self: 3)
    launches = check_verdicts(trained_model, images)
    assert launches == "as one CUDA graph from the input of the network to the map"
    assert "the CPU prepares frames of 480 x 480: the GPU gives 3 other numbers than OpenCV here" in caplog.text


def test_noise_finds_a_wrong_pixel(trained_model, network, images, monkeypatch):
    network()
    prepared = tensorrt.prepared

    def otherwise(image, size, sides, out=None):
        made = prepared(image, size, sides, out)
        made[5, 7, 1] ^= 1
        return made

    monkeypatch.setattr("edgead.runtime.frames_on_gpu.prepared", otherwise)
    assert "from the input of the network" in check_verdicts(trained_model, images)


def test_the_network_sees_what_the_cpu_would_give_it(trained_model, network):
    rng, artifact, made = np.random.default_rng(3), Artifact.load(trained_model), network()
    runtime = TensorRtRuntime(artifact, artifact.graph())
    spec = artifact.manifest.preprocessing
    image = rng.integers(0, 256, (300, 420, 3), np.uint8)
    ignored = {"frame_size": (300, 420), "polygons": (((20, 30), (160, 30), (60, 190)),)}
    specs = [
        spec,
        spec.model_copy(update={"fill": "reflect"}),
        spec.model_copy(update={"roi": (11, 13, 101, 250)}),
        type(spec)(**{**spec.model_dump(), "ignored": ignored}),
        spec.model_copy(update={"roi": (0, 0, 5, 3), "fill": "reflect"}),
    ]
    for of_frame in [*specs, *specs]:
        runtime.take(image, of_frame)
        runtime.run(runtime.input)
        np.testing.assert_array_equal(made.seen[0], preprocess(image, of_frame))
    runtime.take(image, specs[0])
    other = rng.integers(0, 256, runtime.input.shape, np.uint8)
    runtime.run(other)  # what was taken does not stay for a later run
    np.testing.assert_array_equal(made.seen, other)
    runtime.run(runtime.input)
    np.testing.assert_array_equal(made.seen, other)
    runtime.close()
    with pytest.raises(RuntimeError, match="was closed"):
        runtime.take(image, spec)


def test_everything_goes_with_the_detector(trained_model, network, driver, images, no_collector):
    network()
    before = driver.emulator_live()
    check_verdicts(trained_model, images)
    assert driver.emulator_live() == before


def test_two_cameras_have_a_graph_each(trained_model, network, images):
    """By turns: what the emulator calls of Python in one thread would wait for another, which waits for it."""
    network()
    first = Detector.load(trained_model, runtime="tensorrt")
    network()  # one of its own
    second = Detector.load(trained_model, runtime="tensorrt")
    with first, second:
        good, bad, _ = images
        alone = [first.measure(image).image_score for image in (good, bad)]
        for _ in range(2):
            assert [first.measure(good).image_score, second.measure(bad).image_score] == alone


def of_several(trained_model, network, batch, images):
    """Verdicts of a list by an engine for batches, and those of the same images by one without."""
    network()
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        alone = [detector.predict(image) for image in images]
    made = network(batch=batch)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        assert detector.at_once == batch
        found = list(detector.predict(images))
    return found, alone, made


def check_same(found, alone):
    assert len(found) == len(alone)
    for one, expected in zip(found, alone, strict=True):
        assert one == expected  # the map among it, bit for bit
        assert one.image is expected.image or (one.image == expected.image).all()


def test_images_of_a_list_go_together_and_get_what_they_get_alone(trained_model, network, images, caplog):
    good, bad, _ = images
    others = [bad, good, good[::-1].copy(), bad, good[:, ::-1].copy()]
    found, alone, made = of_several(trained_model, network, 3, others)
    check_same(found, alone)
    assert "the CPU prepares" not in caplog.text
    assert len({verdict.image_score for verdict in found}) == 4  # none is another's
    one, several = made.contexts
    # While it opens a run each before the scorer is there and behind it; then three images, and two of three.
    assert (one.runs, several.runs) == (2, 4)


def test_less_than_half_of_a_run_goes_one_by_one(trained_model, network, images):
    found, alone, made = of_several(trained_model, network, 4, images[:2])
    check_same(found, alone)
    assert [context.runs for context in made.contexts] == [4, 2]


@pytest.mark.parametrize(("count", "tiles"), [(2, None), (4, Tiling(size=(288, 288), overlap=(64, 64)))])
def test_images_that_gain_nothing_together_are_not_read_ahead(trained_model, network, images, tmp_path, count, tiles):
    """Too few for a run of four, or cut into tiles, of which those of one frame go together."""
    artifact = Artifact.load(trained_model)
    artifact = Artifact(artifact.path, artifact.manifest.with_preprocessing(tiles=tiles))
    network(batch=4)
    paths = [tmp_path / f"{i}.png" for i in range(count)]
    for path in paths:
        cv2.imwrite(str(path), images[0])
    with Detector(artifact, runtime="tensorrt") as detector:
        of_bad, verdicts = detector.predict(images[1]).image_score, iter(detector.predict(paths))
        for path in paths:
            cv2.imwrite(str(path), images[1])
            assert next(verdicts).image_score == of_bad


def test_images_at_once_are_one_graph_one_wait_and_a_copy_each_way(trained_model, network, driver, images):
    network(batch=3)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        list(detector.predict(images))
        counts(driver)
        list(detector.predict(images))
        assert counts(driver) == [1, 1, 1, 1, 0]
        assert detector.launches == (
            "as one CUDA graph from the input of the network to the map; 3 images at once where they come together"
        )


def test_images_at_once_in_one_memory_are_copied_nowhere(trained_model, network, board, images, monkeypatch):
    monkeypatch.setattr(FramesOnGpu, "_seconds", lambda self, frames: isinstance(frames, CopiedMemory))
    found, alone, _ = of_several(trained_model, network, 3, images)
    check_same(found, alone)
    counts(board)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        list(detector.predict(images))
        counts(board)
        list(detector.predict(images))
        assert counts(board) == [1, 1, 0, 0, 0]


def test_images_at_once_need_not_have_one_shape(trained_model, network, images):
    good, bad, _ = images
    found, alone, made = of_several(trained_model, network, 2, [good, bad[:300], bad[:, 20:], good])
    check_same(found, alone)
    assert [context.runs for context in made.contexts] == [2, 4]  # all of them at once


def test_an_image_that_cannot_be_judged_is_reported_at_its_turn(trained_model, network, images, tmp_path):
    network(batch=4)
    (tmp_path / "bad.png").write_bytes(b"no image")
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        verdicts = detector.predict([images[0], images[1], tmp_path / "bad.png", images[2]])
        last = detector.predict(images[2]).decision
        assert [verdict.decision for verdict in verdicts] == ["ok", "reject", "fault", last]
        assert "bad.png" in str(verdicts[2].problem)
    artifact = Artifact.load(trained_model)
    artifact = Artifact(artifact.path, artifact.manifest.with_preprocessing(roi=(0, 0, 480, 400)))
    with Detector(artifact, runtime="tensorrt") as detector:
        verdicts = iter(detector.predict([images[0], images[0][:300], images[1]]))
        assert next(verdicts) == detector.predict(images[0])
        with pytest.raises(SettingsError, match="does not fit in an image of 480x300"):
            next(verdicts)


@pytest.mark.parametrize("batch", [4, 3])
def test_tiles_of_a_frame_go_together(trained_model, network, driver, images, batch):
    """Of three at once, the fourth goes alone."""
    artifact = Artifact.load(trained_model)
    cut = artifact.manifest.with_preprocessing(tiles=Tiling(size=(288, 288), overlap=(64, 64)))
    artifact = Artifact(artifact.path, cut)
    network()
    with Detector(artifact, runtime="tensorrt") as detector:
        alone = [detector.predict(image) for image in images]
        expected = detector.describe(images[1])
    made = network(batch=batch)
    with Detector(artifact, runtime="tensorrt") as detector:
        before = [context.runs for context in made.contexts]
        found = []
        for image in images:
            found.append(detector.predict(image))
            launched = counts(driver)
        described = detector.describe(images[1])
    check_same(found, alone)
    assert described.verdict == expected.verdict
    np.testing.assert_array_equal(described.descriptor, expected.descriptor)  # of the highest tile, not of another
    runs = 1 + (batch < 4)
    assert launched == [runs, runs, runs, runs, 0]
    assert [context.runs - n for context, n in zip(made.contexts, before, strict=True)] == [4 * (batch < 4), 4]


def test_times_of_a_run_are_divided_among_its_images(trained_model, network, images):
    network(batch=3)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        begin = time.perf_counter()
        times = [verdict.stage_times for verdict in detector.predict(images)]
        took_ms = 1000 * (time.perf_counter() - begin)
    assert 0 < sum(each.preprocess_ms + each.infer_ms for each in times) <= took_ms


def test_the_benchmark_compares_them(trained_model, network, images):
    network(batch=2)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        found = gpu_batch.compare(detector, images[:2], rounds=1)
    assert found["images at once"] == 2 and found["score difference"] == 0
    assert found["frame alone ms"] > 0 and found["frame at once ms"] > 0
    network()
    with pytest.raises(SystemExit, match="takes one image at a time: build it with --batch"):
        gpu_batch.main([str(trained_model)])


def test_lanes_of_a_run_on_the_host(trained_model, network, board):
    """Where the kernels cannot score, on either kind of card."""
    rng, artifact = np.random.default_rng(5), Artifact.load(trained_model)
    for integrated in (0, 1):
        board.emulator_set(b"integrated", integrated)
        network(batch=2)
        runtime = TensorRtRuntime(artifact, artifact.graph())
        spec, images = artifact.manifest.preprocessing, rng.integers(0, 256, (2, 200, 210, 3), np.uint8)
        alone = []
        for image in images:
            runtime.take(image, spec)
            alone.append(runtime.run(runtime.input)["features"].copy())
        runtime.several.take([(image, spec) for image in images])
        for lane, expected in zip(runtime.several.run(), alone, strict=True):
            np.testing.assert_array_equal(lane["features"], expected)
        assert runtime.several.outputs["features"].shape == (2, *alone[0].shape[1:])
        runtime.close()
        with pytest.raises(RuntimeError, match="was closed"):
            runtime.several.take([(images[0], spec)])
        with pytest.raises(RuntimeError, match="was closed"):
            runtime.several.run()


def test_images_at_once_whose_head_is_on_the_host(trained_model, network, driver, images, monkeypatch):
    monkeypatch.setattr(NearestHead, "takes_gpu_arrays", False)
    found, alone, made = of_several(trained_model, network, 3, images)
    check_same(found, alone)
    assert [context.runs for context in made.contexts] == [1, 2]


def test_a_head_of_a_package_that_scores_one_image_a_run(trained_model, network, images, monkeypatch, caplog):
    opened = NearestHead.open

    def without_lanes(self, outputs, arrays, image_size):
        scorer = opened(self, outputs, arrays, image_size)
        assert outputs[self.patches.name].shape[0] == 1
        return SimpleNamespace(score=scorer.score, anomaly_map=scorer.anomaly_map)

    monkeypatch.setattr(NearestHead, "open", without_lanes)
    network(batch=3)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        assert detector.at_once == 1
        assert [verdict.decision for verdict in detector.predict(images)] == ["ok", "reject", "ok"]
    assert "the head 'nearest' of" in caplog.text and "scores one image a run" in caplog.text


def test_a_profile_that_is_not_taken_is_an_error(trained_model, network, monkeypatch):
    monkeypatch.setattr(OrtContext, "set_optimization_profile_async", lambda self, profile, stream: False)
    network(batch=3)
    with pytest.raises(EngineError, match="TensorRT does not take profile 1 of its engine: TensorRT gave no reason"):
        Detector.load(trained_model, runtime="tensorrt")


def test_a_piecewise_run_of_several(trained_model, network, images):
    network(refuses_in_captures, batch=2)
    with Detector.load(trained_model, runtime="tensorrt") as detector:
        assert [verdict.decision for verdict in detector.predict(images)] == ["ok", "reject", "ok"]


def test_everything_of_a_batch_goes_with_the_detector(trained_model, network, driver, images, no_collector):
    before = driver.emulator_live()
    of_several(trained_model, network, 2, images)
    assert driver.emulator_live() == before


def test_doctor_says_what_is_in_the_graph(trained_model, network, monkeypatch, tmp_path):
    network()
    model = shutil.copytree(trained_model, tmp_path / "model")
    (model / "engines").mkdir()
    there = replace(RUNTIMES.named("tensorrt"), runs=lambda artifact, graph: True)
    monkeypatch.setitem(RUNTIMES._components, "tensorrt", there)
    assert doctor._model(model)["detail"] == f"fp32 on tensorrt, a frame {ONE_GRAPH}"
