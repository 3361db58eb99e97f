"""Questions with one true and three false options: they are fair, and answers are counted as VANE-Bench counts."""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import closing
from dataclasses import replace
from statistics import NormalDist
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from chat_server import ChatServer
from fakes import make_verdict
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quiz import CHANCE, QuizResult, Reply, ask_all, main, wilson
from benchmarks.quiz_questions import LETTERS, NO_ANOMALY, drawn, make_questions
from edgead.dataset.folders import DatasetError, find_test_images
from edgead.images.boxes import PLACES
from edgead_language.chat import Chat, ChatError, read_address

KINDS = ("blow_hole", "crack", "fray", "uneven")
DETECTOR = SimpleNamespace(predict=lambda image: make_verdict(0.9))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """36 good images, and of each kind nine defects, each in another ninth of the image."""
    return write_set(tmp_path_factory.mktemp("quiz"))


def write_set(folder, *, kinds=KINDS, masks=True):
    for kind in ("good", *kinds):
        (folder / "test" / kind).mkdir(parents=True)
        (folder / "ground_truth" / kind).mkdir(parents=True)
        for number in range(36 if kind == "good" else 9):
            image = np.full((60, 90, 3), 40, np.uint8)
            mask = np.zeros((60, 90), np.uint8)
            top, left = 20 * (number % 9 // 3) + 5, 30 * (number % 3) + 8
            mask[top : top + 9, left : left + 12] = 255
            cv2.imwrite(str(folder / "test" / kind / f"{number:02d}.png"), image)
            if masks and kind != "good":
                cv2.imwrite(str(folder / "ground_truth" / kind / f"{number:02d}.png"), mask)
    return folder


def questions_of(data, seed=0):
    return make_questions(find_test_images(data), data, seed)


def test_questions_have_one_true_option_of_four_from_folders_and_masks(data):
    questions, left_out = questions_of(data)
    assert left_out == [] and Counter(one.about for one in questions) == {"anomaly": 72, "kind": 36, "place": 36}
    for one in questions:
        assert len(set(one.options)) == 4 and one.letter in LETTERS
        place = PLACES[int(one.image.path.stem) % 9]
        true = {
            "kind": one.image.defect.replace("_", " "),
            "place": f"at the {place} of the image",
            "anomaly": f"Yes, there is an anomaly in the image, at the {place} of the image.",
        }[one.about]
        assert one.true == (true if one.image.is_defective else NO_ANOMALY)
        assert (NO_ANOMALY in one.options) == (one.about == "anomaly")
    assert questions[-1].text.startswith("Is there any anomaly in the image? A) ")
    assert [questions[-1].text.count(f" {letter}) ") for letter in LETTERS] == [1, 1, 1, 1]


def test_the_seed_and_the_image_alone_draw_the_options(data, tmp_path):
    ours = {(str(one.image.path.relative_to(data)), one.about): one.options for one in questions_of(data)[0]}
    again = {(str(one.image.path.relative_to(data)), one.about): one.options for one in questions_of(data)[0]}
    assert ours == again and ours != {
        (str(one.image.path.relative_to(data)), one.about): one.options for one in questions_of(data, 1)[0]
    }
    images = find_test_images(data)[10:]
    fewer = make_questions(images, data, 0)[0]
    assert all(one.options == ours[str(one.image.path.relative_to(data)), one.about] for one in fewer)
    letters = Counter(one.letter for seed in range(5) for one in questions_of(data, seed)[0])
    assert all(
        abs(letters[letter] / letters.total() - 0.25) < 0.06 for letter in LETTERS
    )  # of 720: 3.7 standard errors


def test_other_regions_of_a_mask_are_no_false_option(tmp_path):
    data = write_set(tmp_path)
    mask = np.zeros((60, 90), np.uint8)
    mask[2:18, 2:28] = mask[2:8, 40:50] = mask[50:55, 80:85] = mask[2:8, 80:85] = 255
    cv2.imwrite(str(data / "ground_truth" / "crack" / "00.png"), mask)
    for seed in range(20):
        (place,) = (
            one
            for one in questions_of(data, seed)[0]
            if one.about == "place" and one.image.path.parts[-2:] == ("crack", "00.png")
        )
        assert place.true == "at the top left of the image"
        assert not {
            "at the top of the image",
            "at the bottom right of the image",
            "at the top right of the image",
        } & set(place.options)


def test_what_cannot_be_asked_is_named(tmp_path):
    without, left_out = questions_of(write_set(tmp_path / "a", masks=False))
    assert {one.about for one in without} == {"kind"} and "no defective image has a mask" in left_out[0]
    three, left_out = questions_of(write_set(tmp_path / "b", kinds=KINDS[:3]))
    assert left_out == [] and all("no defect at all" in one.options for one in three if one.about == "kind")
    two, left_out = questions_of(write_set(tmp_path / "c", kinds=KINDS[:2]))
    assert "kind" not in {one.about for one in two} and "fewer than 3 kinds" in left_out[0]
    none, _ = questions_of(write_set(tmp_path / "d", kinds=KINDS[:2], masks=False))
    with pytest.raises(DatasetError, match="no question can be asked"):
        drawn(none, None, 0)
    assert drawn(two, 7, 3) == drawn(two, 7, 3) != drawn(two, 7, 4) and len(drawn(two, 7, 3)) == 7


@pytest.mark.parametrize(
    ("said", "letter"),
    [("A", "A"), ("A)", "A"), (" D \n", "D"), ("a", None), ("A.", None), ("AB", None), ("Answer: A", None), ("", None)]
    + [("E", None), ("A))", None), (")", None), (None, None)],
)
def test_a_letter_alone_is_an_answer(data, said, letter):
    """As VANE-Bench's calc_lmm_vqa_accuracy.py counts, but for spaces before the letter, which it does not take off."""
    assert Reply(questions_of(data)[0][0], said).letter == letter


def quizzed(questions, say, **settings):
    with closing(ChatServer(say)) as server:
        chat = Chat(read_address(server.url), timeout_s=30)
        replies = list(ask_all(DETECTOR, chat, questions, **{"heat_map": True, **settings}))
        return QuizResult(replies, (), True), server.asked


def test_one_that_always_says_a_is_as_good_as_chance_and_one_that_knows_is_always_right(data):
    questions, _ = questions_of(data)
    result, asked = quizzed(questions, lambda body: "A")
    found = result.to_dict()
    assert found["all"]["accuracy"] == sum(one.letter == "A" for one in questions) / len(questions)
    assert found["all"]["low"] < CHANCE < found["all"]["high"] and not found["all"]["above_chance"]
    letters = iter([one.letter for one in questions])
    knowing = quizzed(questions, lambda body: f"{next(letters)})")[0].to_dict()
    assert {name: row["accuracy"] for name, row in knowing["questions"].items()} == {
        "anomaly": 1,
        "kind": 1,
        "place": 1,
    }
    assert knowing["all"]["above_chance"] and knowing["all"]["low"] < 1 == knowing["all"]["high"]
    # "No" to all is right on half of the parts: an accuracy that proves nothing stands beside the one that was reached.
    assert found["questions"]["anomaly"]["by_rote"] == 0.5
    assert len(asked) == len(questions)


def test_a_question_is_asked_in_the_form_of_vane_bench_and_gives_nothing_away(data):
    questions, _ = questions_of(data)
    _, (body,) = quizzed(questions[-1:], lambda body: "A")
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (2, 0, 8)
    system, user = body["messages"]
    assert "your task is to only output single letter" in system["content"] and "with the heat map" in system["content"]
    words, image, mapped = user["content"]
    assert words == {"type": "text", "text": questions[-1].text} and image["type"] == mapped["type"] == "image_url"
    text = json.dumps([system, words])
    assert "reject" not in text and "uneven" not in text.replace(questions[-1].text, "") and "08.png" not in text
    _, (plain,) = quizzed(questions[-1:], lambda body: "A", heat_map=False)
    assert len(plain["messages"][1]["content"]) == 2 and "heat map" not in plain["messages"][0]["content"]


def test_a_failure_is_a_wrong_answer_and_three_in_a_row_end_it(data):
    questions, _ = questions_of(data)
    said = iter(["A", "", "", "A", "", "A"])
    result, _ = quizzed(questions[:6], lambda body: next(said))
    assert result.to_dict()["all"]["no_letter"] == 3 and "empty answer" in result.replies[1].to_dict()["problem"]
    with pytest.raises(ChatError, match="3 questions in a row got no answer: .*empty answer"):
        quizzed(questions[:6], lambda body: "")


def test_questions_on_one_image_count_as_one_where_they_go_together(data):
    questions = [one for one in questions_of(data)[0] if one.image.is_defective]
    right = [Reply(one, one.letter if int(one.image.path.stem) % 2 else "-") for one in questions]
    apart = [
        Reply(replace(one, image=replace(one.image, path=one.image.path / one.about)), reply.text)
        for one, reply in zip(questions, right, strict=True)
    ]
    together, single = (QuizResult(replies, (), True).to_dict()["all"] for replies in (right, apart))
    assert together["accuracy"] == single["accuracy"]
    ratio = (together["high"] - together["low"]) / (single["high"] - single["low"])
    assert ratio == pytest.approx(math.sqrt(3), rel=0.1)


@given(n=st.integers(1, 500), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilsons_bounds_are_where_the_score_test_just_rejects(n, share, confidence):
    count = round(share * n)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = wilson(count, n, confidence)
    assert 0 <= low <= count / n <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            assert abs(count / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), rel=1e-6, abs=1e-12)


def test_wilson_refuses_what_is_no_rate():
    for count, n in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="a rate needs"):
            wilson(count, n)


