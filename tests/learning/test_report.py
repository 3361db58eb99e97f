"""The report: its numbers, its charts, and the page in a real browser and on paper."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from math import comb
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import opened_page
from playwright.sync_api import expect
from typer.testing import CliRunner

from edgead.calibration.cause_of_rejects import beta_binomial_tail
from edgead.calibration.conformal import calibrate
from edgead.cli.app import app
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.html.charts import Axis, Chart
from edgead.metrics import Pixels, aupro
from edgead.metrics.rates import clopper_pearson
from edgead.report import examine, report_page
from edgead.report.evaluate import evaluate
from edgead.report.guarantee import examine_guarantee
from edgead.report.limit_choice import between, examine_limits


@pytest.fixture(scope="module")
def data(line_data, tmp_path_factory):
    """The test set of the line, one of whose types has a name that HTML would take for a tag."""
    folder = tmp_path_factory.mktemp("report") / "data"
    shutil.copytree(line_data, folder)
    for part in ("test", "ground_truth"):
        (folder / part / "crack").rename(folder / part / "<i>crack & dent")
    return folder


@pytest.fixture(scope="module")
def page(trained_model, data):
    path = data.parent / "report.html"
    reported = CliRunner().invoke(app, ["report", str(trained_model), str(data), "-o", str(path), "--json"])
    assert reported.exit_code == 0, reported.output
    return path, json.loads(reported.stdout)


@pytest.fixture(scope="module")
def examined(trained_model, data):
    """The findings, and the page of them."""
    with Detector.load(trained_model) as detector:
        found = examine(detector, evaluate(detector, find_test_images(data)))
        return found, report_page(detector, found, model="m", data="d")


class Read(HTMLParser):
    """All text, and everything that a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.words: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_stands_alone_and_is_small(page):
    path, _ = page
    text = path.read_text(encoding="utf-8")
    read = Read(text)
    assert len(text) < 2_000_000
    assert read.fetched and all(source.startswith("data:image/jpeg;base64,") for source in read.fetched)
    assert "link" not in read.tags and "url(" not in text


def test_the_page_tells_what_eval_tells(page):
    path, reported = page
    words = " ".join(Read(path.read_text(encoding="utf-8")).words)
    for name in ("image_AUROC", "pixel_AUROC", "AUPRO", "AUPIMO"):
        assert f"{reported[name]:.4f}" in words
    for rate, what in ((reported["false_reject_rate"], "rejected"), (reported["escape_rate"], "passed as ok")):
        assert f"{rate['count']} of {rate['total']}" in words
        assert what in words
    assert "<i>crack & dent" in words  # as text
    assert "Cramér-von Mises" in words and "Clopper-Pearson" in words and "manifest sha256" in words


def test_decisions_add_up_and_the_worst_come_first(examined, data):
    images = find_test_images(data)
    found, page = examined
    assert sum(sum(count.decisions.values()) for count in found.types) == len(images)
    assert found.latency["total"].n == len(images) == found.totals_ms.size
    misses, rejects = found.misses(), found.evaluation.false_rejects()
    assert all(one.image_score <= other.image_score <= found.calibration.reject for one, other in pairwise(misses))
    assert all(one.image_score >= other.image_score > found.calibration.reject for one, other in pairwise(rejects))
    shown = min(len(misses), 8) or 4, min(len(rejects), 8) or 4
    assert Read(page).tags.count("img") == 2 * sum(shown)


