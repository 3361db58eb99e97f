"""Cycles: period and phases, the head's state, training to a model, and what is refused in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from command_line import run_here

from edgead.adapt.memory_bank.period import autocorrelation, find_period, find_phases
from edgead.detector import Detector, Session
from edgead.errors import EdgeadError, SettingsError
from edgead.heads.cycle import CycleHead, Moments, PlacedRows
from edgead.images.files import write_image
from edgead.line.site.schema import PipelineSection
from edgead.line.triggers.timing import IntervalOptions
from edgead.sources import open_source
from edgead.synthetic.machine import FAULTS, Fault, Happening, machine
from edgead.synthetic.source import SyntheticOptions
from edgead.types import Frame, Verdict

PERIOD, CYCLES = 24, 8
SETTINGS = {"image_size": (64, 64), "pool": 1}


def motion(
    rng: np.random.Generator, period: float, frames: int, noise: float, places: int = 1, depth: int = 40
) -> np.ndarray:
    """Rows (frames, places * depth) of something that turns with three harmonics, and noise."""
    at = 2 * np.pi * (np.arange(frames) / period + rng.uniform())
    rows = sum(
        np.outer(np.cos(k * at), rng.normal(size=places * depth)) / k
        + np.outer(np.sin(k * at), rng.normal(size=places * depth)) / k
        for k in (1, 2, 3)
    )
    return (rows + noise * rng.normal(size=(frames, places * depth))).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_any_period_is_found_within_two_per_cent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    period = float(np.exp(rng.uniform(np.log(8), np.log(200))))
    rows = motion(rng, period, int(period * rng.uniform(3.3, 12)), rng.uniform(0, 1.5))
    assert find_period([rows[:5], rows]) == pytest.approx(period, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("wanders", [False, True])
def test_no_period_is_found_in_noise(seed: int, wanders: bool) -> None:
    rows = np.random.default_rng(seed).normal(size=(300, 40)).astype(np.float32)
    with pytest.raises(SettingsError, match="nothing in 300 frames comes again .* or give --period"):
        find_period([np.cumsum(rows, axis=0) if wanders else rows])


def test_a_short_video_shows_no_period() -> None:
    with pytest.raises(SettingsError, match="has 11 frames: 3 cycles"):
        find_period([np.zeros((11, 4), np.float32)])
    rows = motion(np.random.default_rng(1), 40, 100, 0.1)
    with pytest.raises(SettingsError, match="nothing in 100 frames comes again with a period of 4 to 33 frames"):
        find_period([rows])


def test_autocorrelation_is_that_of_numpy() -> None:
    rows = motion(np.random.default_rng(2), 12, 90, 0.2)
    alike = autocorrelation(rows, 40)
    assert alike[0] == pytest.approx(1) and alike[12] > 0.9 > alike[6]
    assert np.abs(alike).max() <= 1 + 1e-9


def test_phases_follow_a_speed_that_changes() -> None:
    rng = np.random.default_rng(3)
    true = np.cumsum(1 / 30 * (1 + 0.15 * np.sin(np.arange(240) / 25)))
    harmonics = np.concatenate([f(2 * np.pi * np.outer(true, [1, 2])) for f in (np.cos, np.sin)], axis=1)
    rows = (harmonics @ rng.normal(size=(4, 32))).astype(np.float32)
    period, (found,) = find_phases([rows], 30.0, (2, 2))
    off = found - true
    assert np.abs(off - np.median(off)).max() < 0.07  # the cycle that is the measure had a changing speed too
    assert period == pytest.approx(239 / (true[-1] - true[0]), rel=0.02)
    assert (np.diff(found) > 0).all()


def test_a_moment_is_compared_with_the_rows_near_it() -> None:
    moments = Moments(8, 1.0, np.array([0.0, 0.1, 0.5, 0.98]))
    distances = np.array([[4.0], [3.0], [1.0], [2.0]])
    near = moments.at_moments(distances)[:, 0]
    assert moments.count == 32
    assert near[0] == 2  # over the end of the cycle
    assert near[8] == 3  # none is within a frame of a quarter: the nearest
    assert near[16] == 1


@pytest.mark.parametrize("seed", range(5))
def test_moments_have_all_rows_within_reach_or_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    period, reach, phases = rng.uniform(4, 60), rng.choice([0.0, 0.5, 2.0, 80.0]), rng.uniform(size=rng.integers(1, 40))
    moments = Moments(period, reach, phases)
    for number in range(moments.count):
        off = np.abs(number / moments.count - phases)
        off = np.minimum(off, 1 - off) * period
        expected = {*np.flatnonzero(off <= reach)} or {int(off.argmin())}
        found = {row for row in range(len(phases)) if moments.at_moments(-np.eye(len(phases))[row])[number] < 0}
        assert found == expected


def test_ways_go_on_at_the_speed_of_the_motion() -> None:
    moments = Moments(10, 1.0, np.array([0.0]))
    costs = np.full(moments.count, 9.0, np.float32)
    costs[5] = 0
    ways, steps = moments.go_on(costs)
    assert np.flatnonzero(ways == 0).tolist() == [8, 9, 10]
    assert steps[[8, 9, 10]].tolist() == [0, 1, 2]


def test_distances_are_euclidean() -> None:
    rng = np.random.default_rng(4)
    bank, frame = rng.normal(size=(7, 2 * 3 * 5)).astype(np.float32), rng.normal(size=(2, 3, 5)).astype(np.float32)
    expected = np.linalg.norm(bank.reshape(7, 6, 5) - frame.reshape(6, 5), axis=2)
    assert PlacedRows(bank, (2, 3)).distances(frame) == pytest.approx(expected, rel=1e-5)


def test_arrays_that_do_not_fit_are_refused() -> None:
    head, outputs = CycleHead(period=8), {"features": np.zeros((1, 2, 2, 3), np.float32)}
    bank, phases = np.zeros((4, 12), np.float32), np.zeros((4, 1), np.float32)
    head.check(outputs, {"memory_bank": bank, "phases": phases})
    with pytest.raises(ValueError, match="a frame has 12 numbers"):
        head.check(outputs, {"memory_bank": bank[:, :9], "phases": phases})
    for wrong in (phases[:3], phases + 1, phases + np.nan):
        with pytest.raises(ValueError, match="phases are"):
            head.check(outputs, {"memory_bank": bank, "phases": wrong})


def test_the_machine_does_what_its_script_says() -> None:
    script = [Happening("stopped", 3, 2), Happening("foreign", 6, 1)]
    frames = list(machine(1, 12, 8, script, size=48))
    assert [fault for _, fault in frames] == [None, None, None, "stopped", "stopped", None, "foreign", None]
    assert frames[0][0].shape == (48, 48, 3) and frames[0][0].dtype == np.uint8
    changes = [np.abs(a.astype(float) - b).mean() for (a, _), (b, _) in zip(frames, frames[1:], strict=False)]
    assert max(changes[2], changes[3]) < 0.7 * min(changes[0], changes[1], changes[4])


def test_the_machine_is_a_source() -> None:
    assert get_args(get_args(SyntheticOptions.model_fields["fault"].annotation)[0]) == FAULTS
    uri = "synthetic:?cycle=12&count=5&seed=3&size=32&fault=stopped&fault_at=2"
    expected = [image for image, _ in machine(3, 12, 5, [Happening("stopped", 2, 9)], size=32)]
    for frame, image in zip(open_source(uri), expected, strict=True):
        assert np.array_equal(frame.image, image)
    endless = iter(open_source("synthetic:?cycle=12&count=2&size=32&repeat=1"))
    assert [next(endless).number for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(EdgeadError, match="a fault is of the machine"):
        open_source("synthetic:?fault=stopped")


# With a network

pytest.importorskip("torch")


def frames_of(seed: int, count: int, script: list[Happening] | None = None) -> Iterator[np.ndarray]:
    return (image for image, _ in machine(seed, PERIOD, count, script or [], size=64))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgead.workstation.training.cycle import train_cycle

    path = tmp_path_factory.mktemp("cycle") / "model"
    train_cycle([partial(frames_of, seed, PERIOD * CYCLES // 2) for seed in (1, 2)], path, SETTINGS)
    return path


@pytest.fixture(scope="module")
def detector(model: Path) -> Iterator[Detector]:
    with Detector.load(model, runtime="onnxruntime") as opened:
        yield opened


def as_frame(image: np.ndarray, number: int, connection: int = 0) -> Frame:
    return Frame(image, number, 0, datetime.now(timezone.utc), "camera", connection=connection)


def scores(session: Session, images: list[np.ndarray], first: int = 0) -> list[float | None]:
    verdicts = [session.step(as_frame(image, number)) for number, image in enumerate(images, first)]
    return [None if verdict is None else verdict.image_score for verdict in verdicts]


def test_the_model_knows_its_cycle(model: Path, detector: Detector) -> None:
    training, head = detector.manifest.training, detector.manifest.head
    assert isinstance(head, CycleHead) and head.period == pytest.approx(PERIOD, rel=0.05)
    assert training["frames"] == PERIOD * CYCLES and training["cycles"] in range(CYCLES - 2, CYCLES + 3)
    limits = detector.graph.calibration
    assert limits is not None and len(limits.scores) == training["cycles"]
    assert limits.false_reject_rate == pytest.approx(1 / (training["cycles"] + 1))
    assert limits.method == "cross_conformal" and limits.reject > limits.scores[-1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_within_ten_frames(detector: Detector, fault: Fault) -> None:
    at = 2 * PERIOD
    session = detector.session()
    verdicts = [
        session.step(as_frame(image, number))
        for number, image in enumerate(frames_of(5, at + 14, [Happening(fault, at, 20)]))
    ]
    decisions = ["none" if verdict is None else verdict.decision for verdict in verdicts]
    assert decisions[:2] == ["none"] * 2 and set(decisions[2:at]) == {"ok"}
    assert "reject" in decisions[at : at + 10]


def test_after_a_gap_a_stream_begins_again(detector: Detector) -> None:
    images = list(frames_of(6, 40))
    session = detector.session()
    scores(session, images[:20])
    again = scores(session, images[25:], first=25)
    assert again[:2] == [None, None] and again == scores(detector.session(), images[25:])
    session.reset()
    assert scores(session, images[25:]) == again


def test_two_sessions_of_a_model_do_not_disturb_each_other(detector: Detector) -> None:
    first, second = list(frames_of(7, 30)), list(frames_of(8, 40))[10:]
    alone = [scores(detector.session(), images) for images in (first, second)]
    sessions = detector.session(), detector.session()
    together: tuple[list[float | None], list[float | None]] = ([], [])
    for number, pair in enumerate(zip(first, second, strict=True)):
        for session, image, found in zip(sessions, pair, together, strict=True):
            found += scores(session, [image], first=number)
    assert list(together) == alone


def test_a_network_that_is_broken_makes_no_verdict(detector: Detector) -> None:
    head, state = detector.manifest.head, detector.manifest.head.new_state()
    outputs = {"features": np.zeros((1, 2, 2, 3), np.float32)}
    arrays = {"memory_bank": np.zeros((8, 12), np.float32), "phases": np.arange(8, dtype=np.float32)[:, None] / 8}
    scorer = head.open(outputs, arrays, (32, 32))
    scorer.score(outputs, state)
    before = state.costs.copy()
    with pytest.raises(ValueError, match="NaN or infinity"):
        scorer.score({"features": np.full((1, 2, 2, 3), np.nan, np.float32)}, state)
    assert np.array_equal(state.costs, before)


def test_an_image_alone_is_like_some_moment(detector: Detector) -> None:
    stream = list(frames_of(9, 30))
    followed: list[Verdict | None] = [detector.session().judge(stream[0])]
    assert followed == [None]
    assert all(detector.measure(image).image_score < detector.threshold for image in stream[::7])


def test_runtimes_agree(model: Path) -> None:
    from edgead.export.verify import compare_with_torch, replay_golden

    from edgead.artifact.folder import Artifact

    artifact = Artifact.load(model)
    assert compare_with_torch(artifact).passed and replay_golden(artifact).passed


def test_folders_are_streams(detector: Detector, tmp_path: Path) -> None:
    from edgead.cli.predict_files import predict_images
    from edgead.images.files import list_images
    from edgead.report.folder import evaluate_folder

    write_frames(tmp_path / "test/good", frames_of(3, 30))
    write_frames(tmp_path / "test/stopped", frames_of(3, 30, [Happening("stopped", 0, 30)]))
    rows, warnings = predict_images(detector, list_images(tmp_path / "test", below=True))
    assert len(rows) == 56 and "the first 2 of each" in warnings[0]
    expected = scores(detector.session(), [detector.read_image(Path(row["image"])) for row in rows[:28]])
    stopped = [row for row in rows if "stopped" in row["image"]]
    assert sum(row["decision"] == "reject" for row in stopped) >= 10
    assert {row["decision"] for row in rows if row not in stopped} == {"ok"} and expected[2] is not None
    found = evaluate_folder(detector, tmp_path, "none", lambda *_: None).to_dict()
    assert found["images"] == 56 and found["false_reject_rate"]["count"] == 0 and found["image_AUROC"] > 0.8
    with pytest.raises(SettingsError, match="by 3 frames in a row: give a folder of frames in order"):
        predict_images(detector, [next((tmp_path / "test/good").iterdir())])


def write_frames(folder: Path, images: Iterator[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        write_image(folder / f"{number:03d}.png", image)


def test_what_makes_no_sense_of_it_is_refused(model: Path, detector: Detector, tmp_path: Path) -> None:
    from edgead.export.add_graph import add_graph
    from edgead.export.precision import PrecisionPlan

    from edgead.adapt.recalibrate import AskedRates, recalibrate
    from edgead.adapt.teach.run import TeachPlan, teach
    from edgead.adapt.training.good_images import GoodImages
    from edgead.report.folder import report_folder
    from edgead.workstation.methods.cycle import Cycle

    write_frames(tmp_path / "good", frames_of(3, 4))
    paths = sorted((tmp_path / "good").iterdir())
    with pytest.raises(SettingsError, match="learn it again with `edgead cycle`"):
        recalibrate(detector, paths, AskedRates())
    with pytest.raises(SettingsError, match="images alone teach it nothing"):
        teach(model, TeachPlan(paths))
    for precision in ("int8", "fp16"):
        with pytest.raises(SettingsError, match="it stays in fp32"):
            add_graph(model, PrecisionPlan(precision), tmp_path / "good")
    with pytest.raises(SettingsError, match="has its limit for cycles"):
        report_folder(detector, tmp_path, tmp_path / "page.html", "none", lambda *_: None)
    with pytest.raises(SettingsError, match="`edgead cycle VIDEO -o MODEL`"):
        GoodImages(tmp_path / "good").check_method(Cycle)
    section = PipelineSection(camera="c", model=model)
    section.check_model(detector.artifact)
    asked = section.model_copy(update={"trigger": IntervalOptions(kind="interval", every_s=1)})
    with pytest.raises(SettingsError, match="the trigger interval picks some"):
        asked.check_model(detector.artifact)


def test_settings_and_videos_that_cannot_be_are_refused(tmp_path: Path) -> None:
    from edgead.workstation.methods.cycle import Cycle, CycleConfig
    from edgead.workstation.training.cycle import train_cycle

    with pytest.raises(SettingsError, match="pool and max_rows are 1 or more"):
        CycleConfig(pool=0)
    with pytest.raises(SettingsError, match="pool=5 is more than the 4 x 4 positions"):
        Cycle.from_settings({"image_size": [64, 64], "pool": 5}, pretrained=False)
    with pytest.raises(SettingsError, match="no video"):
        train_cycle([], tmp_path / "m")
    with pytest.raises(SettingsError, match="first video has no frames"):
        train_cycle([lambda: iter(())], tmp_path / "m")
    with pytest.raises(SettingsError, match="video 2 of 2 has no frames"):
        train_cycle([partial(frames_of, 1, 12), lambda: iter(())], tmp_path / "m", SETTINGS)
    with pytest.raises(SettingsError, match="12 frames, 3 cycles of 5.0 frames are needed"):
        train_cycle([partial(frames_of, 1, 12)], tmp_path / "m", {**SETTINGS, "period": 5.0})
    assert not (tmp_path / "m").exists()


def test_the_command_learns_a_video(tmp_path: Path) -> None:
    import cv2

    video = tmp_path / "press.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 64))
    for image in frames_of(1, 100):
        writer.write(image)
    writer.release()
    small = ("--image-size", 64, "--set", "pool=1", "--set", "in_a_row=2", "--period", 1.2)
    ended = run_here("cycle", video, "-o", tmp_path / "m", *small, "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["fps"] == 20 and report["frames"] == 100
    assert report["period_seconds"] == pytest.approx(1.2, rel=0.05) and "cycles say little" in ended.stderr
    judged = run_here("stream", tmp_path / "m", video, "--json")
    assert judged.returncode == 0 and json.loads(judged.stdout)["warming_up"] == 1
    assert (
        "a video is no image: judge its frames with `edgead stream" in run_here("predict", tmp_path / "m", video).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["{folder}", "--period", "1.2"], "--period in seconds needs --fps"),
        (["{folder}", "--period", "soon", "--fps", "20"], "--period 'soon': give seconds, or auto"),
        (["synthetic:?cycle=8&count=9&rate=20"], "is live, and a recording is read twice"),
        (["{folder}/none"], "no such file or folder"),
        (["{folder}", "--image-size", "64"], "has 5 frames: 3 cycles, each of 4 frames or more"),
    ],
)
def test_what_the_command_cannot_do_it_says(arguments: list[str], problem: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", frames_of(1, 5))
    given = [argument.format(folder=tmp_path / "frames") for argument in arguments]
    ended = run_here("cycle", *given, "-o", tmp_path / "m")
    assert ended.returncode == 2 and problem in ended.stderr


def test_a_pipeline_watches_no_drift_of_a_motion(model: Path, tmp_path: Path) -> None:
    from edgead.line.daemon.active_model import ActiveModel
    from edgead.line.daemon.thresholds import KeptThresholds
    from edgead.line.drift import DriftSection

    kept = KeptThresholds(tmp_path / "thresholds.json")
    slot = ActiveModel("press", PipelineSection(camera="c", model=model), kept, threads=1)
    slot.load()
    try:
        with pytest.raises(SettingsError, match="each frame follows from the one before"):
            slot.drift_watch(DriftSection())
        images = list(frames_of(5, 12))
        before = [slot.step(as_frame(image, number)) for number, image in enumerate(images)]
        slot.load()  # a model that is loaded again begins again
        after = [slot.step(as_frame(image, number)) for number, image in enumerate(images[9:], 9)]
        assert before[1] is None and before[9] is not None and after[:2] == [None, None] and after[2] is not None
    finally:
        slot.close()


def test_a_cycle_that_was_disturbed_is_named() -> None:
    from edgead.workstation.methods.cycle import Cycle, Followed
    from edgead.workstation.training.cycle import _odd_cycles

    learnt = Cycle.from_settings(SETTINGS, pretrained=False)
    learnt.period = 8.0
    learnt.followed = [Followed(np.zeros((84, 1), np.float32), np.arange(84) / 8)]
    scores = np.linspace(1.0, 1.1, 11)[:10].tolist() + [1.05]
    assert _odd_cycles(learnt, scores) == {}
    scores[3] = 3.0
    assert _odd_cycles(learnt, scores) == {"odd_cycles": ["frames 24 to 31 of video 1"]}
