"""Demo: the whole path on the built-in line or on a user's own images: train, verify, export, inspect.

The demo removes or replaces only files that a demo wrote. At the end it prints what to look at, and the next commands,
which work as they are printed.
"""

from __future__ import annotations

import glob
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.adapt.methods.method import AUTO
from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.training.preset import preset_settings
from edgead.cli.console import stage_bars
from edgead.dataset.folders import GOOD, StageProgress, find_test_images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.files.disk import writing
from edgead.images.files import write_image
from edgead.images.overlay import brought_out, draw_overlay, draw_truth
from edgead.images.sheet import Tile, pair, pair_sheet
from edgead.line.daemon.self_test import SelfTest, self_test
from edgead.process.installation import command_path
from edgead.report.evaluate import evaluate
from edgead.report.worst_cases import write_worst_cases
from edgead.sources import Source, open_source
from edgead.sources.paths import FolderSource
from edgead.stream import StreamSummary, run
from edgead.synthetic.recording import load_truth, write_dataset, write_video
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from rich.console import Group

STAMP = ".edgead-demo"
# Site file of the built-in line before the demo's model; the same as deploy/site.yaml of a checkout, for any folder.
_SITE = """\
# Written by `edgead demo`: the built-in line, inspected by the model in this folder. The page is on {page}.
# `edgead daemon --schema` describes all keys, `edgead daemon -c FILE --check` shows them with their defaults.

cameras:
  conveyor:
    uri: synthetic:?seed=7&count=120&defect_rate=0.1&rate=2&repeat=1

pipelines:
  line:
    camera: conveyor
    model: model
    budget_ms: 200

store:
  folder: evidence
  most_mib: 500
"""
PAGE = "http://127.0.0.1:8080"
# The built-in line has enough images for a strict limit, and its defects are easy.
LINE_RATE = 0.01
SHEET_TILES = 24


@contextmanager
def demo_folder(output: Path) -> Iterator[None]:
    """Mark a folder as a demo's before anything is written into it.

    Raises SettingsError: the folder is not empty, and no demo made it.
    """
    stamp = output / STAMP
    if output.exists() and not stamp.is_file() and (not output.is_dir() or any(output.iterdir())):
        raise SettingsError(
            f"{output} holds what no demo wrote, and the demo would write over it: name a new folder with --output"
        )
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        try:
            yield
        finally:
            if list(output.iterdir()) == [stamp]:  # it failed at once
                stamp.unlink()


@dataclass(frozen=True, slots=True)
class DemoLine:
    """Line of the demo: a source of frames, with functions for a frame's true defect (or None) and its mask."""

    source: Source
    truth: Callable[[Frame], str | None]
    mask: Callable[[Frame], np.ndarray | None]


def built_in_line(output: Path, progress: StageProgress) -> DemoLine:
    """Make a video of the built-in line, and open it with its truth."""
    video = output / "line.avi"
    truths = load_truth(write_video(video, progress=partial(progress, "film the line")))

    def mask(frame: Frame) -> np.ndarray:
        marked = np.zeros(frame.image.shape[:2], bool)
        for x, y, width, height in truths[frame.number].boxes:
            marked[y : y + height, x : x + width] = True
        return marked

    return DemoLine(open_source(video), lambda frame: truths[frame.number].defect, mask)


def own_line(data: Path) -> DemoLine:
    """Open all test images of a data set in MVTec layout as one source."""
    source = FolderSource(f"{glob.escape(str(data))}/test/*/*")
    tests = {(image.defect, image.path.name): image for image in find_test_images(data)}

    def truth(frame: Frame) -> str | None:
        kind = source.paths[frame.number].parent.name
        return None if kind == GOOD else kind

    def mask(frame: Frame) -> np.ndarray | None:
        path = source.paths[frame.number]
        return tests[path.parent.name, path.name].load_mask(frame.image.shape[:2])

    return DemoLine(source, truth, mask)


@dataclass(frozen=True, slots=True)
class DemoStep:
    """A command with its purpose."""

    command: str
    purpose: str


def write_site(output: Path) -> Path:
    """Write a site file that inspects the built-in line with the demo's model; an existing one stays."""
    site = output / "site.yaml"
    if not site.exists():
        write_whole(site, _SITE.format(page=PAGE).encode())
    return site


def next_steps(output: Path, data: Path, site: Path | None) -> list[DemoStep]:
    """List the commands to go on with; `site` is None if the demo ran on the user's own images."""
    model = output / "model"
    report = DemoStep(_edgead("report", model, data, "-o", output / "report.html"), "the test set as a page to print")
    if site is None:
        steps = [
            report,
            DemoStep(
                _edgead("stream", model, "camera:0", "--sink", "images:rejects?only=reject"),
                "judges what a camera sees",
            ),
        ]
    else:
        page = f"inspects the line without end, its page is on {PAGE}; Ctrl-C ends it"
        steps = [
            DemoStep(_edgead("daemon", "-c", site), page),
            report,
            DemoStep(_edgead("train", "FOLDER", "-o", "MODEL"), "learns from your own good parts"),
        ]
    activate = Path(command_path("edgead")).with_name("activate")
    if activate.is_file():
        steps.append(DemoStep(f". {shlex.quote(str(activate))}", "then `edgead` alone is enough in this terminal"))
    return steps


def steps_text(look_at: dict[str, str], steps: list[DemoStep]) -> str:
    """Return text for a terminal: files to look at, then the next commands, each on its own line for copying."""
    width = max(map(len, look_at))
    lines = ["Look at", *(f"  {path:<{width}}  {what}" for path, what in look_at.items()), "", "Next"]
    for step in steps:
        lines += [f"  {step.command}", f"      {step.purpose}"]
    return "\n".join(lines)


