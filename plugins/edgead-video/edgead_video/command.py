"""Verbs for video clips: `edgead video strips CLIP... -o DATA` and `edgead video score MODEL CLIP...`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from edgead.cli.app import ListingApp, Model, app
from edgead.components.options import NoOptions
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.table import write_csv
from edgead.images.files import write_image
from edgead.sources.live import LiveLimits
from edgead.types import Verdict
from edgead_video.sheet import draw_sheet
from edgead_video.source import SCHEME, StripSource, open_strips
from edgead_video.strips import FRAMES

GROUPS = "groups.csv"
COLUMNS = ("clip", "frame", "score", "decision")

video = ListingApp(no_args_is_help=True, help="Make strips of clips, to learn from, and judge clips frame by frame.")
app.add_typer(video, name="video")

Clips = Annotated[list[Path], typer.Argument(help="Videos, or folders of frames in their order.")]


class JudgedFrame(NamedTuple):
    """Frame of a clip, with its number from 0 and its verdict."""

    clip: str
    number: int
    strip: np.ndarray
    verdict: Verdict


def write_strips(clips: Sequence[Path], data: Path, *, into: str = "train/good", every: int = 1) -> int:
    """Write strips of clips to `data`/`into`/CLIP_NUMBER.png and groups to `data`/groups.csv; return their number.

    The strips of a clip form one group, so that frames for learning and for thresholds are of different clips.
    """
    names = [clip.stem if clip.is_file() else clip.name for clip in clips]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SettingsError(f"two clips are called {min(twice)}: each needs a name of its own")
    groups = {}
    for clip, name in zip(clips, names, strict=True):
        with closing(_open(clip)) as source:
            for frame in islice(source, 0, None, every):
                file = data / into / f"{name}_{frame.number:06d}.png"
                write_image(file, frame.image)
                groups[file.relative_to(data).as_posix()] = name
    if not groups:
        raise SettingsError(f"no clip has {FRAMES} frames: there is no strip")
    rows = {**_earlier(data / GROUPS), **groups}
    write_csv(data / GROUPS, ("path", "group"), [{"path": path, "group": name} for path, name in rows.items()])
    return len(groups)


def _earlier(file: Path) -> dict[str, str]:
    """Read the groups of strips that are already in the data set."""
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as table:
        return {row["path"]: row["group"] for row in csv.DictReader(table)}


def judge(detector: Detector, clips: Sequence[Path]) -> Iterator[JudgedFrame]:
    """Judge each frame of the clips that has four frames before it."""
    for clip in clips:
        session = detector.session()
        with closing(_open(clip)) as source:
            for frame in source:
                verdict = session.step(frame)
                if verdict is not None:
                    yield JudgedFrame(clip.name, frame.number, frame.image, verdict)


def _open(clip: Path) -> StripSource:
    return open_strips(f"{SCHEME}:{clip}", NoOptions(), LiveLimits())


@video.command()
def strips(
    clips: Clips,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the data set.")],
    into: Annotated[str, typer.Option(help="Folder in it, such as test/jam for `edgead eval`.")] = "train/good",
    every: Annotated[int, typer.Option(min=1, help="Keep each N-th strip alone.")] = 1,
) -> None:
    """Make strips of clips: a data set."""
    count = write_strips(clips, output, into=into, every=every)
    print(f"{count} strips of {len(clips)} clips in {output / into}")
    print(f"now: edgead train {output} -o model --detector memoryout --group {output / GROUPS}")


@video.command()
def score(
    model: Model,
    clips: Clips,
    table: Annotated[Path | None, typer.Option("--csv", help="File for a row a frame.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="File for an image: scores over time, and the highest frames.")
    ] = None,
) -> None:
    """Judge clips frame by frame."""
    with Detector.load(model) as detector:
        judged = list(judge(detector, clips))
        limit = detector.threshold
    if not judged:
        raise SettingsError(f"no clip has {FRAMES} frames: there is nothing to judge")
    if table is not None:
        write_csv(table, COLUMNS, [dict(zip(COLUMNS, _cells(one), strict=True)) for one in judged])
    if sheet is not None:
        write_image(sheet, draw_sheet(judged, limit))
    for clip in dict.fromkeys(one.clip for one in judged):
        own = [one for one in judged if one.clip == clip]
        rejects = sum(one.verdict.decision == "reject" for one in own)
        highest = max(own, key=lambda one: one.verdict.image_score)
        print(
            f"{clip}: {len(own)} frames judged, {rejects} rejected, highest score "
            f"{highest.verdict.image_score:.3g} at frame {highest.number}"
        )


def _cells(one: JudgedFrame) -> tuple[str, int, str, str]:
    return one.clip, one.number, f"{one.verdict.image_score:.6g}", one.verdict.decision
