"""The data sets of the panel: folders in MVTec layout, magnetic tiles laid out by tile, and the built-in line."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.dataset.groups import AUTO
from edgead.synthetic import write_dataset

TILES, LINE = "tiles", "line"
LABELS = {TILES: "tiles by tile", LINE: "the built-in line"}
# A setting is judged by its mean and its worst over these; others stand beside them. The line is drawn by a program,
# and ped2 holds events in a scene instead of defects on a part.
JUDGED = ("bottle", "brick", "cookie", "deeppcb", "kolektor", TILES)
LAYOUT_SCRIPT, GROUPS_FILE = "lay_by_tile.py", "groups.csv"
LINE_SEED = 0


@dataclass(frozen=True, slots=True)
class PanelSet:
    """One data set in MVTec layout; `group` says what belongs together, see `edgead.dataset.groups.group_images`."""

    name: str
    folder: Path
    group: str = AUTO

    def fingerprint(self) -> str:
        """Identify the images by their names and sizes: a set that was changed is measured again."""
        files = sorted(path for path in self.folder.glob("*/*/*") if path.is_file())
        listing = "".join(f"{path.relative_to(self.folder)}\0{path.stat().st_size}\n" for path in files)
        return hashlib.sha256(listing.encode()).hexdigest()[:16]

    def group_fingerprint(self) -> str:
        """Identify the rule: a file by what it holds, others by themselves."""
        if not self.group.lower().endswith(".csv"):
            return self.group
        return hashlib.sha256(Path(self.group).read_bytes()).hexdigest()[:16]


def add_panel_arguments(parser: argparse.ArgumentParser, *, work: str, sets: bool = True) -> None:
    """Add the panel's folder, the folder for work with its help, the tiles, and with `sets` the names of sets."""
    parser.add_argument("panel", type=Path, help="folder of data sets in MVTec layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help=work)
    parser.add_argument("--tiles", type=Path, help="folder of the magnetic tiles, with lay_by_tile.py")
    if sets:
        parser.add_argument("--sets", default="", metavar="NAME,...", help="only these; tiles and line are two of them")


def find_sets(panel: Path, work: Path, *, tiles: Path | None = None, only: Sequence[str] = ()) -> list[PanelSet]:
    """List the sets that are asked for, by default all, and lay out those that are made here.

    Parameters
    ----------
    panel : Path
        Each of its folders with a train/good is a set, whose groups of images are found from the images.
    work : Path
        Gets the tiles and the built-in line, below `data`.
    tiles : Path, optional
        The magnetic tiles with their own `lay_by_tile.py` and `groups.csv`.
    only : sequence of str
        Names of the sets to take.
    """
    if not panel.is_dir():
        raise SystemExit(f"{panel}: no such folder; name the folder that holds the panel's data sets")
    folders = {path.parent.parent.name: path.parent.parent for path in sorted(panel.glob("*/train/good"))}
    known = [*folders, *([TILES] if tiles else []), LINE]
    if unknown := [name for name in only if name not in known]:
        without = "" if tiles else f" ({TILES} needs --tiles)"
        raise SystemExit(f"no set {', '.join(unknown)} in {panel}: choose from {', '.join(known)}{without}")
    chosen = [name for name in known if name in only or not only]
    found = []
    for name in chosen:
        group = AUTO
        if name in folders:
            folder = folders[name]
        elif name == TILES and tiles is not None:
            folder, group = lay_out_tiles(tiles, work / "data" / TILES), str(tiles / GROUPS_FILE)
        else:
            folder = write_dataset(work / "data" / LINE, seed=LINE_SEED)
        found.append(PanelSet(name, folder, group))
    return found


def lay_out_tiles(tiles: Path, folder: Path) -> Path:
    """Lay the magnetic tiles out by the data set's own script; a layout that is complete is left as it is."""
    script = tiles / LAYOUT_SCRIPT
    if folder.is_dir():
        return folder
    if not script.is_file():
        raise SystemExit(f"{tiles} holds no {LAYOUT_SCRIPT}: name the folder of the magnetic tiles")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".layout-", dir=folder.parent) as draft:
        made = Path(draft) / folder.name
        command = [sys.executable, str(script.resolve()), str(made.resolve())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{script} failed: {done.stderr.strip() or f'exit status {done.returncode}'}")
        made.rename(folder)
    return folder
