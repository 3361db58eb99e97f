"""The whole path on the built-in line or on a user's own images: train, verify, evaluate, stream, sum up."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.cli.console import StageProgress, stage_bars
from edgead.dataset.folders import GOOD, find_test_images
from edgead.detector import Detector
from edgead.files.disk import writing
from edgead.images.files import write_image
from edgead.images.overlay import brought_out, draw_overlay, draw_truth
from edgead.images.sheet import Tile, pair, pair_sheet
from edgead.report.evaluate import evaluate
from edgead.report.worst_cases import write_worst_cases
from edgead.sources import Source, open_source
from edgead.sources.folder import FolderSource
from edgead.stream import StreamSummary, run
from edgead.synthetic.recording import load_truth, write_dataset, write_video
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from rich.console import Group

VERIFIED_IMAGES = 30
# Of each kind, images on the sheet.
SHEET_TILES = {"missed": 12, "false": 12, "found": 12}


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found; `misses` are defective parts that were judged ok."""

    parts: int
    defective: int
    rejects: int
    misses: list[str]
    false_rejects: list[str]
    parity: dict[str, Any]
    evaluation: dict[str, Any]
    stream: StreamSummary
    written: dict[str, str]

    @property
    def passed(self) -> bool:
        return self.parity["passed"] and self.stream.fault is None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}

    def table(self) -> Group:
        """Lay the summary out for a terminal."""
        from rich.console import Group

        from edgead.cli.console import evaluation_table, facts_table

        found = self.defective - len(self.misses)
        good = self.parts - self.defective
        facts = {
            "parts seen": self.parts,
            "defects found": f"{found} of {self.defective}" + _named("missed", self.misses),
            "good parts rejected": f"{len(self.false_rejects)} of {good}" + _named("frames", self.false_rejects),
            "torch and deployed scores": f"differ by at most {self.parity['score_error']:.1e} (relative), "
            f"{self.parity['verdict_flips']} verdict flips",
            **self.written,
        }
        return Group(
            evaluation_table(self.evaluation),
            self.stream.table(),
            facts_table("the line", facts),
        )


Truth = tuple[str | None, np.ndarray | None]
"""The defect of a frame, None for a good part; and its mask, bool (H, W), where it is known."""


@dataclass
class _Scoreboard:
    """Compares verdicts with the truth as they come, and keeps images of the interesting ones."""

    truth: Callable[[Frame], Truth]
    parts: int = 0
    defective: int = 0
    rejects: int = 0
    misses: list[str] = field(default_factory=list)
    false_rejects: list[str] = field(default_factory=list)
    tiles: dict[str, list[Tile]] = field(default_factory=lambda: {"missed": [], "false": [], "found": []})

    def see(self, frame: Frame, verdict: Verdict) -> None:
        defect, mask = self.truth(frame)
        label = frame.name or f"frame {frame.number}"
        self.parts += 1
        self.defective += defect is not None
        self.rejects += verdict.decision == "reject"
        kind = None
        if defect is not None:
            kind = "missed" if verdict.decision == "ok" else "found"
        elif verdict.is_reject:
            kind = "false"
            self.false_rejects.append(label)
        if kind == "missed":
            self.misses.append(f"{defect}/{label}")
        if kind and len(self.tiles[kind]) < SHEET_TILES[kind]:
            truth = draw_truth(frame.image, mask, f"truth: {defect or GOOD}")
            self.tiles[kind].append((pair(truth, draw_overlay(frame.image, brought_out(verdict))), label))

    def sheet(self) -> np.ndarray:
        """Arrange the images that were kept: mistakes first."""
        found, good = self.defective - len(self.misses), self.parts - self.defective
        bands = [
            (f"MISSED: {len(self.misses)} of {self.defective} defective parts judged ok", self.tiles["missed"]),
            (f"FALSE REJECTS: {len(self.false_rejects)} of {good} good parts rejected", self.tiles["false"]),
            (f"FOUND: {found} of {self.defective} defective parts", self.tiles["found"]),
        ]
        return pair_sheet(f"{self.parts} parts on the line, {self.defective} of them defective", bands)


