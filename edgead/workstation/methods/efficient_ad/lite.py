"""`efficient_ad`'s model size `lite`, which is ours: EfficientAD with a packaged backbone as the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from edgead.artifact.manifest import Preprocessing
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.heads.patches import USUAL
from edgead.workstation.backbones.pretrained import LITE, build_backbone, layer_shapes
from edgead.workstation.methods.efficient_ad.lite_student import SEEN, TAUGHT, LiteStudent
from edgead.workstation.methods.efficient_ad.lite_training import learn_lite
from edgead.workstation.methods.method import Course, Method, MethodConfig

STEP_PX = 16


@dataclass(frozen=True)
class LiteConfig(MethodConfig):
    """Settings of `efficient_ad` with `model_size: lite`.

    Attributes
    ----------
    model_size : {"lite"}
    backbone : {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
        The teacher.
    image_size : (int, int)
        Multiples of 16.
    fill : {"stretch", "reflect"}
        What images of other proportions are: stretched, or filled up with their reflection.
    width : int
        Channels of the student's hidden layers.
    own_grids : bool
        Bring the layer of stride 16 to the grid of stride 8 as the last step, not as the first.
    steps : int
        Of 8 crops each.
    learning_rate, weight_decay : float
        Of AdamW. The rate rises over a tenth of the steps and falls to nothing by a cosine.
    hard_quantile, hard_weight : float
        p_hard of the paper's L_hard, and its weight beside the mean square error; the paper has L_hard alone.
    validation_share : float
        Share of the good images, in whole groups, that is not learnt from; the map is normalised on them.
    window, top_patches : int
        The image score: the map is averaged over windows of this many positions a side, and this many of the largest
        averages are averaged. 1 and 1 give the paper's maximum.
    margin : int
        The image score leaves out so many of the outermost rings of positions.
    by_place : bool
        Bring down places that usually score higher than the middle, see `memory_bank.usual_scores`. Not done
        where images are filled up.
    sigma_px : float
        Smoothing of the anomaly map; the paper has none.
    seed : int
    """

    model_size: Literal["lite"] = "lite"
    backbone: str = "efficientnet_lite0"
    image_size: tuple[int, int] = (320, 320)
    fill: Literal["stretch", "reflect"] = "stretch"
    width: int = 48
    own_grids: bool = True
    steps: int = 3_200
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    hard_quantile: float = 0.999
    hard_weight: float = 0.05
    validation_share: float = 0.1
    window: int = 3
    top_patches: int = 10
    margin: int = 1
    by_place: bool = True
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if self.backbone not in LITE:
            raise SettingsError(f"backbone {self.backbone!r} cannot teach here: choose one of {', '.join(LITE)}")
        if any(side % STEP_PX or side < 4 * STEP_PX for side in self.image_size):
            raise SettingsError(f"image_size {list(self.image_size)}: lite needs multiples of {STEP_PX} from 64 on")
        if not (0 < self.validation_share < 1 and 0 < self.hard_quantile < 1):
            raise SettingsError("validation_share and hard_quantile must lie between 0 and 1")


class EfficientADLite(Method[LiteConfig]):
    """Learns to predict the deep features of a frozen backbone from its shallow ones, on good images only."""

    network: LiteStudent

    name = "efficient_ad"
    config_class = LiteConfig

    def __init__(
        self,
        config: LiteConfig = LiteConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
    ):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, (SEEN, *TAUGHT), image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        channels = [shape[0] for shape in layer_shapes(backbone, config.image_size)]
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = LiteStudent(backbone, channels, config.width, own_grids=config.own_grids).eval()
        self.usual_scores: np.ndarray | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(image_size=self.config.image_size, fill=self.config.fill)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {} if self.usual_scores is None else {USUAL: self.usual_scores}

    @property
    def head(self) -> MapHead:
        config = self.config
        return MapHead(
            window=config.window,
            top_patches=config.top_patches,
            margin=config.margin,
            by_place=self.usual_scores is not None,
            sigma_px=config.sigma_px,
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Run the backbone once over the good images, then train the student on its features."""
        self.usual_scores = learn_lite(self.network, images, course, self.config)
