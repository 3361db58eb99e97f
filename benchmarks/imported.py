"""Imported models beside anomalib's own inferencer: do scores and maps stay what they were?

    python -m benchmarks imported SET

SET has MVTec layout. PatchCore, EfficientAD, Dinomaly, SuperSimpleNet and GLASS of anomalib are exported by its own
`to_onnx` and `to_openvino`, and imported by `edgead import`; both score the same images. Networks have random weights:
pretrained ones are fetched, and equality needs none. PatchCore's memory bank is learnt from a few good images. Exports
that take any size are given the image files by both; those of one size, which anomalib's inferencer does not resize to,
what edgead makes of the images. Nor does that repeat an image for PatchCore, which is exported in batches of two: here
it is given each twice. anomalib's inferencer computes in float32 here too: by itself OpenVINO takes bfloat16 where the
CPU has it.

anomalib is no dependency of edgead: `pip install anomalib`, in an environment of its own that has edgead's too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from edgead.export.foreign import OF_ANOMALIB
from edgead.export.import_model import Good, ImportSettings, import_model

from edgead.artifact.folder import Artifact
from edgead.artifact.preprocess import preprocess
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.detector import Detector
from edgead.heads.map import MapHead
from edgead.images.files import load_image

SIDE, SMALL_VIT = 256, "vit_small_patch14_reg4_dinov2"
UNTRAINED = {"pretrained": False}
LEARNT, LIMITS = 6, 5
SAMPLING_RATIO = 0.05


@dataclass(frozen=True, slots=True)
class Export:
    """A file that anomalib wrote, and whether it takes images of any size."""

    name: str
    path: Path
    any_size: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest differences over some images, and how large scores and maps are."""

    score: float
    highest_score: float
    map: float
    highest_map: float
    images: int


def main(arguments: list[str]) -> None:
    """Print a table of differences, in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks imported")
    parser.add_argument("set", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--only", default="", help="exports with this text in their name")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = options.set.resolve()
    good, tested = find_good_images(data), [image.path for image in find_test_images(data)]
    picks = np.linspace(0, len(tested) - 1, options.images).round().astype(int)
    print(f"anomalib {importlib.metadata.version('anomalib')}, torch {torch.__version__}, {options.images} images\n")
    print("| export | largest score | difference | largest value of the map | difference |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work, chdir(work):  # its inferencer keeps a cache where it is called
        limits = _linked(good[LEARNT : LEARNT + LIMITS], Path(work) / "good")
        for export in make_exports(Path(work), [load_image(path) for path in good[:LEARNT]], options.only):
            artifact, _ = import_model(export.path, Path(work) / "model", Good(limits), ImportSettings())
            found = compare(export, artifact, [tested[pick] for pick in picks])
            print(
                f"| {export.name} | {found.highest_score:.4g} | {found.score:.1e} | {found.highest_map:.4g} | "
                f"{found.map:.1e} |",
                flush=True,
            )


def make_exports(work: Path, images: Sequence[np.ndarray], only: str = "") -> Iterator[Export]:
    """Have anomalib export its models; `images`, uint8 BGR, are learnt by PatchCore, and give scores their range."""
    import timm

    batch = torch.stack([_tensor(image) for image in images])
    one_size = {"input_size": (SIDE, SIDE)}
    alone = {"dynamic_axes": {"input": {2: "height", 3: "width"}}}
    exports: list[tuple[str, Callable[[torch.Tensor], Any], str, dict[str, Any]]] = [
        ("PatchCore, ONNX, any size", _patchcore, "to_onnx", {}),
        ("PatchCore, ONNX, any size, batch of one", _patchcore, "to_onnx", alone),
        ("PatchCore, OpenVINO IR, 256 x 256", _patchcore, "to_openvino", one_size),
        ("EfficientAD, ONNX, any size", partial(_random, "EfficientAd"), "to_onnx", {}),
        ("EfficientAD, OpenVINO IR, any size", partial(_random, "EfficientAd"), "to_openvino", {}),
        ("EfficientAD with normalised scores, ONNX, any size", _normalised, "to_onnx", {}),
        ("Dinomaly, ONNX, any size", partial(_random, "Dinomaly", encoder_name=SMALL_VIT), "to_onnx", {}),
        ("Dinomaly, OpenVINO IR, any size", partial(_random, "Dinomaly", encoder_name=SMALL_VIT), "to_openvino", {}),
        ("SuperSimpleNet, ONNX, any size", partial(_random, "Supersimplenet"), "to_onnx", {}),
        ("SuperSimpleNet, OpenVINO IR, any size", partial(_random, "Supersimplenet"), "to_openvino", {}),
        ("GLASS, ONNX, any size", partial(_random, "Glass", pre_trained=False), "to_onnx", {}),
        ("GLASS, OpenVINO IR, any size", partial(_random, "Glass", pre_trained=False), "to_openvino", {}),
    ]
    create = timm.create_model  # which fetches the weights of backbones, if it may
    for number, (name, build, write, options) in enumerate(exports):
        if only in name:
            with mock.patch.object(timm, "create_model", lambda *given, **named: create(*given, **named | UNTRAINED)):
                torch.manual_seed(0)
                model = build(batch)
            yield Export(name, getattr(model, write)(work / str(number), **options), options is not one_size)


def _random(name: str, batch: torch.Tensor, **options: Any) -> Any:
    """Build a model of anomalib by the name of its class, with random weights."""
    import anomalib.models

    return getattr(anomalib.models, name)(**options)


def _patchcore(batch: torch.Tensor) -> Any:
    """Build a PatchCore that has learnt images."""
    patchcore = _random("Patchcore", batch, backbone="resnet18", pre_trained=False)
    with torch.no_grad():
        patchcore.model.train()(patchcore.pre_processor(batch))
        patchcore.model.subsample_embedding(SAMPLING_RATIO)
    return patchcore


def _normalised(batch: torch.Tensor) -> Any:
    """Build an EfficientAD whose scores are normalised."""
    model = _random("EfficientAd", batch)
    _normalise(model, batch)
    return model


def _normalise(model: Any, batch: torch.Tensor) -> None:
    """Give anomalib's post-processing a range as its validation would: twice that of the images, to cut nothing off."""
    with torch.no_grad():
        raw = model.eval()(batch)
    of = model.post_processor
    for name, values in (("image", raw.pred_score), ("pixel", raw.anomaly_map)):
        getattr(of, f"{name}_min").fill_(0.0)
        getattr(of, f"{name}_max").fill_(2 * float(values.max()))
        getattr(of, f"_{name}_threshold").fill_(float(values.max()))


