"""Metrics against scikit-learn, scipy, brute-force AUPRO and AUPIMO, and the AUPIMO authors' own case.

Both sides count in integers and divide in float64, so they agree to a few units in the last place times the number
of summands; 1e-9 is far above that and far below any wrong treatment of ties.
"""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgead import metrics
from edgead.metrics.partitions import adjusted_rand, jaccard_of_each

TOLERANCE = 1e-9


@st.composite
def labelled_scores(draw):
    n = draw(st.integers(2, 60))
    labels = draw(hnp.arrays(bool, n).filter(lambda a: 0 < a.sum() < len(a)))
    # A few small integers: most scores are tied.
    scores = draw(hnp.arrays(np.int64, n, elements=st.integers(-4, 12)))
    return labels, scores.astype(np.float32)


@given(labelled_scores())
@settings(max_examples=150, deadline=None)
def test_agree_with_scikit_learn(data):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    labels, scores = data
    assert metrics.auroc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=TOLERANCE)
    expected = sklearn_metrics.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(expected, abs=TOLERANCE)

    f1, threshold = metrics.f1_max(labels, scores)
    all_f1 = {t: sklearn_metrics.f1_score(labels, scores >= t) for t in np.unique(scores)}
    assert f1 == pytest.approx(max(all_f1.values()), abs=TOLERANCE)
    above = sklearn_metrics.f1_score(labels, scores.astype(np.float64) > threshold)
    assert above == pytest.approx(f1, abs=TOLERANCE)


@given(labelled_scores())
def test_auroc_depends_on_the_order_only(data):
    labels, scores = data
    value = metrics.auroc(labels, scores)
    assert metrics.auroc(labels, np.exp(scores.astype(np.float64)) * 3 - 7) == value
    assert metrics.auroc(labels, -scores) == pytest.approx(1 - value, abs=TOLERANCE)
    assert metrics.auroc(~labels, scores) == pytest.approx(1 - value, abs=TOLERANCE)


