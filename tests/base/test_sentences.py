"""A reject in words: every number and name of the sentence is in the record, in every language; and nothing else."""

from __future__ import annotations

import json
import math
import re
import string
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import run_here
from fakes import make_verdict
from hypothesis import given
from hypothesis import strategies as st
from verdicts import Line

from edgead import serialization
from edgead.cli import console
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.boxes import find_boxes, place_in
from edgead.report import examine, report_page
from edgead.report.evaluate import evaluate
from edgead.serialization import VerdictCounts, checked_language, language_names, preferred_language, sentence
from edgead.types import scaled_score, score_text, score_texts

LANGUAGES = tuple(language_names())
TABLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in (Path(serialization.__file__).parent / "languages").glob("*.json")
}
PLACES = tuple(TABLES["en"]["places"])
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?")

scores = st.floats(-1e9, 1e9)
sizes = st.integers(1, 20_000)
boxes = st.fixed_dictionaries(
    {"x": sizes, "y": sizes, "peak": st.none() | scores},
    optional={"width": sizes, "height": sizes, "place": st.sampled_from(["", *PLACES])},
)
records = st.fixed_dictionaries(
    {"decision": st.sampled_from(["reject", "review"])},
    optional={
        "image_score": st.none() | st.floats(-1e300, 1e300) | st.sampled_from([math.inf, -math.inf, math.nan]),
        "threshold": st.none() | scores,
        "review_threshold": st.none() | scores,
        "typical_score": st.none() | scores,
        "p_value": st.none() | st.floats(0, 1),
        "kind": st.none() | st.just("unknown kind") | st.text(string.ascii_letters + " -", min_size=1, max_size=20),
        "measured": st.none() | st.dictionaries(st.sampled_from(["push_mm", "alignment"]), scores),
        "boxes": st.lists(boxes, max_size=4),
        "pipeline": st.just("caps 77"),
        "number": st.just(4711),
    },
)
counts = st.none() | st.builds(
    VerdictCounts,
    st.dictionaries(st.sampled_from(["ok", "reject", "review"]), st.integers(0, 10**6)),
    st.dictionaries(st.just("scratch"), st.integers(0, 10**6)),
    st.sampled_from(["today", "run"]),
)


