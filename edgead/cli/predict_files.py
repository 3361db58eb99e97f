"""Judge image files one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.images.files import load_image, write_image
from edgead.images.overlay import draw_overlay

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.detector import Detector


def predict_images(
    detector: Detector, paths: Sequence[Path], heat_maps: Path | None = None, *, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Judge images and, with `heat_maps`, write an image of each there.

    Returns
    -------
    list of dict
        `image`, `image_score`, `threshold`, `decision`, `boxes`, and `heat_map` when one was written.
    """
    rows = []
    for number, path in enumerate(paths):
        image = load_image(path)
        try:
            verdict = detector.predict(image)
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from error
        row = {
            "image": str(path),
            "image_score": verdict.image_score,
            "threshold": verdict.threshold,
            "decision": verdict.decision,
            "boxes": [asdict(box) for box in verdict.boxes],
        }
        if heat_maps is not None:
            # The number keeps images of one name from different folders apart.
            drawn = heat_maps / f"{number:04d}_{path.stem}_{verdict.decision}.jpg"
            write_image(drawn, draw_overlay(image, verdict, path.name))
            row["heat_map"] = str(drawn)
        rows.append(row)
        if progress:
            progress(number + 1, len(paths))
    return rows


def verdict_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Lay verdicts out for a terminal."""
    from rich.table import Table

    table = Table("image", "decision", "score", "threshold", "regions")
    for row in rows:
        style = {"ok": None, "review": "yellow", "reject": "red"}[row["decision"]]
        score, threshold = f"{row['image_score']:.4g}", f"{row['threshold']:.4g}"
        table.add_row(row["image"], row["decision"], score, threshold, str(len(row["boxes"])), style=style)
    return table
