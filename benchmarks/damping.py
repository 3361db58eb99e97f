"""Damping by evidence on the panel: what ten trainings that draw other scars and other banks choose.

`python -m benchmarks damping PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK` prints a row for each set: how many of the
trainings leave lengths undamped, and by how much, and with what error, scars are found better so. What either choice
gives on real defects says `panel --presets damped:damp_length=true,plain:damp_length=false`.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.panel import read_names
from benchmarks.panel_sets import PanelSet, add_panel_arguments, find_sets
from edgead.adapt.methods.method import AUTO
from edgead.adapt.methods.patchcore import PatchCore
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.training.preset import preset_settings
from edgead.dataset.images import Images
from edgead.images.files import load_image
from edgead.images.likeness import look_of

DRAWS = 10


def main(arguments: list[str]) -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks damping", description=__doc__)
    add_panel_arguments(parser, work="folder of data")
    options = parser.parse_args(arguments)
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=read_names(options.sets)):
        print(f"{data.name}: {measure(data)}", flush=True)


def measure(data: PanelSet) -> str:
    """Train on a set several times; gives its row."""
    good = GoodImages(data.folder, group=data.group)
    settings, _ = preset_settings(good, PatchCore.name, "default")
    paths, found = good.find(), []
    looks = [look_of(load_image(path)) for path in paths]
    for draw in range(DRAWS):
        method = good.build(PatchCore, {**settings, "seed": draw}, None)
        method.choose_precision(AUTO, len(paths), cross_validates=False)
        spec = method.prepared(good.prepare(method, paths, looks)[0])
        split = good.split(paths, draw, leaves_out=True)
        fold_of = split.folds(draw)
        folds = [fold_of[path] for path in split.training]
        method.fit(Images(split.training, spec), groups=split.groups.of(split.training), folds=folds)
        if method.damping is None:
            return "too few images to choose"
        found.append(method.damping)
    plain = sum(not one.damps for one in found)
    difference, error = np.mean([(one.plain - one.damped, one.error) for one in found], axis=0)
    return f"{plain} of {DRAWS} plain; scars found {difference:+.4f} better without damping, error {error:.4f}"