@given(labelled_scores(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(data, random):
    labels, scores = data
    order = list(range(len(labels)))
    random.shuffle(order)
    for metric in (metrics.auroc, metrics.average_precision, metrics.f1_max):
        assert metric(labels[order], scores[order]) == pytest.approx(metric(labels, scores), abs=TOLERANCE)


def test_known_values():
    assert metrics.auroc([0, 0, 1, 1], [1, 2, 3, 4]) == 1.0
    assert metrics.auroc([0, 1], [5, 5]) == 0.5
    assert metrics.f1_max([0, 0, 1, 1], [1, 2, 3, 4]) == (1.0, 2.5)
    assert metrics.average_precision([0, 1], [2, 1]) == 0.5


def images(rng, *, count=3, levels=None):
    maps, masks = [], []
    for _ in range(count):
        shape = tuple(rng.integers(5, 24, 2))
        maps.append(rng.standard_normal(shape).astype(np.float32))
        masks.append(rng.random(shape) < 0.12)
        if levels is not None:
            maps[-1] = np.floor(maps[-1] * levels).astype(np.float32)
    masks[0][2, 2], masks[0][0, 0] = True, False
    return maps, masks


def brute_force_aupro(maps, masks, limit):
    """The curve, threshold by threshold, as MVTec's evaluation code defines it."""
    ndimage = pytest.importorskip("scipy.ndimage")
    regions = []
    for index, mask in enumerate(masks):
        labelled, found = ndimage.label(mask, np.ones((3, 3)))
        regions += [(index, labelled == k) for k in range(1, found + 1)]
    normal = np.concatenate([a[~m] for a, m in zip(maps, masks, strict=True)])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([a.ravel() for a in maps]))[::-1]:
        overlap = np.mean([np.mean(maps[index][region] >= threshold) for index, region in regions])
        points.append((np.mean(normal >= threshold), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize("levels", [None, 1, 3], ids=["distinct", "many ties", "ties"])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_equals_brute_force(limit, levels):
    for seed in range(6):
        maps, masks = images(np.random.default_rng(seed), levels=levels)
        expected = brute_force_aupro(maps, masks, limit)
        assert metrics.aupro(maps, masks, limit) == pytest.approx(expected, abs=TOLERANCE)


def test_aupro_joins_regions_that_touch_at_a_corner():
    mask = np.zeros((4, 4), bool)
    mask[0, 0] = mask[1, 1] = mask[3, 3] = True
    anomaly_map = np.zeros((4, 4), np.float32)
    anomaly_map[0, 0] = anomaly_map[1, 1] = 1
    # One of two regions is found at no false positive; the other rises with the ties of all good pixels.
    assert metrics.aupro([anomaly_map], [mask], 0.3) == pytest.approx(0.5 + 0.5 * 0.15, abs=TOLERANCE)


def test_aupro_of_a_perfect_map_is_one():
    mask = np.zeros((8, 9), bool)
    mask[2:4, 3:6] = True
    assert metrics.aupro([mask.astype(np.float32)], [mask]) == pytest.approx(1.0, abs=TOLERANCE)


def test_pixel_auroc_is_the_auroc_of_all_pixels():
    for seed, levels in ((0, None), (1, 2)):
        maps, masks = images(np.random.default_rng(seed), levels=levels)
        flat = [np.concatenate([a.ravel() for a in arrays]) for arrays in (masks, maps)]
        assert metrics.pixel_auroc(maps, masks) == metrics.auroc(*flat)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 2, 7, 40, 191, 3000, 200_000])
def test_clopper_pearson_equals_scipy(n, confidence):
    beta = pytest.importorskip("scipy.stats").beta
    tail = (1 - confidence) / 2
    for k in sorted({0, 1, 3, n // 3, n // 2, n - 1, n} & set(range(n + 1))):
        low, high = metrics.clopper_pearson(k, n, confidence)
        assert low == pytest.approx(beta.ppf(tail, k, n - k + 1) if k else 0.0, abs=TOLERANCE)
        assert high == pytest.approx(beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0, abs=TOLERANCE)


@given(st.integers(1, 500), st.data())
@settings(max_examples=50, deadline=None)
def test_intervals_hold_the_rate_and_mirror(n, data):
    k = data.draw(st.integers(0, n))
    low, high = metrics.clopper_pearson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert metrics.clopper_pearson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=TOLERANCE)


def test_a_rate_reads_well():
    rate = metrics.Rate.of(3, 191)
    assert str(rate) == "3 of 191 (1.6 %, 95 % interval 0.3 to 4.5 %)"
    assert rate.rate == 3 / 191
    rate = metrics.Rate.of(1, 4, confidence=0.9)
    assert (rate.count, rate.total, rate.confidence) == (1, 4, 0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.auroc([1, 1], [0.1, 0.2]), "2 defective of 2"),
        (lambda: metrics.auroc([], []), "0 defective of 0"),
        (lambda: metrics.average_precision([0, 0, 0], [1, 2, 3]), "0 defective of 3"),
        (lambda: metrics.auroc([0, 1], [0.1, np.nan]), "1 of 2 values are NaN"),
        (lambda: metrics.f1_max([0, 1, 1], [0.1, 0.2]), r"\(3,\) and \(2,\)"),
        (lambda: metrics.aupro([np.zeros((3, 4))], [np.zeros((4, 3), bool)]), "shape"),
        (lambda: metrics.aupro([np.zeros((3, 3))], [np.zeros((3, 3), np.uint8)]), "bool mask"),
        (lambda: metrics.aupro([np.zeros((3, 3))], [np.eye(3, dtype=bool)], 0), "limit"),
        (lambda: metrics.pixel_auroc([np.zeros((3, 3))], [np.zeros((3, 3), bool)]), "0 defective of 9"),
        (lambda: metrics.pixel_auroc([np.full((3, 3), np.inf)], [np.eye(3, dtype=bool)]), "map 0: 9 of 9"),
        (lambda: metrics.pixel_auroc([], []), "0 maps"),
        (lambda: metrics.clopper_pearson(3, 2), "3 of 2"),
        (lambda: metrics.clopper_pearson(0, 0), "0 of 0"),
        (lambda: metrics.clopper_pearson(1, 2, 95), "confidence"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("levels", [None, 1, 3], ids=["distinct", "many ties", "ties"])
def test_pixels_agree_with_scikit_learn(levels):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        maps, masks = images(np.random.default_rng(seed), levels=levels)
        labels, scores = (np.concatenate([a.ravel() for a in arrays]) for arrays in (masks, maps))
        pixels = metrics.Pixels(maps, masks)
        assert pixels.auroc() == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=TOLERANCE)
        expected = sklearn_metrics.average_precision_score(labels, scores)
        assert pixels.average_precision() == pytest.approx(expected, abs=TOLERANCE)
        precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        best, threshold = pixels.f1_max()
        assert best == pytest.approx(f1.max(), abs=TOLERANCE)
        assert threshold == pytest.approx(thresholds[np.flatnonzero(f1[:-1] > f1.max() - TOLERANCE)].max())


def test_aupro_of_some_images_makes_up_the_whole():
    maps, masks = images(np.random.default_rng(3), count=4)
    pixels = metrics.Pixels(maps, masks)
    regions = [cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1 for mask in masks]
    parts = [pixels.aupro(0.3, {index}) for index in range(4)]
    assert pixels.aupro(0.3) == pytest.approx(np.average(parts, weights=regions), abs=TOLERANCE)
    with pytest.raises(ValueError, match="none of the images"):
        pixels.aupro(0.3, set())


def aupimo_by_hand():
    """The case of anomalib's and the authors' tests (tests/unit/metrics/pimo/test_pimo.py): decades of pixels.

    One normal image whose scores 7, 6, ... 1 are reached by 1, 10, ... 10^6 pixels; the same map with all pixels
    defective, and with the 100,000 highest. Their overlaps are the rate itself, and ten times it.
    """
    scores = np.ones(1_000_000, np.float32)
    for decade in range(6):
        scores[: 10**decade] += 1
    scores = scores.reshape(1000, 1000)
    half = np.zeros(1_000_000, bool)
    half[:100_000] = True
    return [scores] * 3, [np.zeros((1000, 1000), bool), np.ones((1000, 1000), bool), half.reshape(1000, 1000)]


def test_aupimo_of_the_authors_case():
    pixels = metrics.Pixels(*aupimo_by_hand())
    expected = {
        (1e-1, 1.0): ((0.1 + 1.0) / 2, (1.0 + 1.0) / 2),
        (1e-3, 1e-1): (((1e-3 + 1e-2) / 2 + (1e-2 + 1e-1) / 2) / 2, ((1e-2 + 1e-1) / 2 + (1e-1 + 1.0) / 2) / 2),
        (1e-5, 1e-4): ((1e-5 + 1e-4) / 2, (1e-4 + 1e-3) / 2),
    }
    for bounds, values in expected.items():
        found = pixels.aupimo(bounds)
        assert list(found) == [1, 2]
        assert tuple(found.values()) == pytest.approx(values, abs=TOLERANCE)


def waves():
    """Six maps of 64 x 64 without a random generator, three of them with two defects each."""
    y, x = np.mgrid[:64, :64]
    maps, masks = [], []
    for k in range(6):
        anomaly_map = np.sin(x * (0.31 + 0.07 * k) + k) + np.cos(y * (0.23 + 0.05 * k) - k)
        anomaly_map = (anomaly_map + 0.5 * np.sin(0.9 * x * y / 64 + k)).astype(np.float32)
        mask = np.zeros((64, 64), bool)
        if k >= 3:
            mask[8 * k - 16 : 8 * k, 10:30] = True
            mask[50:55, 40 + k : 50 + k] = True
        maps.append((anomaly_map + (1.2 + 0.3 * k) * mask).astype(np.float32))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize(
    ("bounds", "published"),
    [
        ((2**-8, 2**-3), (0.46682184640275315, 0.6090001049127179, 0.7584866938010674)),
        ((2**-10, 2**-6), (0.3475823129588355, 0.503027949482634, 0.6756052565591839)),
    ],
)
def test_aupimo_is_that_of_the_authors_code(bounds, published):
    """What `aupimo_scores(..., num_threshs=300_000)` of github.com/jpcbertoldo/aupimo gives for `waves`.

    It samples thresholds at even distances, and so misses some steps of the curve: hence the tolerance. The bounds are
    multiples of a pixel's share, for it integrates between the nearest rates that it has sampled.
    """
    assert tuple(metrics.Pixels(*waves()).aupimo(bounds).values()) == pytest.approx(published, abs=1e-5)


def brute_force_aupimo(maps, masks, low, high):
    """The curve of every image over all thresholds, its trapezoids in the logarithm of the rate."""
    good = [a for a, m in zip(maps, masks, strict=True) if not m.any()]
    thresholds = np.unique(np.concatenate([a.ravel() for a in maps]))[::-1]
    rates = np.array([np.mean([np.mean(a >= threshold) for a in good]) for threshold in thresholds])
    areas = {}
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        if not mask.any():
            continue
        overlap = np.array([np.mean(anomaly_map[mask] >= threshold) for threshold in thresholds])
        seen = rates > 0
        # Before the first good pixel the rate is 0: what is found there counts from the start of the axis.
        start = overlap[~seen].max(initial=0.0)
        x, y = np.log(rates[seen]), overlap[seen]
        x, y = np.concatenate([[-700.0, x[0]], x]), np.concatenate([[start, start], y])
        inner = (x > np.log(low)) & (x < np.log(high))
        at_low, at_high = _at(x, y, np.log(low), -1), _at(x, y, np.log(high), 0)
        xs = np.concatenate([[np.log(low)], x[inner], [np.log(high)]])
        ys = np.concatenate([[at_low], y[inner], [at_high]])
        areas[index] = np.sum((xs[1:] - xs[:-1]) * (ys[1:] + ys[:-1]) / 2) / np.log(high / low)
    return areas


def _at(x, y, place, end):
    """The curve at a place; where it rises there without a width, the given end of the rise."""
    return float(y[x == place][end]) if np.any(x == place) else float(np.interp(place, x, y))


@pytest.mark.parametrize("levels", [None, 1, 3], ids=["distinct", "many ties", "ties"])
@pytest.mark.parametrize("bounds", [(0.01, 0.3), (0.001, 0.05), (0.2, 1.0)])
def test_aupimo_equals_brute_force(bounds, levels):
    for seed in range(4):
        maps, masks = images(np.random.default_rng(seed), count=6, levels=levels)
        for mask in masks[3:]:
            mask[:] = False
        found, expected = metrics.Pixels(maps, masks).aupimo(bounds), brute_force_aupimo(maps, masks, *bounds)
        assert found.keys() == expected.keys()
        assert list(found.values()) == pytest.approx(list(expected.values()), abs=TOLERANCE)
        assert metrics.aupimo(maps, masks, bounds) == pytest.approx(np.mean(list(expected.values())), abs=TOLERANCE)


def test_aupimo_of_a_perfect_and_of_a_useless_map():
    mask = np.zeros((50, 50), bool)
    mask[10:20, 10:20] = True
    none = np.zeros_like(mask)
    noise = np.random.default_rng(0).random((50, 50)).astype(np.float32)
    assert metrics.aupimo([mask.astype(np.float32), none.astype(np.float32)], [mask, none]) == pytest.approx(1)
    assert metrics.aupimo([noise * mask, noise + 1], [mask, none]) == 0
    with pytest.raises(ValueError, match="without any defect"):
        metrics.aupimo([noise], [mask])
    with pytest.raises(ValueError, match="bounds"):
        metrics.aupimo([noise, noise], [mask, none], (0.0, 0.1))


def test_agreement_of_partitions_is_that_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics").adjusted_rand_score
    rng = np.random.default_rng(4)
    for kinds in (1, 2, 5):
        first, second = rng.integers(kinds, size=40), rng.integers(4, size=40)
        assert adjusted_rand(first, second) == pytest.approx(reference(first, second), abs=1e-12)
    np.testing.assert_allclose(jaccard_of_each(np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0])), [2 / 3, 1 / 2])
    # One thing: no pairs, of which none are put together otherwise.
    assert adjusted_rand(np.array([0]), np.array([0])) == 1


def test_full_resolution_takes_seconds():
    """A tenth of 583 images of 325 x 325, in processor time: other work on the machine does not count."""
    rng = np.random.default_rng(1)
    maps = list(rng.random((58, 325, 325), np.float32))
    masks = [np.zeros((325, 325), bool) for _ in maps]
    for mask in masks[20:]:
        mask[100:180, 100:200] = True
    start_s = time.process_time()
    pixels = metrics.Pixels(maps, masks)
    pixels.auroc(), pixels.average_precision(), pixels.f1_max(), pixels.aupro(0.3), pixels.aupro(0.05), pixels.aupimo()
    assert time.process_time() - start_s < 2
