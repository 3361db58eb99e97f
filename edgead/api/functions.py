"""Functions that do a whole task in one call, such as to train a model or to measure one."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal

from edgead.api.errors import P, R, names_parameters
from edgead.api.model import Model
from edgead.api.options import TrainOptions, check_options
from edgead.api.paths import learnt_images
from edgead.artifact.folder import Artifact, check_destination
from edgead.calibration.plan import GROUPS, IMAGES, OFFERED_RATES
from edgead.dataset.folders import StageProgress
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.inputs import Colour, OneImage, PathLike
from edgead.process.stage_bars import shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_DEVICES = ("auto", "cpu", "cuda")


@names_parameters
def train(
    good: PathLike | Iterable[OneImage],
    model: PathLike,
    *,
    detector: str = "patchcore",
    preset: str = "default",
    settings: Mapping[str, Any] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    weights: PathLike | None = None,
    precision: Literal["auto", "fp32", "int8"] = "auto",
    colour: Colour | None = None,
    progress: StageProgress | bool = True,
    log_to: PathLike | Sequence[PathLike] = (),
    **options: Unpack[TrainOptions],
) -> Model:
    """Learn from good images, write a finished, calibrated model, and open it.

    Detectors that train a network, and other backbones than those of the presets, need `pip install 'edgead[train]'`.
    If a training was stopped, call this again: it continues.

    Parameters
    ----------
    good : path, or iterable of what `Detector.predict` takes
        Folder of good images; or a data set in MVTec layout, whose `train/good` is learnt, or in another layout that
        `edgead data show` knows, such as a table; or a pattern of files, with `*` or `?`. Or the images themselves:
        paths, arrays, PIL images, tensors.
    model : path
        Folder of the model to write.
    detector : str
        The method: "patchcore", "mvg", "simplenet", "efficient_ad", "draem", "golden", or one
        that another package adds, as `edgead presets` lists them.
    preset : str
        Settings of the method: "default", another of its presets, or "auto" for the one that fits this machine.
    settings : mapping, optional
        Other settings of the method, as `--set` of `edgead train` takes them, such as `{"num_neighbors": 3}`.
    device : {"auto", "cpu", "cuda"}
        Device to train on.
    weights : path, optional
        Weights of the backbone instead of the packaged ones; for detectors that work from words, a file of CLIP.
    precision : {"auto", "fp32", "int8"}
        Precision of the graph: "auto" is int8 if this CPU gains by it. patchcore learns with a graph in this precision;
        other detectors are converted later, if that moves scores of good images by at most 1 % on average.
    colour : {"bgr", "rgb"}, optional
        Order of the channels of arrays and tensors, see `Detector.predict`.
    progress : callable or bool
        Called with (stage, done, total); an exception from it ends the training. True shows bars on a terminal.
    log_to : path or str, or sequence of them, optional
        Log for settings, stages, losses and figures: a file for JSON lines; "tensorboard:FOLDER" or
        "mlflow:URI" of the package `edgead-tracking`.
    **options
        Any of the other parameters below.

    Returns
    -------
    Model

    Other Parameters
    ----------------
    normal_dir : str, optional
        Folder of good images below `good`; "." is `good` itself. With wildcards, such as "*" or "*/train/good", all
        matching folders, each of another product. By default train/good, or `good` without a folder train.
    paths : sequence of Path, optional
        The images, which lie in `good` or below it; by default all there.
    roi : (int, int, int, int), optional
        x, y, width and height of the region of interest, pixels; by default the whole image.
    ignore : sequence of str, Path or ndarray
        Places that never count, see `edgead.dataset.places.read_ignored`; by default none. All images then have one
        size.
    align : str or Path, optional
        Golden image that parts are aligned to, by shift and small rotation; by default none. All images then have one
        size.
    tiles : "auto", int or str, optional
        Size of tiles to cut images or their region into, or "SIZE,OVERLAP", in pixels of the images; by default none.
    false_reject_rate : float, optional
        Share of good parts that may be rejected; by default 0.05, with few images 0.1 or 0.2.
    review_rate : float, optional
        Share of good parts that may be rejected or sent to review; by default as `edgead.calibration.plan.choose_rates`
        chooses it.
    guarantee : {"cross", "split"}, optional
        How thresholds come from good images: "cross" learns all and scores each as if its fold had not been learnt;
        "split" holds some out, which a proof of the rate needs. By default "cross" if the detector can leave images out
        without another training, or with `folds`; else "split".
    folds : int
        Number of additional trainings, each without a part of the images, for "cross" with a detector that needs them;
        by default 0.
    group : str
        Which images belong together and are held out together, see `edgead.dataset.groups.group_images`; by default
        "auto", with several products "folders".
    defects : sequence of Path
        Images of known defects, never learnt: they show how many defects a limit finds; by default none.
    hold_out : float
        Share of the groups of good images that is kept for `Model.evaluate` and not learnt, for data without a test
        part; by default 0.0.
    skip_bad : bool
        Leave out images that cannot be read; by default False, which stops at them.
    input : {"rgb", "grey16", "relief", "rgb_relief"}
        Type of the images: 8-bit images, by default "rgb"; grey values of 16 bits or floats; heights; or colours with
        heights.
    mm_per_count : float, optional
        Height of one count of a height map, mm; needed for heights, by default none.
    mm_per_pixel : float, optional
        Size of a pixel at the distance of the part, mm, for sizes of defects in mm in verdicts; by default none.
    backbone : str
        Backbone of the method; by default the preset's.
    layers : sequence of str
        Layers of the backbone, such as "stride16"; by default the preset's.
    image_size : int, or (int, int)
        Size of the network's input, or its height and width, pixels; by default the preset's.
    memory_bank_size : int
        Number of patches in the memory bank; by default the preset's.
    seed : int
        Seed of the random numbers; by default 0.

    Raises
    ------
    EdgeadError
        torch is not installed, too few images for the rate, images that cannot be read, an unknown preset or setting:
        nothing is written then. Names and paths are checked before torch is loaded, and settings of the method before
        an image is read.
    """
    from edgead.adapt.methods.registry import check_names
    from edgead.adapt.training import AUTO
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages
    from edgead.adapt.training.log import training_log
    from edgead.adapt.training.preset import check_settings, preset_settings

    check_options(options, inspect.signature(train).parameters)
    for name, value, known in (("device", device, _DEVICES), ("colour", colour, (None, "bgr", "rgb"))):
        if value not in known:
            raise SettingsError(f"{name} {value!r}: choose one of {', '.join(each for each in known if each)}")
    names = {field.name for field in fields(GoodImages)}
    of_images = {name: value for name, value in options.items() if name in names}
    chosen = {name: value for name, value in options.items() if name not in names} | dict(settings or {})
    logs = [log_to] if isinstance(log_to, (str, os.PathLike)) else log_to
    destination = named_path(model)
    check_destination(destination)
    check_names(detector, None if preset == AUTO else preset, chosen)
    with tempfile.TemporaryDirectory() as folder, shown(progress) as report:
        data, which = learnt_images(good, colour, Path(folder) / "images")
        images = GoodImages(data, **{**which, **of_images})
        images.find()
        check_settings(detector, preset, chosen)
        with training_log([os.fspath(one) for one in logs], report) as log:
            of_preset, _ = preset_settings(images, detector, preset, chosen)
            artifact, skipped = train_from_folder(
                images,
                destination,
                {**of_preset, **chosen},
                detector=detector,
                weights=None if weights is None else named_path(weights),
                device=device,
                precision=precision,
                progress=log,
            )
    for problem in skipped:
        logger.warning("left out: %s", problem)
    training = artifact.manifest.training
    few = [] if images.false_reject_rate is not None else _few_images(artifact)
    for warning in [*few, *training.get("odd_images", ()), *([training["shrunk"]] if "shrunk" in training else ())]:
        logger.warning("%s", warning)
    return Model(artifact)


def _few_images(artifact: Artifact) -> list[str]:
    """Return a list with a warning if the images were so few that the false-reject rate is above the usual 5 %."""
    limits = artifact.graph().calibration
    if limits is None or not limits.scores or limits.false_reject_rate <= OFFERED_RATES[0]:
        return []
    count, what = (len(set(limits.groups)), GROUPS) if limits.groups else (len(limits.scores), IMAGES)
    return [
        f"limits from {count} {what} allow only a false-reject rate of {100 * limits.false_reject_rate:.3g} %: with "
        f"more images it is {100 * OFFERED_RATES[0]:.3g} %"
    ]


def _opened(method: Callable[Concatenate[Model, P], R]) -> Callable[Concatenate[PathLike, P], R]:
    """Turn a method of Model into a function that opens the model of a path, calls the method and closes it."""

    @functools.wraps(method)
    def function(model: PathLike, *args: P.args, **kwargs: P.kwargs) -> R:
        with load(model) as opened:
            return method(opened, *args, **kwargs)

    first, *others = inspect.signature(method).parameters.values()
    function.__signature__ = inspect.signature(method).replace(parameters=[first.replace(name="model"), *others])  # type: ignore[attr-defined]
    return function


load = Model.load
evaluate = _opened(Model.evaluate)
calibrate = _opened(Model.calibrate)
teach = _opened(Model.teach)