def _edgead(*words: str | Path) -> str:
    return shlex.join([command_path("edgead"), *map(str, words)])


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Results of the demo; `misses` are defective parts that were judged ok."""

    parts: int
    defective: int
    rejects: int
    misses: list[str]
    false_rejects: list[str]
    self_test: SelfTest
    evaluation: dict[str, Any]
    stream: StreamSummary
    written: dict[str, str]
    look_at: dict[str, str]
    next_steps: list[DemoStep]

    @property
    def passed(self) -> bool:
        return self.self_test.passed and self.stream.fault is None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "self_test": self.self_test.to_dict(), "passed": self.passed}

    def table(self) -> Group:
        """Make the table of the summary for a terminal."""
        from rich.console import Group

        from edgead.cli.console import evaluation_table, facts_table

        found = self.defective - len(self.misses)
        good = self.parts - self.defective
        facts = {
            "parts seen": self.parts,
            "defects found": f"{found} of {self.defective}" + _named("missed", self.misses),
            "good parts rejected": f"{len(self.false_rejects)} of {good}" + _named("frames", self.false_rejects),
            "golden images": f"{len(self.self_test.images)} score as on record, within "
            f"{100 * max(image.difference for image in self.self_test.images):.2g} %",
            **self.written,
        }
        return Group(
            evaluation_table(self.evaluation),
            self.stream.table(),
            facts_table("the line", facts),
        )

    def ending(self) -> str:
        """Return the text of what to look at and do next; in a table, the terminal's width would cut commands."""
        return steps_text(self.look_at, self.next_steps)


@dataclass
class _Scoreboard:
    """Comparison of the verdicts with the truth, which keeps images of mistakes and of found defects."""

    line: DemoLine
    parts: int = 0
    defective: int = 0
    rejects: int = 0
    misses: list[str] = field(default_factory=list)
    false_rejects: list[str] = field(default_factory=list)
    found: list[Tile] = field(default_factory=list)
    mistaken: list[Tile] = field(default_factory=list)

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
        tiles = self.mistaken if missed or false_reject else self.found
        if (defect is not None or false_reject) and len(tiles) < SHEET_TILES:
            truth = draw_truth(frame.image, self.line.mask(frame), f"truth: {defect or 'good'}")
            seen = draw_overlay(frame.image, brought_out(verdict) if missed else verdict)
            tiles.append((pair(truth, seen), label))


def run_demo(output: Path, data: Path | None = None, *, preset: str = "default") -> DemoReport:
    """Run the demo, and write all its files into `output`.

    `output`: folder for the model, the annotated video or images, verdicts and contact sheets; for the built-in line
        its images, its video and a site file too.
    `data`: your own images in MVTec layout; by default the built-in line.
    `preset`: {"fast", "default", "fine"}.
    Raises SettingsError: `output` holds files that no demo wrote; nothing changes then.
    """
    with demo_folder(output), stage_bars() as progress:
        own = data is not None
        if data is None:
            data = write_dataset(output / "data", progress=partial(progress, "make images"))
        rate = None if own else LINE_RATE
        _train(data, output / "model", preset, rate, progress)
        with Detector.load(output / "model") as detector:
            tested = self_test(detector)
            evaluation = evaluate(detector, find_test_images(data), progress=partial(progress, "evaluate"))
            write_worst_cases(detector, evaluation, output / "worst_cases.jpg")
            line = own_line(data) if own else built_in_line(output, progress)
            board = _Scoreboard(line)
            images = f"images:{output / 'images'}" if own else f"video:{output / 'annotated.avi'}"
            # Files of an earlier demo would be mixed with the new ones.
            (output / "verdicts.jsonl").unlink(missing_ok=True)
            if own:
                shutil.rmtree(output / "images", ignore_errors=True)
            with closing(line.source):
                sinks = [f"jsonl:{output / 'verdicts.jsonl'}", images]
                summary = run(line.source, detector, sinks, on_verdict=board.see)
            look_at = _write_sheet(board, output / "heat_maps.jpg")
    look_at[images.partition(":")[2]] = "every part with its verdict"
    look_at[str(output / "worst_cases.jpg")] = "the hardest of the test set"
    site = None if own else write_site(output)
    return DemoReport(
        board.parts,
        board.defective,
        board.rejects,
        board.misses,
        board.false_rejects,
        tested,
        evaluation.to_dict(),
        summary,
        {"model": str(output / "model"), "verdicts": str(output / "verdicts.jsonl")},
        look_at,
        next_steps(output, data, site),
    )


def _write_sheet(board: _Scoreboard, path: Path) -> dict[str, str]:
    """Write the contact sheet of found defects and mistakes, if there are any; return its path with a description."""
    missed, false_rejects = len(board.misses), len(board.false_rejects)
    bands = [
        (f"FOUND: {board.defective - missed} of {board.defective} defective parts", board.found),
        (f"MISTAKES: {missed} missed, each on a colour scale of its own, and {false_rejects} rejected", board.mistaken),
    ]
    if not board.found and not board.mistaken:
        path.unlink(missing_ok=True)
        return {}
    write_image(path, pair_sheet(f"{board.parts} parts on the line", bands))
    return {str(path): "what was found, missed, and rejected wrongly, and where"}


def _train(data: Path, model: Path, preset: str, rate: float | None, progress: StageProgress) -> None:
    """Train a model as `edgead train` does: with an input of the images' proportions."""
    good = GoodImages(data, false_reject_rate=rate)
    settings, _ = preset_settings(good, "patchcore", preset)
    train_from_folder(good, model, settings, precision=AUTO, progress=progress)


def _named(word: str, names: list[str]) -> str:
    if not names:
        return ""
    return f" ({word}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''})"
