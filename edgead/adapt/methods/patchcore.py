"""PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022 (arXiv 2106.08265).

PatchCore learns with the same graph, in the same precision, that runs on the device. With packaged backbones it needs
no torch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgead import kernels
from edgead.adapt.frozen_backbone import (
    FrozenBackbone,
    check_backbone,
    each_raw,
    is_packaged,
    open_raw,
    packaged_backbone,
)
from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.damping import FEWEST_SCARRED, Damping, compare_damping
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.memory_bank.learn import CHOOSE, LearntBank, Space, learn_bank
from edgead.adapt.memory_bank.made import Scarred, choose_scarred, own_separation, scar
from edgead.adapt.methods.method import AUTO, FP32, INT8, Course, Method, MethodConfig
from edgead.artifact.manifest import Manifest, Preprocessing
from edgead.artifact.onnx_file import with_properties
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead
from edgead.process.installation import install_command
from edgead.runtime.contract import Runtime

EXTRACT = "extract features"
_NO_IMAGES = np.empty(0, int)
# Standard errors by which int8 must be worse than fp32 before it is left out.
SURELY = 3.0


def _exporter() -> Any:
    """Return the exporter of torch backbones; imported by name, like methods, as it needs the packages of `train`."""
    return import_module("edgead.export.backbone")


@dataclass(frozen=True)
class PatchCoreConfig(MethodConfig):
    """Settings of PatchCore.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        Name of the backbone and its layers; see `edgead.adapt.frozen_backbone`.
    image_size : (int, int)
        Height and width that images are resized to.
    fill : {"stretch", "reflect"}
        How images of other proportions fit: stretched, or filled up with their reflection.
    damp_length : bool or "auto"
        Damp the length of standardised features, see `edgead.adapt.memory_bank.feature_space`. By default training
        chooses, see `edgead.adapt.memory_bank.damping`. The paper compares plain features.
    whiten : bool
        Compare patches in a learnt metric, see `edgead.adapt.memory_bank.feature_space`. Not in the paper.
    coreset_sampling_ratio : float
        Largest share of all patches that goes into the memory bank.
    memory_bank_size : int
        Maximum number of rows of the memory bank: it limits the search time on the device.
    max_patches : int
        Most patches from which the coreset is chosen; others are dropped at random, which limits the memory needed.
    num_neighbors : int
        Number of neighbours whose distances are averaged to a patch score.
    window, top_patches : int
        Image score: patch scores are averaged over windows of `window` patches a side, and the `top_patches` largest
        averages are averaged. 1 and 1 give the paper's maximum.
    margin : int
        Number of outermost rings of patches that the image score leaves out: they see padding. The paper has 0.
    sigma_px : float
        Smoothing of the anomaly map: sigma in pixels; 4 is the paper's.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = ("stride8", "stride16")
    image_size: tuple[int, int] = (448, 448)
    fill: Literal["stretch", "reflect"] = "stretch"
    damp_length: bool | Literal["auto"] = "auto"
    whiten: bool = True
    coreset_sampling_ratio: float = 1.0
    memory_bank_size: int = 2500
    max_patches: int = 300_000
    num_neighbors: int = 1
    window: int = 3
    top_patches: int = 10
    margin: int = 1
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        check_backbone(self.backbone, self.layers)