def test_without_masks_the_page_says_so(trained_model, data, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(data / "test", bare / "test")
    with Detector.load(trained_model) as detector:
        page = report_page(detector, examine(detector, evaluate(detector, find_test_images(bare))), model="m", data="d")
    assert "The test set has no masks" in page
    assert "AUPRO" not in page and "pixel AUROC" not in page


def test_what_has_masks_is_measured_by_pixel(trained_model, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    masks = sorted((tmp_path / "data" / "ground_truth").rglob("*_mask.png"))
    masks[0].unlink()
    with Detector.load(trained_model) as detector:
        found = examine(detector, evaluate(detector, find_test_images(tmp_path / "data")))
        page = report_page(detector, found, model="m", data="d")
    assert f"{len(masks) - 1} of {len(masks)} defects have masks" in page
    types = found.metrics["defect_types"]
    assert types.pop(masks[0].parent.name)["AUPRO"] is None
    assert all(one["AUPRO"] is not None for one in types.values()) and found.metrics["AUPRO"] is not None


def test_what_is_counted_stands_beside_the_limit_and_what_another_would_do(examined):
    found, page = examined
    assert f"at the limit in force: score 100, raw {found.calibration.reject:.6g}. It is for about " in page
    good, defect = found.scores(good=True).max(), found.scores(good=False).min()
    said = re.search("The (lowest defect|limit in force) [^<]*", page)
    assert said
    in_force = good <= found.calibration.reject < defect
    other = "would make no mistake" if good < defect else "every limit makes a mistake"
    assert ("makes no mistake on these" if in_force else other) in said[0]


def test_each_limit_counts_what_it_would_reject(examined):
    found, _ = examined
    steps = examine_limits(found)
    assert [step.limit for step in steps].count(found.calibration.reject) == 1
    assert all(one.limit < other.limit for one, other in pairwise(steps))
    good, defective = found.scores(good=True), found.scores(good=False)
    for step in steps:
        assert step.calibrated.count == sum(score > step.limit for score in found.calibration.scores)
        assert (step.good.count, step.found.count) == ((good > step.limit).sum(), (defective > step.limit).sum())
        assert sum(rate.count for rate in step.types.values()) == step.found.count
        assert (step.good.low, step.good.high) == clopper_pearson(step.good.count, step.good.total)
    assert 2 * steps[0].calibrated.count <= len(found.calibration.scores)  # begins at the typical part
    assert steps[-1].found.count == steps[-1].good.count == 0


@pytest.mark.parametrize(
    ("low", "high", "limit"),
    [(1.0, 2.0, 1.5), (0.1234, 0.1236, 0.1235), (-3.0, -1.0, -2.0), (1.0, 1.0000001, 1.00000005), (2.0, 2.0, 2.0)],
)
def test_a_limit_between_two_scores_has_few_digits(low, high, limit):
    assert between(low, high) == limit


def test_the_slider_says_what_a_limit_would_do_and_how_to_set_it(browser, examined, tmp_path):
    found, page = examined
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    with opened_page(browser, (tmp_path / "report.html").as_uri()) as opened:
        slider, cells = opened.locator("#limit"), opened.locator("#limits td:last-child")
        expect(opened.locator("#limit-scaled")).to_have_text("100")
        expect(opened.locator("#limit-raw")).to_contain_text("in force")
        place = opened.locator("#limit-dot").get_attribute("cy")
        slider.focus()
        slider.press("End")
        defects = len(found.of(good=False))
        expect(cells.nth(3)).to_have_text(re.compile(f"^0 of {defects} "))
        expect(cells.nth(1)).to_have_text(re.compile("^0 of "))
        assert opened.locator("#limit-dot").get_attribute("cy") != place
        line = shlex.split(opened.locator("#limit-line").inner_text())
        assert line[:2] == ["edgead", "calibrate"] and line[3] == "--reject"
        assert max(found.scores(good=False)) < float(line[4]) == float(line[6])


def test_without_scripts_the_limits_are_a_table(browser, examined, tmp_path):
    found, page = examined
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    uri = (tmp_path / "report.html").as_uri()
    with opened_page(browser, uri, java_script_enabled=False) as opened:
        expect(opened.locator("#limits")).to_be_hidden()
        expect(opened.locator(".wraps td").filter(has_text="100, in force")).to_be_visible()


def test_the_chance_of_a_count_by_hand():
    # A rate from a uniform distribution makes every count equally likely.
    assert beta_binomial_tail(3, 9, 1, 1) == pytest.approx(7 / 10)
    # One calibration image, threshold at it: of two more, both are above with 1/3.
    assert beta_binomial_tail(2, 2, 1, 1) == pytest.approx(1 / 3)
    # 4 of 10 calibration scores above the threshold: all orders of 12 scores are equally likely.
    expected = sum(comb(k + 3, k) * comb(2 - k + 6, 2 - k) for k in (1, 2)) / comb(12, 2)
    assert beta_binomial_tail(1, 2, 4, 7) == pytest.approx(expected)
    assert beta_binomial_tail(0, 500, 2, 90) == pytest.approx(1)


def test_what_counts_say_of_a_guarantee_and_what_they_cannot():
    scores = np.random.default_rng(0).normal(1, 0.1, 99)
    limits = calibrate(scores, scores, scores, false_reject_rate=0.05)

    def said(rejected, total, limits=limits):
        return examine_guarantee(limits, "rejected", 0.05, [True] * rejected + [False] * (total - rejected)).verdict

    assert said(0, 100) == "kept"
    assert said(0, 14) == "compatible with 5 %; 14 parts leave up to 23 % possible"
    assert said(2, 14) == "14 % of 14; compatible with 5 % (chance 16 %): too few to tell"
    broken = examine_guarantee(limits, "rejected", 0.05, [True] * 20 + [False] * 80)
    assert broken.probability < 0.01 and broken.refuted and broken.verdict.startswith("not kept")
    assert broken.comparison == "for at most 5 % false rejects, and rejects 20 % of these good parts"
    assert not examine_guarantee(limits, "rejected", 0.05, [True] * 2 + [False] * 12).refuted
    by_hand = limits.model_copy(update={"method": "by_hand"})
    assert said(20, 100, by_hand) == "more than the 5 % that are expected"
    assert said(0, 100, by_hand) == "as expected"
    assert said(2, 14, by_hand) == "14 % of 14; compatible with 5 %: too few to tell"


def test_the_area_under_the_drawn_curve_is_aupro():
    rng = np.random.default_rng(1)
    masks = [rng.random((60, 60)) < 0.02 for _ in range(6)]
    maps = [(rng.normal(0, 1, mask.shape) + 1.5 * mask).astype(np.float32) for mask in masks]
    rates, overlaps = Pixels(maps, masks).pro_curve()
    grid = np.linspace(0, 0.3, 30_001)
    drawn = np.interp(grid, np.append(0, rates), np.append(0, overlaps))
    assert drawn.mean() == pytest.approx(aupro(maps, masks, 0.3), abs=2e-3)
    assert np.all(np.diff(rates) > 0) and overlaps[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 1, ""), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(-23, 31, ""), [-20, -10, 0, 10, 20, 30]),
        (Axis(0.7, 150, "", logarithmic=True), [1, 2, 5, 10, 20, 50, 100]),
        (Axis(3, 3, ""), [3]),
    ],
)
def test_axes_have_round_ticks(axis, ticks):
    assert axis.ticks() == ticks


