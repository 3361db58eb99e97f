"""Draw the figures of the explanations, from edgead's own code: `python -m docs.make.figures [NAME...]`.

Needs `pip install .[benchmark]`. `precisions` trains and exports a small model, which takes a minute.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import ListedColormap  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

from docs.make.station import lights, station  # noqa: E402
from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank  # noqa: E402
from edgead.adapt.memory_bank.folds import FOLDS, deal_folds  # noqa: E402
from edgead.artifact.camera_view import CameraView  # noqa: E402
from edgead.artifact.manifest import Calibration  # noqa: E402
from edgead.calibration.conformal import conformal_threshold  # noqa: E402
from edgead.kernels import NearestPatches  # noqa: E402
from edgead.line.drift import DriftWatch  # noqa: E402

FOLDER = Path(__file__).parent.parent / "figures"
GOOD, BAD, KEPT = "#9aa5b1", "#d1495b", "#00798c"


def patchcore(axes: Axes) -> None:
    """Draw good patches in two directions, the rows that the bank keeps, and two new patches."""
    rng = np.random.default_rng(3)
    centres, widths = np.array([[0.0, 0.0], [3.2, 1.0], [1.2, 3.0]]), (0.55, 0.4, 0.3)
    good = np.concatenate([rng.normal(c, w, (250, 2)) for c, w in zip(centres, widths, strict=True)])
    good = good.astype(np.float32)
    bank = good[choose_memory_bank(good, BankRule(1.0, most=40))]
    new = np.array([[0.2, 0.25], [4.2, 2.9]], np.float32)
    _, nearest = NearestPatches(bank).search(new, k=1)
    axes.scatter(*good.T, s=5, color=GOOD, label="patches of good parts")
    axes.scatter(*bank.T, s=28, facecolors="none", edgecolors=KEPT, label="rows that the memory bank keeps")
    for patch, row, colour, name in zip(new, nearest[:, 0], (KEPT, BAD), ("near: low", "far: high"), strict=True):
        axes.plot(*zip(patch, bank[row], strict=True), color=colour, lw=1.5)
        axes.scatter(*patch, s=70, marker="*", color=colour, zorder=3)
        axes.annotate(
            f"new patch, {name} score",
            patch,
            xytext=(8, 8),
            textcoords="offset points",
            color=colour,
            backgroundcolor="#ffffffb0",
        )
    axes.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.9, 6.6))
    axes.legend(loc="lower right")


def folds(axes: Axes) -> None:
    """Draw the images that are learnt and scored, fold by fold and in the finished model."""
    count = 60
    fold = deal_folds(range(count), 0)
    order = np.argsort(fold, kind="stable")
    used = np.array([*(fold[order] == number for number in range(FOLDS)), np.zeros(count, bool)], float)
    axes.imshow(used, cmap=ListedColormap([GOOD, KEPT]), aspect="auto", interpolation="nearest")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(FOLDS + 2) - 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=1.5)
    axes.tick_params(which="both", length=0)
    axes.axhline(FOLDS - 0.5, color="white", lw=8)
    axes.set_yticks([*range(FOLDS), FOLDS], [*(f"without fold {number + 1}" for number in range(FOLDS)), "what ships"])
    axes.set_xticks([])
    axes.set_xlabel("60 good images")
    axes.spines[:].set_visible(False)
    handles = [Patch(color=GOOD, label="learnt"), Patch(color=KEPT, label="scored as a stranger: makes the limit")]
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)


def guarantee(axes: Axes) -> None:
    """Draw the distribution of the true rate over many calibrations."""
    rng = np.random.default_rng(0)
    bins = np.linspace(0, 0.2, 41)
    for n, colour in ((19, GOOD), (99, KEPT), (499, BAD)):
        # Scores are uniform here: the share above a threshold is one less it. The guarantee is the same for all scores.
        rates = [1 - conformal_threshold(np.sort(rng.random(n)), 0.05) for _ in range(1000)]
        axes.hist(rates, bins, histtype="step", lw=2, color=colour, label=f"{n} images: mean {np.mean(rates):.1%}")
        print(n, np.mean(rates), np.quantile(rates, (0.05, 0.95)))
    axes.axvline(0.05, color="black", ls=":", label="asked: at most 5 %")
    axes.set(xlabel="good parts that a model rejects", ylabel="of 1,000 models")
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    axes.legend()


def conformal(axes: Axes) -> None:
    """Draw nineteen scores and the twenty gaps between them."""
    scores = np.sort(np.random.default_rng(4).gamma(6, 0.12, 19))
    edges = np.concatenate([[scores[0] - 0.25], scores, [scores[-1] + 0.25]])
    for number, (left, right) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        last = number == 19
        axes.axvspan(
            left, right, color=BAD if last else (GOOD if number % 2 else "#d5dbe1"), alpha=0.8 if last else 0.6, lw=0
        )
    axes.scatter(scores, np.full(19, 0.5), color="black", zorder=3, s=22, label="scores of 19 good parts")
    axes.axvline(conformal_threshold(scores, 0.05), color=BAD, lw=2, label="threshold for 5 %")
    axes.text(edges[-1] - 0.125, 0.75, "1 of 20\ngaps", ha="center", color="white", fontweight="bold")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1), yticks=[], xlabel="score")
    axes.legend(loc="upper left")


def drift(axes: Axes) -> None:
    """Draw the drift watch's evidence before and after the light changes."""
    rng = np.random.default_rng(1)
    calibration = Calibration(
        review=2.0, reject=2.0, false_reject_rate=0.02, review_rate=0.02, map_threshold=2.0, map_typical=1.0,
        scores=sorted(rng.normal(1, 0.15, 60).tolist()),
    )  # fmt: skip
    blank = np.zeros((64, 64, 3), np.uint8)
    watch = DriftWatch(calibration, [blank])
    evidence = []
    for part in range(330):
        changed = part >= 300
        light = rng.normal(120, 2) * (0.9 if changed else 1)
        view = CameraView(light, rng.normal(1, 0.02), rng.normal(0, 1), rng.normal(0, 1))
        state = watch.add_measured(float(rng.normal(1, 0.15)), float(rng.normal(0.5, 0.05)), view)
        evidence.append(state.evidence)
    alarm = next(number for number, value in enumerate(evidence) if value >= 1)
    axes.semilogy(evidence, color=KEPT, lw=1.8)
    axes.axhline(1, color=BAD, lw=1.2, label="bar: one false alarm in a million parts")
    axes.axvline(300, color="black", ls=":", label="the light fades by a tenth")
    axes.annotate(
        f"warning after\n{alarm - 299} parts", (alarm, 1), xytext=(-105, 15), textcoords="offset points", color=BAD
    )
    axes.set(xlabel="parts", ylabel="evidence", ylim=(None, 1e6))
    axes.legend(loc="upper left")