class PatchCore(Method[PatchCoreConfig]):
    """Detector with a frozen backbone and a memory bank of good patches, chosen by greedy k-centre."""

    name = "patchcore"
    inputs = ("rgb", "grey16", "relief", "rgb_relief")
    config_class = PatchCoreConfig
    presets = {
        "fast": {"backbone": "efficientnet_lite0", "image_size": (224, 224)},
        "default": {},
        "fine": {"image_size": (576, 576), "memory_bank_size": 10000},
    }
    purpose = "first: good with small and large defects, with the least to decide; learns in a minute"
    preset_purposes = {
        "fast": "tight budgets and large defects: it is blind to defects of a few pixels",
        "default": "first",
        "fine": "tiny defects, where a frame may take twice as long",
    }

    def __init__(
        self,
        config: PatchCoreConfig = PatchCoreConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
        channels: int = 3,
        precision: str = "fp32",
    ):
        super().__init__(config)
        self._weights, self._pretrained, self._channels = weights, pretrained, channels
        self._spec = self.preprocessing
        self._precision = precision
        self._network: Any = None  # torch network, if the graph was exported from one
        self.learnt: LearntBank | None = None
        self._by_evidence, self._int8_left_out = False, ""
        self.damping: Damping | None = None
        self._opened = ExitStack()
        self._running: Runtime | None = None

    @property
    def leaves_out(self) -> bool:
        return True

    @property
    def precision(self) -> str:
        return self._precision

    @classmethod
    def stages(cls, precision: str) -> tuple[Sequence[str], Sequence[str]]:
        return (EXTRACT, CHOOSE), ()

    def choose_precision(self, precision: str, images: int, *, cross_validates: bool) -> None:
        """Set the precision; `auto` becomes int8 if it is faster on this CPU and packaged for the backbone.

        Image sizes that the backbone does not take, and missing weights or packages, are refused here.
        """
        super().choose_precision(precision, images, cross_validates=cross_validates)
        self._by_evidence = precision == AUTO
        auto = INT8 if self.is_packaged and kernels.gains_by_int8() else FP32
        self._precision = auto if precision == AUTO else precision
        self.read_backbone()

    def prepared(self, preprocessing: Preprocessing) -> Preprocessing:
        self._spec = preprocessing
        return preprocessing

    @property
    def is_packaged(self) -> bool:
        """Whether the package contains the graph."""
        return is_packaged(self.config.backbone, self.config.layers) and self._weights is None

    @cached_property
    def backbone(self) -> FrozenBackbone:
        """The backbone's graph for the preprocessing of this detector.

        Raises SettingsError: the backbone does not take the image size, or needs torch, which is not installed.
        """
        packaged = self.read_backbone()
        if packaged is None:
            return _exporter().export_backbone(self._network, self._spec, self.precision)
        return packaged if packaged.precision == self.precision else _exporter().convert(packaged, self.precision)

    def read_backbone(self) -> FrozenBackbone | None:
        """Read the packaged graph, or build the torch network to export."""
        config = self.config
        try:
            if self.is_packaged:
                carried = self.precision if self.precision in (FP32, INT8) else FP32
                if carried != self.precision:
                    _exporter()
                return packaged_backbone(config.backbone, self._spec, carried)
            self._network = self._network or self.torch_network()
            return None
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"{error.name} is missing: {config.backbone} with layers {', '.join(config.layers)} in "
                f"{self.precision} is exported from torch: `{install_command('train')}`"
            ) from error

    def torch_network(self) -> Any:
        """Build the torch network of the graph; see `edgead.workstation.backbones.patch_features.PatchFeatures`."""
        return _exporter().patch_network(
            self.config.backbone,
            self.config.layers,
            self.config.image_size,
            weights=self._weights,
            pretrained=self._pretrained,
            channels=self._channels,
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {} if self.learnt is None else self.learnt.arrays

    @property
    def graph_arrays(self) -> dict[str, np.ndarray]:
        if self.learnt is None:
            return self.backbone.neutral
        return self.backbone.inputs(self.learnt.scale, self.learnt.metric)

    @property
    def notes(self) -> dict[str, Any]:
        """Facts for the manifest: channels of each layer, and the choices of damping and of int8, if they were made."""
        chosen = {} if self.damping is None else {"damping": self.damping.facts}
        left_out = {"int8_left_out": self._int8_left_out} if self._int8_left_out else {}
        return {"channels": list(self.backbone.channels), **left_out, **chosen}

    @property
    def head(self) -> NearestHead:
        config, learnt = self.config, self.learnt
        return NearestHead(
            num_neighbors=config.num_neighbors,
            folds=0 if learnt is None else learnt.folds,
            own_metrics=learnt is not None and config.whiten and learnt.folds > 0,
            window=config.window,
            top_patches=config.top_patches,
            margin=config.margin,
            sigma_px=config.sigma_px,
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Fill the memory bank; there is nothing to resume. The metric is learnt from images of different groups."""
        config = self.config
        groups = list(course.groups or range(len(images)))
        folds = course.folds if len(course.folds) else deal_folds(groups, config.seed)
        rule = BankRule(config.coreset_sampling_ratio, config.memory_bank_size, config.num_neighbors, config.seed)
        space = Space(self.backbone.channels, config.damp_length is not False, config.whiten, self._spec.channels == 6)
        by_evidence = config.damp_length == "auto" or self._by_evidence
        compares = by_evidence and max(folds) > 0 and len(images) >= FEWEST_SCARRED
        chosen = choose_scarred(groups, config.seed) if compares else _NO_IMAGES
        patches, good = self.raw_patches(images, course, chosen)
        scarred = self._scarred(images, chosen, good) if compares else None
        if scarred and self._by_evidence and self._precision == INT8:
            of_chosen = [groups[number] for number in chosen]
            if self._leaves_int8_out(images, scarred, of_chosen, rule, space):
                patches, good = self.raw_patches(images, course, chosen)
                scarred = self._scarred(images, chosen, good)
        bank_of = partial(learn_bank, groups=groups, folds=folds, rule=rule, progress=course.progress)
        if not scarred or config.damp_length != "auto":
            self.learnt = bank_of(patches, space=space)
            return
        damped = bank_of(patches.copy(), space=space)
        plain = bank_of(patches, space=replace(space, damps=False), scale=damped.scale)
        self.damping = compare_damping(damped, plain, self.head, scarred, folds)
        self.learnt = damped if self.damping.damps else plain

    def _leaves_int8_out(
        self, images: Sequence[np.ndarray], scarred: Scarred, groups: Sequence[int], rule: BankRule, space: Space
    ) -> bool:
        """Take fp32 and return True if int8 separates scars from good images clearly less well; otherwise keep int8."""
        some = Scarred(*(each[::2] for each in (scarred.images, scarred.good, scarred.made)))  # half suffices here
        self._take(FP32)
        in_fp32 = self._scarred(images, some.images)
        int8, fp32 = (own_separation(one, groups[::2], rule, space, self.head) for one in (some, in_fp32))
        better, error = fp32.above(int8)
        if better <= SURELY * error:
            self._take(INT8)
            return False
        self._int8_left_out = (
            f"int8 tells made defects from good parts less well than fp32 here (AUROC {int8.auroc:.3f} and "
            f"{fp32.auroc:.3f}, standard error of the difference {error:.3f})"
        )
        return True

    def _take(self, precision: str) -> None:
        """Change the precision, and forget the graph of the previous precision."""
        self._precision = precision
        vars(self).pop("backbone", None)

    def _scarred(self, images: Sequence[np.ndarray], chosen: np.ndarray, good: np.ndarray | None = None) -> Scarred:
        """Compute features of the chosen images with scars, and without scars unless `good` already has them."""
        seed, numbers = self.config.seed, chosen.tolist()
        wanted = [] if good is not None else [images[number] for number in numbers]
        wanted += [scar(images[number], np.random.default_rng((seed, number))) for number in numbers]
        features = np.stack(list(each_raw(self.backbone, self._spec, wanted)))
        return Scarred(chosen, features[: len(chosen)] if good is None else good, features[-len(chosen) :])

    def raw_patches(
        self, images: Sequence[np.ndarray], course: Course, whole: np.ndarray = _NO_IMAGES
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute raw features, float32 (patches, d), thinned to the same number from every image.

        Also returns all features of the images in `whole`, float32 (k, h, w, d).
        """
        rng, patches, keep = np.random.default_rng(self.config.seed), np.empty((0, 0), np.float32), 0
        means, wholes = [], []
        for number, features in enumerate(each_raw(self.backbone, self._spec, images)):
            rows = features.reshape(-1, features.shape[-1])
            if not number:
                keep = min(len(rows), max(1, self.config.max_patches // len(images)))
                patches = np.empty((keep * len(images), rows.shape[1]), np.float32)
            if number in whole:
                wholes.append(features)
            if keep < len(rows):
                rows = rows[np.sort(rng.choice(len(rows), keep, replace=False))]
            patches[number * keep : (number + 1) * keep] = rows
            means.append(rows.mean(axis=0))
            course.progress(EXTRACT, number + 1, len(images))
        if course.seen is not None:
            course.seen(np.array(means))
        return patches, np.array(wholes, np.float32)

    def outputs_of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        if self._running is None:
            self._running = self._opened.enter_context(open_raw(self.backbone, self._spec, arrays=self.graph_arrays))
        return {name: output.copy() for name, output in self._running.run(image[None]).items()}

    def network_ms(self) -> float:
        with open_raw(self.backbone, self._spec, threads=1) as runtime:
            begin_ns = time.thread_time_ns()
            runtime.run(runtime.input)
            return (time.thread_time_ns() - begin_ns) / 1e6

    def write_graph(self, folder: Path, manifest: Manifest) -> None:
        """Write the graph, and the weights for `edgead verify` if the package does not contain them."""
        content = with_properties(self.backbone.graph, manifest.graph_properties)
        (folder / manifest.graphs[self.precision].file).write_bytes(content)
        if self._network is not None:
            _exporter().write_weights(self._network, folder)