def test_a_chart_is_well_formed_and_keeps_within_its_frame():
    chart = Chart(Axis(0, 10, "a < b"), Axis(1, 100, "n & m", logarithmic=True), 'reported "so"')
    chart.bars([0, 5, 10], [0, 100], "good")
    chart.line(range(5000), np.ones(5000), "soft")
    chart.mark(9, "warn", "<limit>")
    chart.point(5, 10, "bad", "here")
    chart.legend([("good", "one")])
    root = ElementTree.fromstring(chart.svg())
    names = {"{*}rect": 1, "{*}circle": 1}
    assert {name: len(root.findall(name)) for name in names} == names
    bar = root.find("{*}rect")
    assert bar is not None and float(bar.get("y", "")) == pytest.approx(14)
    assert len(chart.svg()) < 20_000  # 5,000 points are thinned


def test_the_page_in_a_browser(browser, page):
    path, _ = page
    for options in ({"width": 1200, "height": 900}, {"width": 390, "height": 800}):
        for scheme in ("light", "dark"):
            with opened_page(browser, path.as_uri(), viewport=options, color_scheme=scheme) as opened:
                assert opened.evaluate("document.documentElement.scrollWidth") <= options["width"]
                shown = opened.evaluate("[...document.images].map(image => image.naturalWidth)")
                assert shown and all(width > 0 for width in shown)
                assert opened.locator("svg.chart").count() == 6
                narrow = opened.evaluate(
                    "[...document.querySelectorAll('svg.chart')].map(svg => svg.getBoundingClientRect().width)"
                )
                assert min(narrow) > 300
                ink, paper = opened.evaluate(
                    "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])"
                )
                assert (sum(map(int, ink[4:-1].split(","))) > sum(map(int, paper[4:-1].split(",")))) == (
                    scheme == "dark"
                )
                if scheme == "dark":
                    printed = opened.pdf(prefer_css_page_size=True)
                    assert printed.startswith(b"%PDF") and 1 <= printed.count(b"/Type /Page\n") <= 8
