"""Real patch features to time kernels with: EfficientNet-Lite0 on a data set in MVTec layout, kept in a cache folder.

d = 152 are the product's own features. Wider ones are made as the published code of PatchCore makes them (Roth et
al. 2022, section 3.1 and its repository): the 3 x 3 neighbourhood of a position is kept, not averaged; each
layer's values are pooled adaptively to 1024, both layers side by side and pooled again to d. Every width is then
standardised by the product's `PatchFeatures`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from edgead import kernels
from edgead.adapt.methods.patchcore import PatchCore
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.images import Images
from edgead.workstation.backbones.patch_features import PatchFeatures

Array = npt.NDArray[np.float32]

PRODUCT_D, STRIDE = 152, 8
WIDTHS = (PRODUCT_D, 384, 1024, 1536)
SETTINGS = {"backbone": "efficientnet_lite0", "layers": ("stride8", "stride16"), "image_size": (224, 224)}
PRETRAIN_D = 1024  # of the published code
HELD_IMAGES = 61  # training images that give no row of a bank
HELD_ROWS = 2000
POOL_ROWS = 200_000
CORESET_ROWS = 10_000
BATCH = 16
SEED = 0
ARRAYS = ("pool", "held", "good", "defect", "coreset")
LAYOUT = 1  # of the cache; raise it when the arrays change

Construction = Callable[[PatchCore, torch.Tensor], torch.Tensor]
"""Model and uint8 RGB images (n, h, w, 3) -> raw features (n, patches, d)."""


@dataclass(frozen=True)
class Features:
    """Patches of one width, float32 (rows, d).

    Attributes
    ----------
    pool : random patches of training images, in random order, on disk
    coreset : greedy coreset of `pool`
    held : random patches of other training images
    good, defect : all patches of one good and of one defective test image, chosen by seed
    """

    pool: Array
    coreset: Array
    held: Array
    good: Array
    defect: Array

    def bank(self, rows: int) -> Array:
        """Give the coreset where it has that size, else a random subset of the pool."""
        return self.coreset if rows == len(self.coreset) else self.random_bank(rows)

    def random_bank(self, rows: int) -> Array:
        """Copy `rows` random patches of the pool to memory."""
        if rows > len(self.pool):
            raise SystemExit(
                f"a bank of {rows} rows needs more training patches than the {len(self.pool)} of this data"
            )
        return np.array(self.pool[:rows])

    def hardness(self) -> dict[str, float]:
        """Median distance to the nearest row of the coreset, in units of the pool's rms distance from its mean.

        Near 0 the patches sit on top of their neighbours and any pruning works; at 1 they are as far as the mean.
        """
        rms = float(np.sqrt(self.pool[: 4 * CORESET_ROWS].var(axis=0, dtype=np.float64).sum()))
        index = kernels.NearestPatches(self.coreset)
        sets = {"held": self.held, "good": self.good, "defect": self.defect}
        return {name: float(np.median(index.search(rows)[0])) / rms for name, rows in sets.items()}


def open_cache(data: Path, cache: Path) -> Path:
    """Make the folder below `cache` for these images and this construction, and give its path."""
    made_of = f"{LAYOUT} {data.resolve()} {SETTINGS} {POOL_ROWS} {CORESET_ROWS} {SEED}"
    folder = cache / f"edgead-features-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_features(data: Path, folder: Path, widths: tuple[int, ...] = WIDTHS) -> dict[int, Features]:
    """Read features by width from a folder of `open_cache`, after making them if they are not there."""
    for d in widths:
        if not (folder / f"coreset_{d}.npy").is_file():
            print(f"extracting features, d = {d}, into {folder}", flush=True)
            _make(data, folder, d)
    return {d: _read(folder, d) for d in widths}


def product_patches(data: Path, folder: Path, side: int) -> Array:
    """Give all patches of all good training images at side x side pixels, as `edgead train` would choose from."""
    file = folder / f"product_{side}.npy"
    if not file.is_file():
        print(f"extracting all patches at {side} x {side} pixels into {folder}", flush=True)
        model = PatchCore.from_settings({**SETTINGS, "image_size": (side, side)})
        raw = torch.cat(list(_batches(model, find_good_images(data), _product))).flatten(0, 1)
        model.network.fit_scale(raw)
        np.save(file, _standardise(model.network, raw))
    return np.load(file)


def _make(data: Path, folder: Path, d: int) -> None:
    model = PatchCore.from_settings(SETTINGS)
    rng = np.random.default_rng(SEED)
    paths = list(rng.permutation(np.array(find_good_images(data), dtype=object)))
    tests = find_test_images(data)
    drawn = {
        "good": rng.choice([i for i, image in enumerate(tests) if not image.is_defective]),
        "defect": rng.choice([i for i, image in enumerate(tests) if image.is_defective]),
    }
    build = _product if d == PRODUCT_D else _published(d)
    raw = {
        "pool": _draw(model, paths[HELD_IMAGES:], build, POOL_ROWS),
        "held": _draw(model, paths[:HELD_IMAGES], build, HELD_ROWS),
        **{name: next(_batches(model, [tests[i].path], build))[0] for name, i in drawn.items()},
    }
    channels = model.network.channels if d == PRODUCT_D else (d // 2, d // 2)
    scale = PatchFeatures(model.network.backbone, channels, damp_length=model.config.damp_length)
    scale.fit_scale(raw["pool"])
    arrays = {name: _standardise(scale, rows) for name, rows in raw.items()}
    arrays["coreset"] = arrays["pool"][kernels.greedy_coreset(arrays["pool"], CORESET_ROWS)]
    for name in ARRAYS:  # the last is there only if all are
        np.save(folder / f"{name}_{d}.npy", arrays[name])


def _read(folder: Path, d: int) -> Features:
    pool, *others = ARRAYS
    return Features(
        np.load(folder / f"{pool}_{d}.npy", mmap_mode="r"),
        **{name: np.load(folder / f"{name}_{d}.npy") for name in others},
    )


def _batches(model: PatchCore, paths: Sequence[Path], build: Construction) -> Iterator[torch.Tensor]:
    """Raw features (images, patches, d), batch by batch."""
    images = Images(paths, model.preprocessing)
    for start in range(0, len(images), BATCH):
        batch = np.stack([images[i] for i in range(start, min(start + BATCH, len(images)))])
        with torch.inference_mode():
            yield build(model, torch.from_numpy(batch))


def _product(model: PatchCore, images: torch.Tensor) -> torch.Tensor:
    return model.network.raw_features(images).flatten(2).transpose(1, 2)


def _published(d: int) -> Construction:
    def build(model: PatchCore, images: torch.Tensor) -> torch.Tensor:
        layers = model.network.backbone(images.permute(0, 3, 1, 2).float())
        grid = layers[0].shape[-2:]
        pooled = []
        for layer in layers:
            patches = F.unfold(layer, 3, padding=1).unflatten(2, layer.shape[-2:])
            patches = F.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
            pooled.append(F.adaptive_avg_pool1d(patches.flatten(2).transpose(1, 2), PRETRAIN_D))
        return F.adaptive_avg_pool1d(torch.cat(pooled, dim=-1), d)

    return build


def _draw(model: PatchCore, paths: Sequence[Path], build: Construction, count: int) -> torch.Tensor:
    """Draw `count` patches, about equally many of each image, in random order."""
    rng = np.random.default_rng(SEED)
    keep = -(-count // len(paths))
    drawn = [
        image[torch.from_numpy(rng.choice(len(image), min(keep, len(image)), replace=False))]
        for batch in _batches(model, paths, build)
        for image in batch
    ]
    pool = torch.cat(drawn)
    return pool[torch.from_numpy(rng.permutation(len(pool))[:count])]


def _standardise(network: PatchFeatures, raw: torch.Tensor) -> Array:
    with torch.inference_mode():
        return torch.cat([network.standardise(block) for block in raw.split(65536)]).numpy()
