"""Verdicts for image files, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.dataset.folders import Progress, common_folder, name_in
from edgead.dataset.volumes import judge_volumes
from edgead.errors import SettingsError
from edgead.files.table import write_csv
from edgead.images.files import ImageError, write_image
from edgead.images.likeness import look_of
from edgead.images.overlay import draw_overlay
from edgead.images.verdict import drawn_name
from edgead.images.volumes import volume_of
from edgead.serialization import sentence
from edgead.types import DECISIONS, Palette, Verdict, score_texts

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Group
    from rich.table import Table

    from edgead.detector import Detector
    from edgead.detector.in_order import FileJudge
    from edgead.heads import Head

MAX_ROWS = 20  # of the table, which shall fit on a screen

CSV_COLUMNS = (
    "image",
    "decision",
    "score",
    "image_score",
    "threshold",
    "regions",
    "kind",
    "kind_p_value",
    "other_format",
    "heat_map",
    "problem",
)


def predict_images(
    detector: Detector,
    paths: Sequence[Path],
    heat_maps: Path | None = None,
    palette: Palette = "warm",
    *,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Judge images; with a folder `heat_maps`, also write a heat map of each into it, in the images' own subfolders.

    The heat maps have the colours of `palette`.

    Returns `image`, the values of `edgead.types.Verdict.to_dict`, and `heat_map` if one was written; for an image that
        cannot be judged, `image` and `problem`.
    Returns warnings if nearly all images are rejected, if images look unlike those that the model knows, or if it has
        learnt images.
    """
    from edgead.artifact.training_hashes import find_learnt
    from edgead.calibration.blind import MAX_REJECTED
    from edgead.detector.golden_likeness import unlike_golden
    from edgead.detector.in_order import FileJudge

    top = common_folder(paths)
    rows, looks = [], {}
    judge = FileJudge(detector)
    for number, path in enumerate(paths):
        try:
            image = detector.read_image(path)
            looks[name_in(top, path)] = look_of(image)
            row = _judge(detector, judge, path, image, top, heat_maps, palette)
            rows += [] if row is None else [row]
        except (ImageError, SettingsError) as error:
            rows.append({"image": str(path), "problem": str(error).removeprefix(f"{path}: ")})
        if progress:
            progress(number + 1, len(paths))
    judged = [row for row in rows if "problem" not in row]
    advice = detector.advice([row["image_score"] for row in judged])
    learnt = find_learnt(detector.artifact, [Path(row["image"]) for row in judged])
    # If nearly all are rejected, a few images that look different are not the reason.
    unlike = unlike_golden(detector, looks, share=MAX_REJECTED if advice else 0.0)
    if learnt:
        unlike.append(
            f"{len(learnt)} of {len(judged)} images were learnt by this model, {learnt[0].name} first: their scores "
            "are too low and say nothing of new parts; judge images that it has not learnt"
        )
    return rows, [*_of_the_order(detector.manifest.head, rows), *filter(None, [advice]), *unlike]


