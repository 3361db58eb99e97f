"""Demo: the whole path on the built-in line or on a user's own images: train, verify, evaluate, stream, sum up."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.cli.console import StageProgress, stage_bars
from edgead.cli.demo_folder import demo_folder
from edgead.cli.demo_lines import Line, built_in_line, own_line
from edgead.cli.demo_mistakes import Mistake, Mistakes
from edgead.cli.demo_next import Step, next_steps, steps_text, write_site
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.images.overlay import draw_overlay, draw_truth
from edgead.images.sheet import Tile, pair, pair_sheet
from edgead.report.evaluate import evaluate
from edgead.report.worst_cases import write_worst_cases
from edgead.stream import StreamSummary, run
from edgead.synthetic.recording import write_dataset
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from rich.console import Group

VERIFIED_IMAGES = 30
# The built-in line has images enough for a strict limit, and its defects are easy.
LINE_RATE = 0.01
SHEET_TILES = 24


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
    look_at: dict[str, str]
    next_steps: list[Step]

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

    def ending(self) -> str:
        """What to look at and what to do next; a table would cut commands off at the terminal's width."""
        return steps_text(self.look_at, self.next_steps)


@dataclass
class _Scoreboard:
    """Compares verdicts with the truth as they come, and keeps images of the interesting ones."""

    line: Line
    parts: int = 0
    defective: int = 0
    rejects: int = 0
    misses: list[str] = field(default_factory=list)
    false_rejects: list[str] = field(default_factory=list)
    found: list[Tile] = field(default_factory=list)
    mistakes: Mistakes = field(default_factory=Mistakes)

    def see(self, frame: Frame, verdict: Verdict) -> None:
        defect = self.line.truth(frame)
        flagged = verdict.decision != "ok"
        label = frame.name or f"frame {frame.number}"
        self.parts += 1
        self.defective += defect is not None
        self.rejects += verdict.decision == "reject"
        missed, false_reject = defect is not None and not flagged, defect is None and verdict.decision == "reject"
        if missed:
            self.misses.append(f"{defect}/{label}")
        if false_reject:
            self.false_rejects.append(label)
        if missed or false_reject:
            self.mistakes.add(Mistake(label, defect, frame.image.copy(), verdict, self.line.mask(frame)))
        if defect is not None and flagged and len(self.found) < SHEET_TILES:
            truth = draw_truth(frame.image, self.line.mask(frame), f"truth: {defect}")
            self.found.append((pair(truth, draw_overlay(frame.image, verdict)), label))


def run_demo(output: Path, data: Path | None = None, *, preset: str = "default") -> DemoReport:
    """Run the demo and write all of it below `output`.

    Parameters
    ----------
    output : Path
        Gets the model, the annotated video or images, the verdicts and the contact sheets; for the built-in line its
        images, its video and a site file too.
    data : Path, optional
        Your own images in MVTec layout; by default the built-in line.
    preset : {"fast", "default", "fine"}

    Raises
    ------
    SettingsError
        `output` holds what no demo wrote; nothing changes then.
    """
    with demo_folder(output), stage_bars() as progress:
        own = data is not None
        if data is None:
            data = write_dataset(output / "data", progress=partial(progress, "make images"))
        rate = None if own else LINE_RATE
        parity = _train(data, output / "model", preset, rate, progress)
        with Detector.load(output / "model") as detector:
            evaluation = evaluate(detector, find_test_images(data), progress=partial(progress, "evaluate"))
            write_worst_cases(detector, evaluation, output / "worst_cases.jpg")
            line = own_line(data) if own else built_in_line(output, progress)
            board = _Scoreboard(line)
            images = f"images:{output / 'images'}" if own else f"video:{output / 'annotated.avi'}"
            # What an earlier demo wrote would be mixed with what this one writes.
            (output / "verdicts.jsonl").unlink(missing_ok=True)
            if own:
                shutil.rmtree(output / "images", ignore_errors=True)
            with closing(line.source):
                sinks = [f"jsonl:{output / 'verdicts.jsonl'}", images]
                summary = run(line.source, detector, sinks, on_verdict=board.see)
            look_at = _write_sheets(board, output, detector)
    look_at[images.partition(":")[2]] = "every part with its verdict"
    look_at[str(output / "worst_cases.jpg")] = "the hardest of the test set"
    site = None if own else write_site(output)
    return DemoReport(
        board.parts,
        board.defective,
        board.rejects,
        board.misses,
        board.false_rejects,
        parity,
        evaluation.to_dict(),
        summary,
        {"model": str(output / "model"), "verdicts": str(output / "verdicts.jsonl")},
        look_at,
        next_steps(output, data, site),
    )


def _write_sheets(board: _Scoreboard, output: Path, detector: Detector) -> dict[str, str]:
    """Write the sheets of the parts that were seen; returns what each shows, by its path."""
    written = {}
    mistakes, heat_maps = output / "mistakes.jpg", output / "heat_maps.jpg"
    calibration = detector.graph.calibration
    assert calibration is not None
    if board.found:
        found = f"FOUND: {board.defective - len(board.misses)} of {board.defective} defective parts"
        write_image(heat_maps, pair_sheet(f"{board.parts} parts on the line", [(found, board.found)]))
        written[str(heat_maps)] = "what was found, and where"
    if board.mistakes.write(mistakes, calibration.false_reject_rate):
        missed, false_rejects = len(board.misses), len(board.false_rejects)
        written[str(mistakes)] = f"{missed} missed, {false_rejects} rejected wrongly: where, and why"
    return written


def _train(data: Path, model: Path, preset: str, rate: float | None, progress: StageProgress) -> dict[str, Any]:
    """Train as `edgead train` does: in the proportions of the images."""
    # The workstation's half: imported here, so that a device can import this module.
    from edgead.export.verify import compare_with_torch
    from edgead.workstation.methods import find_preset
    from edgead.workstation.methods.patchcore.detector import PatchCoreConfig
    from edgead.workstation.training.from_folder import train_from_folder
    from edgead.workstation.training.good_images import GoodImages, find_proportions, keep_proportions

    settings = find_preset("patchcore", preset)
    square = {**settings, "image_size": list(PatchCoreConfig(**settings).image_size)}
    fitted = keep_proportions(square, find_proportions(find_good_images(data)))
    artifact, _ = train_from_folder(GoodImages(data, false_reject_rate=rate), model, fitted, progress=progress)
    tests = [image.path for image in find_test_images(data)]
    spread = tests[:: max(1, len(tests) // VERIFIED_IMAGES)]
    return compare_with_torch(artifact, spread, progress=partial(progress, "verify")).to_dict()


def _named(word: str, names: list[str]) -> str:
    if not names:
        return ""
    return f" ({word}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
