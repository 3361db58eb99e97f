"""Numbers of the authors' code of MuSc, from weights and images that are drawn by their names.

`python tests/musc_authors.py CODE OUT` writes the fixture, with CODE a checkout of xrli-U/MuSc (MIT License). Their own
loop over a category runs, on images that are handed to it; what it imports and this does not need is left empty.
"""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from authors import numbers
from towers_authors import fill

WIDTH, DEPTH, HEADS, EMBEDDING = 24, 12, 3, 512
PATCH, GRID = 16, 4
SIDE = 112
"""Of the images that are compared, pixels: more patches than the positions are for."""
LAYERS = (3, 6, 9, 12)
IMAGES = 7
"""The interval of the others, floor(0.3 * 6), is another one than of all, floor(0.3 * 7)."""


def draw_image(number: int) -> np.ndarray:
    """An image of the pile, uint8 RGB (90, 130, 3): one scene, its own grain and light, and a spot on one."""
    coarse = np.kron(numbers("scene", (9, 13, 3)), np.ones((10, 10, 1)))
    image = 120 + 35 * coarse + 9 * numbers(f"grain {number}", coarse.shape) + 2 * number
    if number == IMAGES - 1:
        image[30:55, 60:90] = 200 - 40 * numbers("spot", (25, 30, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


class _Images(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, transform: Any):
        self._transform = transform

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, number: int) -> dict[str, Any]:
        from PIL import Image

        image = self._transform(Image.fromarray(draw_image(number)))
        return {"image": image, "image_path": str(number), "mask": torch.zeros(1), "is_anomaly": torch.tensor(0)}


def _tower(side: int) -> Any:
    from open_clip.transformer import QuickGELU, VisionTransformer

    return VisionTransformer(side, PATCH, WIDTH, DEPTH, HEADS, 4.0, output_dim=EMBEDDING, act_layer=QuickGELU).eval()


def _musc(module: Any, transform: Any, visual: Any) -> Any:
    """Their object as its constructor makes it, but with a small network."""
    musc = module.MuSc.__new__(module.MuSc)
    settings = {
        "model_name": "ViT-B-16",
        "dataset": "mvtec_ad",
        "device": torch.device("cpu"),
        "image_size": SIDE,
        "batch_size": 4,
        "features_list": list(LAYERS),
        "divide_num": 1,
        "r_list": [1, 3, 5],
        "vis": False,
        "clip_model": types.SimpleNamespace(encode_image=visual),
        "load_datasets": lambda *args, **options: _Images(transform),
    }
    for name, value in settings.items():
        setattr(musc, name, value)
    return musc


def run() -> dict[str, np.ndarray]:
    """Run their loop and note what its modules give."""
    import models.musc as module
    from open_clip.model import resize_pos_embed
    from open_clip.transform import image_transform

    drawn = fill(_tower(PATCH * GRID))
    visual = _tower(SIDE)
    state = {f"visual.{name}": value for name, value in drawn.items()}
    resize_pos_embed(state, types.SimpleNamespace(visual=visual))
    visual.load_state_dict({name.removeprefix("visual."): value for name, value in state.items()})
    found: dict[str, np.ndarray] = {}

    def embed(self: Any, tokens: list[torch.Tensor]) -> torch.Tensor:
        features = plain_embed(self, tokens)
        found.setdefault(f"aggregated_{self.r}", features[0, ::7].numpy().copy())
        return features

    def rscin(scores: np.ndarray, class_tokens: Any, k_list: list[int]) -> np.ndarray:
        found["peaks"], found["embeddings"] = scores, np.array(class_tokens)[:, ::16]
        return plain_rscin(scores, class_tokens, k_list=k_list)

    def msm(**given: Any) -> torch.Tensor:
        scores = plain_msm(**given)
        parts.append(scores.numpy())
        return scores

    parts: list[np.ndarray] = []
    plain_embed, plain_rscin, plain_msm = module.LNAMD._embed, module.RsCIN, module.MSM
    module.LNAMD._embed, module.RsCIN, module.MSM = embed, rscin, msm
    module.compute_metrics = lambda _, scores, masks, maps: (
        found.update(scores=scores, maps=maps),
        [[0] * 3, [0] * 4],
    )[1]
    mean = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    _musc(module, image_transform(SIDE, False, *mean), visual).make_category_data("drawn")
    found["maps"] = found["maps"].squeeze()[:, ::9, ::9]
    found["patch_scores"] = np.stack(parts)[:, -3:]
    found["names"] = np.array(sorted(drawn))
    found["shapes"] = np.array([" ".join(map(str, drawn[name].shape)) for name in sorted(drawn)])
    return found


def main(code: Path, out: Path) -> None:
    """Run the authors' code and write its numbers."""
    sys.path[:0] = [str(code), str(code / "models" / "backbone")]
    for name in ("ftfy", "openpyxl", "utils.metrics"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["openpyxl"].Workbook = sys.modules["utils.metrics"].compute_metrics = None  # type: ignore[attr-defined]
    warnings.simplefilter("ignore")
    np.savez_compressed(out, **run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
