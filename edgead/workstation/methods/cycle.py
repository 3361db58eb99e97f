"""Method for repeated motions: learns a machine's cycle, and compares each frame with its moment of the cycle.

Ours. Features of a frozen backbone, pooled to a coarse grid; the period and the phases are found in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.adapt.frozen_backbone import check_backbone
from edgead.adapt.memory_bank.period import FEWEST_CYCLES, find_period, find_phases
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.heads.cycle import PHASES, SHORTEST, CycleHead
from edgead.heads.nearest import BANK
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pretrained import Backbone, build_backbone, layer_shapes
from edgead.workstation.methods.network import NetworkMethod


@dataclass(frozen=True)
class CycleConfig(MethodConfig):
    """Settings of cycle.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.workstation.backbones.pretrained`.
    image_size : (int, int)
        Height and width that frames are resized to.
    pool : int
        Positions of the layer on each side that are averaged to one patch.
    period : float
        Number of frames in a cycle; 0 to determine it.
    reach : float
        Number of frames around its moment within which a frame is compared with learnt ones.
    in_a_row : int
        Number of consecutive frames that must be above the limit.
    max_rows : int
        Largest number of frames in the memory bank, evenly over all cycles.
    sigma_px : float
        Smoothing of the anomaly map.
    seed : int
        Every method takes one; here nothing is drawn at random.
    """

    backbone: str = "efficientnet_lite0"
    layers: tuple[str, ...] = ("stride16",)
    image_size: tuple[int, int] = (256, 256)
    pool: int = 4
    period: float = 0.0
    reach: float = 1.0
    in_a_row: int = 3
    max_rows: int = 2000
    sigma_px: float = 8.0

    def __post_init__(self) -> None:
        check_backbone(self.backbone, self.layers)
        if self.pool < 1 or self.max_rows < 1:
            raise SettingsError(f"pool and max_rows are 1 or more, found {self.pool} and {self.max_rows}")


class PooledFeatures(PatchFeatures):
    """Patch features averaged over squares of `pool` x `pool` positions."""

    def __init__(self, backbone: Backbone, channels: Sequence[int], *, pool: int):
        super().__init__(backbone, channels, damp_length=True)
        self.pool = pool

    def align(self, layers: list[Tensor]) -> Tensor:
        return F.avg_pool2d(super().align(layers), self.pool)


@dataclass(frozen=True, slots=True)
class Followed:
    """Learnt frames of one stream: their patches, float32 (n, h w d), and the phase of each.

    `phases`, float64 (n,), are in cycles from the start of the first frame's cycle, and never decrease.
    """

    rows: np.ndarray
    phases: np.ndarray

    @property
    def cycles(self) -> np.ndarray:
        """Number of each frame's cycle, from 0, int64 (n,)."""
        return np.floor(self.phases).astype(np.int64)


class Cycle(NetworkMethod[CycleConfig]):
    """Detector that learns a machine's repeated motion, and judges each frame by its moment in the cycle."""

    network: PooledFeatures

    name = "cycle"
    config_class = CycleConfig
    purpose = "a camera that watches a machine repeat its motion; `edgead cycle` trains it, from videos"
    preset_purposes = {"default": "all"}
    in_order = True

    def __init__(self, config: CycleConfig = CycleConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, config.layers, image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        shapes = layer_shapes(backbone, config.image_size)
        rows, columns = shapes[0][1:]
        if rows < config.pool or columns < config.pool:
            raise SettingsError(f"pool={config.pool} is more than the {rows} x {columns} positions that there are")
        self.grid = rows // config.pool, columns // config.pool
        self.network = PooledFeatures(backbone, [shape[0] for shape in shapes], pool=config.pool).eval()
        self.period = config.period or float(SHORTEST)  # until it is determined
        self.followed: list[Followed] = []

    @property
    def head(self) -> CycleHead:
        config = self.config
        return CycleHead(
            period=self.period,
            reach=config.reach,
            in_a_row=config.in_a_row,
            sigma_px=config.sigma_px,
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return self.bank_of(self.followed) if self.followed else {}

    def bank_of(self, followed: Sequence[Followed]) -> dict[str, np.ndarray]:
        """Make the head's arrays from some of the frames."""
        rows = np.concatenate([one.rows for one in followed])
        phases = np.concatenate([one.phases for one in followed]) % 1
        picks = np.linspace(0, len(rows) - 1, min(len(rows), self.config.max_rows)).round().astype(int)
        # A phase just below 1 may round to 1 in float32.
        return {BANK: rows[picks], PHASES: (phases[picks].astype(np.float32) % 1)[:, None]}

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Learn from the frames of one stream, in order."""
        self.learn_streams([images], progress=course.progress)

    def learn_streams(self, streams: Sequence[Iterable[np.ndarray]], *, progress: StageProgress = no_progress) -> None:
        """Learn from the frames of several streams.

        `streams` (sequence of iterable of ndarray of shape (h, w, 3), uint8, RGB): streams that yield their frames, of
            `image_size`, in order.
        `progress`: called with (stage, done, total), in streams, as their length is unknown.
        Raises SettingsError: a stream has no frames, no period is found, or no stream shows three cycles.
        """
        raw = []
        for number, stream in enumerate(streams):
            raw.append(self._raw(stream))
            progress("extract features", number + 1, len(streams))
        if not all(map(len, raw)):
            raise SettingsError(f"video {[*map(len, raw)].index(0) + 1} of {len(raw)} has no frames")
        depth = raw[0].shape[-1]
        self.network.fit_scale(torch.from_numpy(np.concatenate(raw).reshape(-1, depth)))
        with torch.inference_mode():
            rows = [self.network.standardise(torch.from_numpy(one)).numpy().reshape(len(one), -1) for one in raw]
        period = self.config.period or find_period(rows)
        if max(map(len, rows)) < FEWEST_CYCLES * period:
            raise SettingsError(
                f"the longest video has {max(map(len, rows))} frames, {FEWEST_CYCLES} cycles of {period:.1f} frames "
                "are needed; record at least 20 cycles"
            )
        self.period, phases = find_phases(rows, period, self.grid)
        self.followed = [Followed(*one) for one in zip(rows, phases, strict=True)]

    def _raw(self, stream: Iterable[np.ndarray]) -> np.ndarray:
        """Compute the features of a stream's frames before standardisation, float32 (n, h, w, d)."""
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster by a third on CPUs
        with torch.inference_mode():
            found = [self.network.raw_features(torch.from_numpy(frame)[None])[0] for frame in stream]
            self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return torch.stack(found).permute(0, 2, 3, 1).contiguous().numpy() if found else np.empty((0, 0))