def exact_search(axes: Axes) -> None:
    """Draw true distances of one patch, and bounds from coded principal directions."""
    rng = np.random.default_rng(5)
    spread = 1 / np.arange(1, 129) ** 0.8
    bank = rng.normal(size=(5000, 128)) * spread
    patch = rng.normal(size=128) * spread
    _, _, directions = np.linalg.svd(bank - bank.mean(0), full_matrices=False)
    kept = directions[:32].T
    coded, query = (bank @ kept), (patch @ kept)
    step = np.abs(coded).max(0) / 127
    difference = np.abs(np.round(coded / step) * step - query)
    bound = np.sqrt((np.maximum(difference - step / 2, 0) ** 2).sum(1))
    true = np.linalg.norm(bank - patch, axis=1)
    order = np.argsort(bound)
    assert (bound <= true).all()
    least = true.min()
    measured = int((bound <= least).sum())
    shown = slice(0, 400)
    axes.scatter(range(400), true[order][shown], s=5, color=GOOD, label="true distance")
    axes.plot(bound[order][shown], color=KEPT, lw=2, label="lower bound from 8-bit codes of 32 directions")
    axes.axhline(least, color=BAD, lw=1.2, label="least distance found")
    axes.axvspan(0, measured, color=BAD, alpha=0.15, lw=0)
    axes.annotate(
        f"only these {measured} of 5,000 rows\ncan be nearest",
        (measured, least),
        xytext=(20, -45),
        textcoords="offset points",
        color=BAD,
    )
    axes.set(xlabel="rows of the bank, by their bound (the first 400)", ylabel="distance", ylim=(0, None))
    axes.legend(loc="lower right")


def precisions(axes: Axes) -> None:
    """Draw scores of the same good images by two graphs of one model."""
    from edgead.export.calibration_images import find_calibration_images
    from edgead.export.precision import PrecisionPlan, add_precision

    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages
    from edgead.detector import Detector
    from edgead.images.files import load_image
    from edgead.synthetic import write_dataset

    with tempfile.TemporaryDirectory() as folder:
        data, model = Path(folder, "data"), Path(folder, "model")
        write_dataset(data, train_good=100, test_good=40, per_defect=1, seed=11)
        settings = {"backbone": "efficientnet_lite0", "image_size": (160, 160), "steps": 200}
        good = GoodImages(data, false_reject_rate=0.05)
        artifact = train_from_folder(good, model, settings, detector="simplenet")[0]
        add_precision(model, PrecisionPlan("int8", 0.1), find_calibration_images(artifact, data))
        scores = {}
        for precision in ("fp32", "int8"):
            with Detector.load(model, precision=precision, runtime="onnxruntime") as detector:
                found = [detector.predict(load_image(path)) for path in sorted((data / "test" / "good").iterdir())]
            scores[precision] = (np.array([verdict.image_score for verdict in found]), found[0].threshold)
    by_score = np.argsort(scores["fp32"][0])
    for (precision, (values, threshold)), colour in zip(scores.items(), (KEPT, BAD), strict=True):
        axes.scatter(range(len(values)), values[by_score], s=16, color=colour, label=precision)
        axes.axhline(threshold, color=colour, lw=1.4, ls="--", label=f"threshold of {precision}")
    print("mean shift", np.mean(scores["int8"][0] / scores["fp32"][0]) - 1)
    axes.set(xlabel="40 good images, by their score in fp32", ylabel="image score")
    axes.legend(loc="lower right")


DRAWN: dict[str, Callable[[Axes], None]] = {
    each.__name__: each
    for each in (patchcore, folds, guarantee, conformal, drift, precisions, exact_search, lights, station)
}
HEIGHTS = {"conformal": 2.2, "patchcore": 4.6}


def main(names: list[str]) -> None:
    matplotlib.rcParams.update(
        {"svg.hashsalt": "edgead", "svg.fonttype": "none", "font.family": "sans-serif", "legend.fontsize": 9}
    )
    FOLDER.mkdir(exist_ok=True)
    for name in names or DRAWN:
        figure, axes = pyplot.subplots(figsize=(7, HEIGHTS.get(name, 3.6)), layout="constrained")
        DRAWN[name](axes)
        axes.spines[["top", "right"]].set_visible(False)
        save = partial(figure.savefig, facecolor="white")
        save(FOLDER / f"{name}.svg", metadata={"Date": None})
        if "--png" in sys.argv:
            save(Path(tempfile.gettempdir()) / f"{name}.png", dpi=90)
        pyplot.close(figure)


if __name__ == "__main__":
    main([name for name in sys.argv[1:] if not name.startswith("-")])