def test_the_benchmark_quizzes_a_server_over_a_data_set(trained_model, line_data, tmp_path, capsys):
    with closing(ChatServer(lambda body: "B")) as server:
        given = map(str, (trained_model, line_data, "-o", tmp_path / "replies.csv"))
        options = [*given, "--endpoint", server.url, "--most", "12", "--seed", "3"]
        main([*options, "--json"])
        found = json.loads(capsys.readouterr().out)
        assert found["all"]["asked"] == len(server.asked) == 12 and found["language_model"] == "stub-vl"
        assert "is its own group" in found["groups_account"]
        main(options)
    assert "12 questions with four options, with the heat map; chance is 0.25" in capsys.readouterr().out
    assert (tmp_path / "replies.csv").read_text().startswith("image,about,Q,A,model_words,right")


def test_replies_that_came_before_the_end_of_a_quiz_are_kept(trained_model, line_data, tmp_path):
    said = iter(["A", "B", *[""] * 3])
    with closing(ChatServer(lambda body: next(said))) as server:
        given = map(str, (trained_model, line_data, "-o", tmp_path / "replies.jsonl"))
        with pytest.raises(ChatError, match="3 questions in a row got no answer"):
            main([*given, "--endpoint", server.url])
    rows = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines()]
    assert [row["model_words"] for row in rows] == ["A", "B", None, None, None]
