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

from edgead.adapt.highest import look_at_highest
from edgead.adapt.training.options import EXPLAINED, TrainOptions
from edgead.api.errors import P, R, in_python, names_parameters
from edgead.api.model import Model
from edgead.api.options import check_options
from edgead.api.paths import image_paths, learnt_images
from edgead.artifact.folder import Artifact, check_destination
from edgead.calibration.guarantee import guarantee_of
from edgead.calibration.operating_point import defects_found
from edgead.calibration.plan import OFFERED_RATES
from edgead.dataset.folders import StageProgress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.inputs import Colour, OneImage, PathLike
from edgead.process.stage_bars import shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)


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
        Any of the other parameters, see `edgead.TrainOptions`.

    Returns
    -------
    Model

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

    check_options(train, options, TrainOptions, "a setting of the detector is given in settings={...}")
    for name, value, known in (("device", device, ("auto", "cpu", "cuda")), ("colour", colour, (None, "bgr", "rgb"))):
        if value not in known:
            raise SettingsError(f"{name} {value!r}: choose one of {', '.join(each for each in known if each)}")
    if weights is not None and not named_path(weights).is_file():
        raise SettingsError(f"weights {os.fspath(weights)}: no such file")
    names = {field.name for field in fields(GoodImages)}
    of_images = {name: value for name, value in options.items() if name in names}
    of_images["defects"] = image_paths(options.get("defects", ()))
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
                found_two=lambda two: logger.warning("%s", two.write_beside(destination)),
            )
    training, left_out = artifact.manifest.training, [f"left out: {problem}" for problem in skipped]
    few = [] if images.false_reject_rate is not None else _few_images(artifact)
    shrunk = [training["shrunk"]] if "shrunk" in training else []
    odd, counted = training.get("odd_images", ()), _count_defects(artifact, images.defects)
    for warning in [*left_out, *few, *odd, *look_at_highest(artifact), *shrunk, *counted]:
        logger.warning("%s", warning)
    return Model(artifact)


if EXPLAINED:
    train.__doc__ = f"{inspect.getdoc(train)}\n\nOther Parameters\n----------------\n{in_python(EXPLAINED)}"


def _count_defects(artifact: Artifact, defects: Sequence[Path]) -> list[str]:
    """Return a sentence on how many defects the limit of each rate finds; none without defects or limits."""
    limits = artifact.graph().calibration
    if limits is None or not limits.scores or not defects:
        return []
    with Detector(artifact, runtime="onnxruntime") as detector:
        scores = detector.image_scores(defects)
    return [defects_found(limits.scores, limits.groups, scores, limits.false_reject_rate)]


def _few_images(artifact: Artifact) -> list[str]:
    """Say what the limit holds, and what its groups are, if the false-reject rate is above the usual 5 %."""
    limits = artifact.graph().calibration
    if limits is None or not limits.scores or limits.false_reject_rate <= OFFERED_RATES[0]:
        return []
    account = f" ({artifact.manifest.training['groups']['account']})" if limits.groups else ""
    return [in_python(" ".join(guarantee_of(limits))) + account]


def _opened(method: Callable[Concatenate[Model, P], R]) -> Callable[Concatenate[PathLike | Model, P], R]:
    """Turn a method of Model into a function that takes a model, or the path of one to open, to call and to close."""

    @functools.wraps(method)
    def function(model: PathLike | Model, *args: P.args, **kwargs: P.kwargs) -> R:
        if isinstance(model, Model):
            return method(model, *args, **kwargs)
        with load(model) as opened:
            return method(opened, *args, **kwargs)

    first, *others = inspect.signature(method).parameters.values()
    function.__signature__ = inspect.signature(method).replace(parameters=[first.replace(name="model"), *others])  # type: ignore[attr-defined]
    return function


load = Model.load
evaluate = _opened(Model.evaluate)
calibrate = _opened(Model.calibrate)
teach = _opened(Model.teach)
