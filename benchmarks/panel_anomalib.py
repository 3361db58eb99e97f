"""The opponent on the panel: anomalib's PatchCore, its own code and image score, with a backbone that is at hand.

anomalib's default backbone is a WideResNet50 with ImageNet weights that are downloaded. Where they cannot be, its
feature extractor is replaced by EfficientNet-Lite2, the one of edgead's default: the comparison is of what is done
with features.
Its coreset is greedy k-centre on a random projection; edgead's kernel picks it, from the same first row, for anomalib's
loop would take hours on a CPU. So the time that it trains for is not measured. Its default is 256 x 256 pixels without
a crop (2.7); the paper crops the middle 224 of them.

anomalib is no dependency of edgead: `pip install anomalib`, in an environment of its own that has edgead's too.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest import mock

import cv2
import numpy as np

from benchmarks.panel_measures import TIMED_FRAMES, fastest, measure_outcomes, spread, time_frames
from benchmarks.panel_results import image_rows
from benchmarks.panel_sets import PanelSet
from edgead.dataset.folders import LabelledImage, find_good_images, find_test_images, resize_map
from edgead.images.files import load_image
from edgead.kernels import greedy_coreset, threads
from edgead.profiling.contention import OtherLoad, describe_use
from edgead.report.evaluate import Outcome, at_measured_size

if TYPE_CHECKING:
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

BACKBONE, LAYERS = "efficientnet_lite2", ("stride8", "stride16")
CORESET_SAMPLING_RATIO, NUM_NEIGHBORS = 0.1, 9  # the defaults of anomalib.models.Patchcore
SEED = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """Sides in pixels that images are resized to and, from their middle, cropped to; `crop` is `side` without one."""

    name: str
    side: int
    crop: int


VARIANTS = (
    Variant("anomalib PatchCore, same backbone and image size", 320, 320),
    Variant("anomalib PatchCore, its defaults but the backbone", 256, 256),
    Variant("anomalib PatchCore, same backbone, 256 cropped to 224", 256, 224),
)


def check_installed() -> None:
    """Exit with what to do unless anomalib is installed."""
    if find_spec("anomalib") is None:
        raise SystemExit(
            "anomalib is not installed here: `pip install anomalib` in an environment of its own, where edgead and its "
            "training packages can be imported too, and run the panel there with --anomalib"
        )


def settings_of(variant: Variant) -> dict[str, Any]:
    """What makes this opponent, for the key of its results."""
    return {
        "version": importlib.metadata.version("anomalib"),
        "backbone": BACKBONE,
        "layers": list(LAYERS),
        "image_size": [variant.side, variant.side],
        "center_crop_size": [variant.crop, variant.crop],
        "coreset_sampling_ratio": CORESET_SAMPLING_RATIO,
        "num_neighbors": NUM_NEIGHBORS,
        "seed": SEED,
    }


def measure(data: PanelSet, variant: Variant) -> dict[str, Any]:
    """Train on every good image, judge the test set and time frames in torch, with edgead's number of threads."""
    import torch

    torch.set_num_threads(threads())
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # its random projection draws from both
    model = build_model(variant)
    good = [load_image(path) for path in find_good_images(data.folder)]
    fit(model, good, variant)
    tests = find_test_images(data.folder)
    outcomes = [_judge(model, test, variant) for test in tests]
    load = OtherLoad()
    frames = [load_image(test.path) for test in spread(tests, TIMED_FRAMES)]
    times = {"torch": time_frames(lambda frame: predict(model, frame, variant), frames)}
    return {
        "opponent": True,
        "measures": {**measure_outcomes(outcomes, None), "train_s": None, **fastest(times)},
        "images": [{**row, "decision": None} for row in image_rows(outcomes, data)],
        "frame_times": times,
        "other_load": describe_use(load.use()).removeprefix("; "),
        "training_images": len(good),
        "memory_bank_rows": len(model.memory_bank),
        "remark": "trained on all good images; no threshold, for its own is fitted to labelled defects",
    }


def build_model(variant: Variant) -> PatchcoreModel:
    """anomalib's torch model with its feature extractor replaced by the backbone of edgead."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are of other methods that it imports
        from anomalib.models.image.patchcore import torch_model

    from edgead.workstation.backbones.pretrained import build_backbone

    backbone = build_backbone(BACKBONE, LAYERS, image_size=(variant.crop, variant.crop))

    class Features(torch.nn.Module):
        def __init__(self, **_: object):
            super().__init__()
            self.backbone = backbone

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return dict(zip(self.backbone.layers, self.backbone(image), strict=True))

    # While it is built alone: its own extractor would look for weights on the network.
    with mock.patch.object(torch_model, "TimmFeatureExtractor", Features):
        return torch_model.PatchcoreModel(layers=LAYERS, backbone=BACKBONE, num_neighbors=NUM_NEIGHBORS)


def fit(model: PatchcoreModel, good: Sequence[np.ndarray], variant: Variant) -> None:
    """Collect the embeddings of good images as anomalib's training step does, and choose its memory bank."""
    model.train()
    model.feature_extractor.eval()  # frozen, as Lightning leaves it
    for image in good:
        model(_tensor(image, variant))
    with _fast_coreset():
        model.subsample_embedding(CORESET_SAMPLING_RATIO)
    model.eval()


def predict(model: PatchcoreModel, image: np.ndarray, variant: Variant) -> tuple[float, np.ndarray]:
    """Image score and anomaly map of one image."""
    import torch

    with torch.inference_mode():
        found = model(_tensor(image, variant))
    return float(found.pred_score), found.anomaly_map[0, 0].numpy()


def _judge(model: PatchcoreModel, test: LabelledImage, variant: Variant) -> Outcome:
    image = load_image(test.path)
    score, anomaly_map = predict(model, image, variant)
    mask = test.load_mask(image.shape[:2])
    # What was cropped away was not looked at and counts for no pixel measure, as in its own test.
    top, left = (round(side * (variant.side - variant.crop) / 2 / variant.side) for side in image.shape[:2])
    height, width = image.shape[0] - 2 * top, image.shape[1] - 2 * left
    anomaly_map = resize_map(anomaly_map, (height, width))
    mask = None if mask is None else mask[top : top + height, left : left + width]
    return Outcome(test, score, "ok", *at_measured_size(anomaly_map, mask))


def _tensor(image: np.ndarray, variant: Variant) -> torch.Tensor:
    """Resize and crop by the transform of anomalib's pre-processor; the backbone normalises, from 0..255."""
    import torch
    from torchvision.transforms.v2.functional import center_crop, resize

    rgb = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)[None].float()
    return center_crop(resize(rgb, [variant.side, variant.side], antialias=True), [variant.crop, variant.crop])


@contextmanager
def _fast_coreset():
    """Let edgead's kernel pick the rows that anomalib's loop would pick: the same projection, the same first row."""
    from anomalib.models.components.sampling import k_center_greedy

    with mock.patch.object(k_center_greedy.KCenterGreedy, "select_coreset_idxs", select_rows):
        yield


def select_rows(sampler: Any) -> list[int]:
    """Stand for `KCenterGreedy.select_coreset_idxs`."""
    import torch

    sampler.model.fit(sampler.embedding)
    features = sampler.model.transform(sampler.embedding).numpy()
    first = int(torch.randint(high=sampler.n_observations, size=(1,)))
    return greedy_coreset(np.ascontiguousarray(features), sampler.coreset_size, first=first).tolist()
