"""The images that the packaged teachers were distilled from: tiles of freely licensed Debian packages.

    mkdir packages && cd packages && apt-get download NAMES && for f in *.deb; do dpkg -x $f ${f%%_*}; done
    python -m benchmarks teacher_images packages -o tiles

NAMES are the keys of PACKAGES. Writes tiles of 512 x 512 pixels and `sources.txt`, which names every image used, its
package and its licence.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import cv2
import numpy as np

from edgead.images.files import IMAGE_SUFFIXES, ImageError, load_image, write_image

TILE_PX = 512
PHOTOGRAPHS = True
TEXTURES = False
# Licence as its debian/copyright has it, and what the package holds.
PACKAGES: dict[str, tuple[str, bool]] = {
    "budgie-backgrounds": ("CC0-1.0", PHOTOGRAPHS),
    "lomiri-wallpapers-16.04": ("CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0 or CC0-1.0, by file", PHOTOGRAPHS),
    "lomiri-wallpapers-20.04": ("CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0 or CC0-1.0, by file", PHOTOGRAPHS),
    "mate-backgrounds": ("GPL-2+ or CC-BY-SA-4.0, by file", PHOTOGRAPHS),
    "plasma-workspace-wallpapers": ("GPL-2+", PHOTOGRAPHS),
    "ukui-wallpapers": ("CC-BY-SA-3.0", PHOTOGRAPHS),
    "visp-images-data": ("GPL-2", TEXTURES),
    "colobot-common-textures": ("GPL-3+", TEXTURES),
    "nexuiz-textures": ("GPL-2+", TEXTURES),
    "openarena-081-textures": ("GPL-2+", TEXTURES),
    "ufoai-textures": ("GPL-2+, CC-BY-3.0, CC-BY-SA-3.0, public domain, by file", TEXTURES),
}
TILES_A_PHOTOGRAPH = 12
IMAGES_A_PACKAGE = 400
IMAGES_A_FOLDER = 12  # sequences of one camera and variants of one texture lie together
# Normal maps, gloss maps and the like are no images; screenshots show the wallpaper beside them.
NO_IMAGE = ("_nm.", "_norm", "_bump", "_gloss", "_glow", "_sm.", "_gm.", "_rm.", "screenshot", "logo", "lightmap")


def main(arguments: list[str]) -> None:
    """Cut tiles and write the list of sources."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks teacher_images", description=__doc__)
    parser.add_argument("packages", type=Path, help="folder with one unpacked package a folder")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    lines = []
    for name, (licence, photographs) in PACKAGES.items():
        count = 0
        folder = options.packages / name
        for archive in sorted(folder.rglob("*.pk3")):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(archive.with_suffix(""))
        for path in _choose(folder, rng):
            tiles = _cut(path, photographs, rng)
            for number, tile in enumerate(tiles):
                write_image(options.output / name / f"{len(lines):05d}_{number:02d}.jpg", tile)
            if tiles:
                lines.append(f"{name}\t{licence}\t{path.relative_to(folder)}\t{len(tiles)}")
                count += len(tiles)
        print(f"{name}: {count} tiles", flush=True)
    header = "package\tlicence\tfile\ttiles\n"
    (options.output / "sources.txt").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


def _choose(folder: Path, rng: np.random.Generator) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    # Other resolutions of a wallpaper are links to one file.
    found = [path for path in found if path.is_file() and not path.is_symlink()]
    found = [path for path in found if not any(part in str(path).lower() for part in NO_IMAGE)]
    by_folder: dict[Path, list[Path]] = {}
    for path in rng.permutation(np.array(found, dtype=object)):
        by_folder.setdefault(path.parent, []).append(path)
    kept = [path for paths in by_folder.values() for path in paths[:IMAGES_A_FOLDER]]
    return sorted(rng.permutation(np.array(kept, dtype=object))[:IMAGES_A_PACKAGE])


def _cut(path: Path, photograph: bool, rng: np.random.Generator) -> list[np.ndarray]:
    """Tiles of one image: of a photograph at full and half resolution and as a whole, of a texture one."""
    try:
        image = load_image(path)
    except ImageError:
        return []  # a colour map or an icon format that OpenCV cannot read
    short = min(image.shape[:2])
    if short < 200:
        return []
    sides = [short, *([TILE_PX * 2, TILE_PX] if photograph and short > TILE_PX * 2 else [])]
    places = [(side, y, x) for side in sides for y, x in _grid(image.shape[:2], side)]
    wanted = TILES_A_PHOTOGRAPH if photograph else 1
    chosen = rng.permutation(len(places))[:wanted]
    tiles = []
    for side, y, x in (places[i] for i in sorted(chosen)):
        tile = image[y : y + side, x : x + side]
        rule = cv2.INTER_AREA if side > TILE_PX else cv2.INTER_LINEAR
        tile = cv2.resize(tile, (TILE_PX, TILE_PX), interpolation=rule)
        if tile.std(axis=(0, 1)).max() >= 8:  # a plain area teaches nothing
            tiles.append(tile)
    return tiles


def _grid(shape: tuple[int, ...], side: int) -> list[tuple[int, int]]:
    return [(y, x) for y in range(0, shape[0] - side + 1, side) for x in range(0, shape[1] - side + 1, side)]