def leaves(table):
    return [leaf for value in table.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def allowed_numbers(record, counted):
    """The numbers that may be said of a record, each with how near to it what is said must be."""
    found = [(float(box.get(side, 0)), 0.0) for box in record.get("boxes", ()) for side in ("width", "height")]
    found.append((float(len(record.get("boxes", ()))), 0.0))
    push = abs((record.get("measured") or {}).get("push_mm", 0.0))
    found.append((push, 0.05 * push))  # two digits
    for name in ("image_score", "threshold", "review_threshold"):
        value = record.get(name)
        if value is not None and math.isfinite(value):
            found.append((value, 5e-4 * abs(value)))  # four digits
            if (scaled := scaled_score(value, record.get("typical_score"), record.get("threshold"))) is not None:
                found += [(scaled, 0.5), (max(scaled, 0.0), 0.5)]
    if counted is not None:
        found += [(float(count), 0.0) for count in (*counted.decisions.values(), *counted.kinds.values())]
    return found


def rarities(record):
    p = record.get("p_value")
    return {math.floor(1 / p * (1 + 1e-12)), math.ceil(100 * p - 1e-9), 1} if p and p > 1e-13 else set()


@pytest.mark.parametrize("language", LANGUAGES)
@given(record=records, counted=counts)
def test_all_that_is_said_is_in_the_record(language, record, counted):
    said = sentence(record, language, counted)
    kind = " ".join((record.get("kind") or "").split())
    rest = said.replace(f": {kind}", ":", 1) if kind and kind != "unknown kind" else said
    known = allowed_numbers(record, counted)
    for text in NUMBER.findall(rest):
        number = float(text.replace(TABLES[language]["decimal"], "."))
        assert number in rarities(record) or any(abs(number - value) <= off for value, off in known), (text, said)
    words = set(re.findall(r"[^\W\d]+", NUMBER.sub(" ", rest)))
    in_table = re.findall(r"[^\W\d]+", " ".join(re.sub(r"\{\w+\}", " ", leaf) for leaf in leaves(TABLES[language])))
    assert words <= set(in_table), words - set(in_table)


@given(record=records, counted=counts)
def test_scores_are_on_the_right_side_of_what_is_said_to_be_their_limit(record, counted):
    if record.get("image_score") is not None and not math.isfinite(record["image_score"]):
        assert "score" not in sentence({**record, "p_value": None, "kind": None})
        return
    limit = record.get("threshold" if record["decision"] == "reject" else "review_threshold")
    found = re.search(r"score (\S+) \(limit(?: of review)? (\S+)\)", sentence(record, "en", counted))
    assert (found is not None) == (record.get("image_score") is not None and limit is not None)
    if found and record["image_score"] != limit:
        score, shown = (float(text) for text in found.groups())
        assert (score > shown) == (record["image_score"] > limit)


@given(p=st.floats(1e-12, 1, exclude_max=True))
def test_what_is_said_of_rarity_is_true_where_the_p_value_is(p):
    said = sentence({"decision": "reject", "p_value": p})
    (number,) = (int(text) for text in re.findall(r"1 good part in (\d+)|(\d+) %", said)[0] if text)
    stated = number / 100 if "%" in said else 1 / number
    assert stated >= p * (1 - 1e-11) and stated <= 1.12 * p + 0.01


def test_every_missing_fact_makes_the_sentence_shorter():
    record = {
        "decision": "reject",
        "kind": "scratch",
        "image_score": 3.1,
        "threshold": 2.6,
        "p_value": 1 / 900,
        "boxes": [
            {"width": 9, "height": 9, "peak": 1.0, "place": "left"},
            {"width": 41, "height": 6, "peak": 3.4, "place": "top right"},
        ],
    }
    counted = VerdictCounts({"reject": 20}, {"scratch": 14})
    whole = sentence(record, "en", counted)
    assert whole == (
        "Reject: scratch, 41 x 6 px, top right, the strongest of 2 regions; score 3.1 (limit 2.6); "
        "at most 1 good part in 900 scores so high; 14 such today."
    )
    assert sentence({**record, "kind": None}, "en", counted).endswith("; 20 rejects today.")
    for missing in ("kind", "image_score", "threshold", "p_value", "boxes"):
        assert len(sentence({key: value for key, value in record.items() if key != missing}, "en")) < len(whole)
    assert sentence({"decision": "review"}, "de") == "Nachprüfung."
    assert sentence({**record, "decision": "ok"}) == sentence({}) == ""


def test_a_reject_without_any_box_says_so():
    record = {"decision": "review", "image_score": 0.45, "review_threshold": 0.4, "threshold": 0.5, "boxes": []}
    assert sentence(record) == "Review: no single spot stands out; score 0.45 (limit of review 0.4)."


def test_limits_that_four_digits_do_not_tell_from_the_score_get_more():
    assert sentence({"decision": "reject", "image_score": 2.60001, "threshold": 2.6}, "de") == (
        "Ausschuss: Wert 2,60001 (Grenze 2,6)."
    )
    assert "score 0.00001234" in sentence({"decision": "reject", "image_score": 1.234e-5})


def test_a_name_of_a_kind_stays_on_the_line_and_fills_no_place_of_the_sentence():
    assert sentence({"decision": "reject", "kind": "a\n\x1b[31m{score}  b"}) == "Reject: a [31m{score} b."


def test_parts_of_unknown_kind_are_not_counted_as_like_each_other():
    counted = VerdictCounts({"reject": 3}, {"unknown kind": 2})
    assert sentence({"decision": "reject", "kind": "unknown kind"}, "en", counted) == (
        "Reject: unknown kind; 3 rejects today."
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_key_with_the_same_places_to_fill(language):
    def shape(table):
        return {
            key: shape(value) if isinstance(value, dict) else sorted(re.findall(r"\{\w+\}", value))
            for key, value in table.items()
        }

    assert shape(TABLES[language]) == shape(TABLES["en"])
    assert len(TABLES) >= 2 and all(leaf.strip() == leaf != "" for leaf in leaves(TABLES[language]))


def test_places_are_the_ninths_of_the_frame():
    assert [place_in((x, y), (60, 90)) for y in (1, 30, 59) for x in (1, 45, 89)] == list(PLACES)
    assert place_in((30, 20), (60, 90)) == "top left"


@pytest.mark.parametrize(
    ("score", "typical", "limit", "text"),
    [
        (0.75, 0.5, 1.0, "50"),
        (0.2, 0.5, 1.0, "0"),  # more usual than the typical part
        (9.0, 0.5, 1.0, "1700"),
        (1.002, 0.5, 1.0, "100.4"),  # never rounded onto the limit
        (0.9999, 0.5, 1.0, "99.98"),
        (1.0, 0.5, 1.0, "100"),
        (-3.5, -4.0, -3.0, "50"),
        (0.75, None, 1.0, "0.75"),
        (0.75, 1.0, 1.0, "0.75"),
        (1.0001e-5, None, 1.0, "0.00001"),
    ],
)
def test_a_score_is_read_on_a_scale_from_the_typical_part_to_the_limit(score, typical, limit, text):
    assert score_text(score, typical, limit) == text


@given(st.floats(-10, 10), st.floats(1e-3, 10), st.floats(-1, 20))
def test_the_score_of_a_verdict_is_above_100_where_it_rejects_alone(typical, reach, of_reach):
    limit, score = typical + reach, typical + of_reach * reach
    verdict = replace(make_verdict(score), typical_score=typical, threshold=limit)
    assert verdict.to_dict()["score"] == verdict.score == scaled_score(score, typical, limit)
    assert verdict.score <= 100 if score <= limit else verdict.score >= 100
    assert replace(verdict, image_score=limit).score == 100
    assert replace(verdict, typical_score=None).score is None is replace(verdict, typical_score=limit).score


def test_a_limit_of_review_below_the_typical_part_differs_from_the_score():
    assert score_texts(0.4, 0.3, 0.5, 1.0) == ("-20", "-40")


def test_a_sentence_says_a_score_on_the_scale_of_its_model():
    record = {"decision": "review", "image_score": 0.8, "review_threshold": 0.7, "threshold": 1.0, "typical_score": 0.5}
    assert sentence(record) == "Review: score 60 (limit of review 40)."
    assert sentence({**record, "image_score": 0.701}) == "Review: score 40.2 (limit of review 40)."
    reject = {**record, "decision": "reject", "image_score": 1.001}
    assert sentence(reject, "de") == "Ausschuss: Wert 100,2 (Grenze 100)."


def test_boxes_of_a_region_know_their_place_in_the_whole_frame():
    anomaly_map = np.zeros((10, 10), np.float32)
    anomaly_map[0, 0], anomaly_map[9, 9] = 3, 2
    region, frame = (60, 0, 30, 60), (60, 90)
    assert [box.place for box in find_boxes(anomaly_map, 1, region, frame)] == ["top right", "bottom right"]
    assert [box.place for box in find_boxes(anomaly_map, 1, region)] == ["", ""]


def test_the_last_reject_is_said_once_a_second_on_a_terminal(monkeypatch, capsys):
    times = iter((0.0, 0.5, 0.9, 1.1, 2.2, 2.3))
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(type(console.stderr), "is_terminal", True)
    line, say = Line(), console.FrameCount("de")
    for score in (0.9, 0.8, 0.1, 0.1, 0.9):
        say(*line.part(score))
    words = "frame 1: Ausschuss: 40 x 20 px; Wert 0,8 (Grenze 0,5); in diesem Lauf 2 Ausschussteile."
    assert capsys.readouterr().err.replace("\r", "\n").splitlines() == [
        words,
        "frame 2: 1 ok, 2 reject",
        "frame 3: 2 ok, 2 reject",
    ]


def test_predict_says_each_reject_in_words(trained_model, line_data):
    result = run_here("predict", trained_model, line_data / "test", "--language", "de")
    rows = json.loads(run_here("predict", trained_model, line_data / "test", "--json").stdout)["images"]
    flagged = [row for row in rows if row["decision"] != "ok"]
    assert flagged and all(box["place"] in PLACES for row in flagged for box in row["boxes"])
    for row in flagged:
        # How rare such a score is stands there only where it differs from the others'.
        said = sentence({**row, "p_value": None}, "de").rstrip(".")
        assert f"{Path(row['image']).relative_to(line_data / 'test')}: {said}" in result.stdout
    assert result.stdout.count("Ausschuss: ") + result.stdout.count("Nachprüfung: ") == len(flagged)
    refused = run_here("predict", trained_model, line_data / "test", "--language", "tlh")
    assert refused.returncode == 2 and "there is no language 'tlh': known are de, en" in refused.stderr


def test_a_report_says_each_reject_in_words(trained_model, line_data):
    images = find_test_images(line_data)
    with Detector.load(trained_model) as detector:
        detector.set_thresholds(review=0, reject=0)  # so that good parts are shown as false rejects
        page = report_page(detector, examine(detector, evaluate(detector, images)), model="m", data="d")
        for image in images:
            words = sentence(detector.predict(image.path).to_dict())
            caption = re.search(rf"<b>{image.defect}/{image.path.name}</b>(.*?)</figcaption>", page)
            if caption:
                assert unescape(caption[1]) == f" {words}" if words else caption[1].startswith(" ok, score ")
    assert page.count("</b> Reject: ") == 8 + 4  # and the defects that are nearest to the threshold


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("de", "de"),
        ("de-CH, en;q=0.9", "de"),
        ("en;q=0.8, de;q=0.9", "de"),
        ("en, de", "en"),
        ("fr", "en"),
        ("", "en"),
        ("de;q=0", "en"),
        ("de;q=x, *", "en"),
        (",;,;q=", "en"),
    ],
)
def test_a_browser_says_which_language_it_wants(header, code):
    assert preferred_language(header) == code


def test_an_unknown_language_is_refused_with_those_that_there_are():
    assert checked_language("de_DE") == "de"
    with pytest.raises(SettingsError, match="there is no language 'klingon': known are de, en"):
        sentence({"decision": "reject"}, "klingon")


@pytest.mark.parametrize("cells", [7, 56, 224, 240, 336, 392, 416, 448])
@pytest.mark.parametrize("pixels", [29, 40, 900, 1000, 1944, 3036, 3648])
def test_a_box_never_sticks_out_of_its_frame(cells, pixels):
    (box,) = find_boxes(np.ones((cells, cells), np.float32), 0.5, (3, 5, pixels, pixels + 1))
    assert (box.x, box.y, box.width, box.height) == (3, 5, pixels, pixels + 1)