def run_demo(output: Path, data: Path | None = None, *, preset: str = "default") -> DemoReport:
    """Run the demo and write all of it below `output`.

    Parameters
    ----------
    output : Path
        Gets the model, the annotated video or images, the verdicts and two contact sheets; for the built-in line
        its images and its video too.
    data : Path, optional
        Your own images in MVTec layout; by default the built-in line.
    preset : {"fast", "default", "fine"}
    """
    with writing(output), stage_bars() as progress:
        own = data is not None
        if data is None:
            data = write_dataset(output / "data", progress=partial(progress, "make images"))
        parity = _train(data, output / "model", preset, progress)
        with Detector.load(output / "model") as detector:
            evaluation = evaluate(detector, find_test_images(data), progress=partial(progress, "evaluate"))
            worst = output / "worst_cases.jpg"
            write_worst_cases(detector, evaluation, worst)
            source, truth = _own_line(data) if own else _built_in_line(output, progress)
            images = f"images:{output / 'images'}" if own else f"video:{output / 'annotated.avi'}"
            board = _Scoreboard(truth)
            verdicts = output / "verdicts.jsonl"
            # What an earlier run wrote would be mixed with what this one writes.
            verdicts.unlink(missing_ok=True)
            shutil.rmtree(output / "images", ignore_errors=True)
            with closing(source):
                summary = run(source, detector, [f"jsonl:{verdicts}", images], on_verdict=board.see)
    written = {
        "model": str(output / "model"),
        "annotated images" if own else "annotated video": images.partition(":")[2],
        "verdicts": str(verdicts),
        "worst of the test set": str(worst),
    }
    if any(board.tiles.values()):
        sheet = output / "heat_maps.jpg"
        write_image(sheet, board.sheet())
        written["heat maps"] = str(sheet)
    return DemoReport(
        board.parts,
        board.defective,
        board.rejects,
        board.misses,
        board.false_rejects,
        parity,
        evaluation.to_dict(),
        summary,
        written,
    )


def _train(data: Path, model: Path, preset: str, progress: StageProgress) -> dict[str, Any]:
    # The workstation's half: imported here, so that a device can import this module.
    from edgead.export.verify import compare_with_torch
    from edgead.methods import find_preset
    from edgead.training.from_folder import GoodImages, train_from_folder

    artifact, _ = train_from_folder(GoodImages(data), model, find_preset("patchcore", preset), progress=progress)
    tests = [image.path for image in find_test_images(data)]
    spread = tests[:: max(1, len(tests) // VERIFIED_IMAGES)]
    return compare_with_torch(artifact, spread, progress=partial(progress, "verify")).to_dict()


def _built_in_line(output: Path, progress: StageProgress) -> tuple[Source, Callable[[Frame], Truth]]:
    video = output / "line.avi"
    truths = load_truth(write_video(video, progress=partial(progress, "film the line")))

    def truth(frame: Frame) -> Truth:
        known = truths[frame.number]
        mask = np.zeros(frame.image.shape[:2], bool)
        for x, y, width, height in known.boxes:
            mask[y : y + height, x : x + width] = True
        return known.defect, mask

    return open_source(video), truth


def _own_line(data: Path) -> tuple[Source, Callable[[Frame], Truth]]:
    source = FolderSource(f"{glob.escape(str(data))}/test/*/*")
    labelled = {image.path: image for image in find_test_images(data)}

    def truth(frame: Frame) -> Truth:
        image = labelled[source.paths[frame.number]]
        return (image.defect, image.load_mask(frame.image.shape[:2])) if image.is_defective else (None, None)

    return source, truth


def _named(word: str, names: list[str]) -> str:
    if not names:
        return ""
    return f" ({word}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