def compare(export: Export, artifact: Artifact, paths: Sequence[Path]) -> Difference:
    """Score images by the imported model and by anomalib's inferencer."""
    import openvino
    from anomalib.data.utils import read_image
    from anomalib.deploy import OpenVINOInferencer

    class Inferencer(OpenVINOInferencer):
        """anomalib's, which takes any of an output's names, and fails where the one that it takes is not its own."""

        @staticmethod
        def post_process(predictions: Any) -> dict[str, Any]:
            names = [next(name for name in named if name in OF_ANOMALIB) for named in predictions.names()]
            return dict(zip(names, predictions.to_tuple(), strict=True))

    side = openvino.Core().read_model(export.path).inputs[0].partial_shape[0]
    batch = side.get_length() if side.is_static else 1
    theirs = Inferencer(export.path, device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
    spec, head = artifact.manifest.preprocessing, artifact.manifest.head
    assert isinstance(head, MapHead)
    scores, maps = [], []
    with Detector(artifact) as detector:
        for path in paths:
            image = load_image(path)
            found = detector.measure(image)
            given = read_image(path) if export.any_size else preprocess(image, spec) / 255
            expected = theirs.predict(np.repeat(given.astype(np.float32)[None], batch, axis=0))
            score, grid = float(np.ravel(expected.pred_score)[0]), np.asarray(expected.anomaly_map)
            grid = grid.reshape(-1, *grid.shape[-2:])[0].astype(np.float64)
            # At the size of the image, as edgead shows it.
            _, shown = head.reference({"patch_scores": grid, "image_score": np.array(score)}, {}, spec.image_size)
            scores.append((found.image_score, score))
            maps.append((np.abs(found.anomaly_map - shown).max(), shown.max()))
    of_scores, of_maps = np.array(scores), np.array(maps)
    return Difference(
        float(np.abs(of_scores[:, 0] - of_scores[:, 1]).max()),
        float(of_scores[:, 1].max()),
        float(of_maps[:, 0].max()),
        float(of_maps[:, 1].max()),
        len(paths),
    )


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).float() / 255


def _linked(paths: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for path in paths:
        os.symlink(path, folder / path.name)
    return folder