def _of_the_order(head: Head, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Warn that a model of frames in order does not judge the first images; raise SettingsError if no row is left."""
    if not head.in_order:
        return []
    if not rows:
        raise SettingsError(
            f"the model judges a motion, by {head.frames} frames in a row: give a folder of frames in order, or a "
            "video to `edgead stream`"
        )
    waits = head.frames - 1
    return [f"the images of a folder are taken for frames in order: the first {waits} of each have no verdict"]


def predict_volumes(detector: Detector, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Judge the volumes to which these slices belong; a volume with a slice that was not judged has a `problem`."""
    failed = {volume_of(Path(row["image"])): row["problem"] for row in rows if "problem" in row}
    judged = [row for row in rows if "problem" not in row and volume_of(Path(row["image"])) not in failed]
    calibration = detector.graph.calibration
    found = judge_volumes(
        [Path(row["image"]) for row in judged],
        [row["image_score"] for row in judged],
        None if calibration is None else calibration.volumes,
    )
    return [
        *({"volume": str(volume), "problem": problem} for volume, problem in failed.items() if volume is not None),
        *(one.to_dict() for one in sorted(found, key=lambda one: -one.score)),
    ]


def without_heat_maps(paths: Sequence[Path], folders: Sequence[Path], heat_maps: Path) -> list[Path]:
    """Make the folder of heat maps; return the paths without heat maps that an earlier run may have written there.

    Raises SettingsError: the folder is one of the images' folders, or cannot be made.
    """
    drawn = heat_maps.resolve()
    around = [folder.resolve() for folder in folders if drawn.is_relative_to(folder.resolve())]
    if drawn in around:
        raise SettingsError(
            f"--heat-maps {heat_maps} is where the images lie: the next run would judge the heat maps too; name a "
            "folder of their own"
        )
    try:
        heat_maps.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--heat-maps {heat_maps}: the folder cannot be made ({error.strerror})") from error
    return [path for path in paths if not path.resolve().is_relative_to(drawn)] if around else list(paths)


def write_verdicts(rows: Sequence[dict[str, Any]], path: Path, volumes: Sequence[dict[str, Any]] = ()) -> None:
    """Write the verdicts as CSV: one line for each image, also those not judged, and one for each volume.

    `score` is `edgead.types.Verdict.score`, or empty if that is None; `image_score` and `threshold` are raw scores.
    Each measure of the model has a column with its name.
    """
    lines = [{**row["measured"], **row, "regions": len(row["boxes"])} if "boxes" in row else row for row in rows]
    lines += [{**row, "image": row["volume"], "image_score": row.get("score", ""), "score": ""} for row in volumes]
    measured = dict.fromkeys(name for row in rows for name in row.get("measured", ()) if name not in CSV_COLUMNS)
    write_csv(path, (*CSV_COLUMNS, *measured), lines)


def verdict_table(rows: Sequence[dict[str, Any]], language: str, written: Sequence[str] = ()) -> Group:
    """Make a table of verdicts for a terminal: highest scores first, counts, and sentences on files `written`.

    Images are named from their common folder on. Scores are on the scale of `edgead.types.scaled_score`. Below the
    table each reject in it, and each part for review, has a sentence.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    top = common_folder([Path(row["image"]) for row in rows])
    here = Path.cwd()
    judged = sorted((row for row in rows if "problem" not in row), key=lambda row: -row["image_score"])
    failed = [row for row in rows if "problem" in row]
    shown = [*failed[:MAX_ROWS], *judged[:MAX_ROWS]]
    table = Table()
    table.add_column("image", overflow="fold", min_width=12)
    with_kinds = any(row.get("kind") for row in shown)
    for name in ("decision", "score", "limit", "regions", *["kind"] * with_kinds):
        table.add_column(name, no_wrap=True)
    for row in shown:
        name = name_in(top, Path(row["image"]))
        if "problem" in row:
            table.add_row(name, "not judged", style="bold red")
            continue
        style = {"ok": None, "review": "yellow", "reject": "red"}[row["decision"]]
        score, limit = score_texts(row["image_score"], row["threshold"], row["typical_score"], row["threshold"])
        limit = "none" if row["review_threshold"] is None else limit
        kind = [row["kind"] or ""] * with_kinds
        table.add_row(name, row["decision"], score, limit, str(len(row["boxes"])), *kind, style=style)
    place = f"images in {top.relative_to(here) if top.is_relative_to(here) else top}"
    more = [f"... and {len(judged) - MAX_ROWS} with lower scores: --csv FILE writes all"] * (len(judged) > MAX_ROWS)
    below = map(Text, [*more, *_sentences(shown, top, language), _counts(rows), *written])
    return Group(Text(place, no_wrap=True, overflow="ignore"), table, *below)


def volume_table(volumes: Sequence[dict[str, Any]]) -> Table:
    """Make a table of the verdicts of volumes for a terminal: highest score first, each with its worst slice."""
    from rich.table import Table

    top = common_folder([Path(row["volume"]) for row in volumes])
    table = Table()
    table.add_column("volume", overflow="fold", min_width=12)
    for name in ("decision", "score", "limit", "slices", "worst slice"):
        table.add_column(name, overflow="fold")
    for row in volumes:
        name = name_in(top, Path(row["volume"]))
        if "problem" in row:
            table.add_row(name, "not judged", style="bold red")
            continue
        style = {"review": "yellow", "reject": "red"}.get(row["decision"])
        limit = "none" if row["threshold"] is None else f"{row['threshold']:.4g}"
        worst = f"{row['score']:.4g}", limit, str(row["slices"]), row["worst"]
        table.add_row(name, row["decision"] or "no limit", *worst, style=style)
    return table


def _counts(rows: Sequence[dict[str, Any]]) -> str:
    """Return a sentence with the number of images of each decision."""
    found = Counter(row.get("decision", "not judged") for row in rows)
    named = [f"{found[name]} {name}" for name in (*DECISIONS, "not judged") if found[name]]
    return f"Of {len(rows)} images: {', '.join(named)}."


def _sentences(rows: Sequence[dict[str, Any]], top: Path, language: str) -> Iterator[str]:
    found = [row["p_value"] for row in rows if row.get("p_value") is not None]
    # All parts that score above every good image share it: the lowest that their number can prove.
    floor = min(found) if found and found.count(min(found)) > 1 else None
    for row in rows:
        if words := sentence({**row, "p_value": None} if row.get("p_value") == floor else row, language):
            yield f"{name_in(top, Path(row['image']))}: {words}"


def _judge(
    detector: Detector,
    judge: FileJudge,
    path: Path,
    image: np.ndarray,
    top: Path,
    heat_maps: Path | None,
    palette: Palette,
) -> dict[str, Any] | None:
    verdict = judge.predict(path, image)
    if verdict is None:
        return None
    row = {"image": str(path), **Verdict.to_dict(verdict), "other_format": verdict.other_format}
    if heat_maps is not None:
        name = name_in(top, path)
        drawn = heat_maps / drawn_name(name, verdict)
        write_image(drawn, draw_overlay(detector.visible(image), replace(verdict, palette=palette), name))
        row["heat_map"] = str(drawn)
    return row
