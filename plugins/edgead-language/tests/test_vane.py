"""VANE-Bench's clips: its files are read, questions are asked with all frames in order, answers counted as there."""

from __future__ import annotations

import base64
import json
import math
from contextlib import closing
from statistics import NormalDist

import cv2
import numpy as np
import pytest
from chat_server import ChatServer
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.vane import ClipQuestion, ClipReply, letter_of, main, read_questions, summary, wilson
from edgead.dataset.folders import DatasetError
from edgead_language.chat import ChatError


def write_clip(folder, name, answers, frames=(2, 10, 9)):
    (folder / name).mkdir(parents=True)
    for number in frames:
        cv2.imwrite(str(folder / name / f"frame_{number}.jpg"), np.full((16, 24, 3), 20 * number, np.uint8))
    rows = [{"Q": f"What is odd in {name}? A) a B) b C) c D) d", "A": answer} for answer in answers]
    (folder / f"{name}_qa.txt").write_text(str(rows))
    return folder


@pytest.fixture
def clips(tmp_path):
    write_clip(tmp_path / "SORA", "video_10_subset_1", ["A)"])
    return write_clip(tmp_path / "SORA", "video_2_subset_1", ["B)", "C"])


def test_clips_come_in_the_order_of_their_numbers_with_their_answers(clips):
    found = [(one.clip.name, one.letter) for one in read_questions(clips)]
    assert found == [("video_2_subset_1", "B"), ("video_2_subset_1", "C"), ("video_10_subset_1", "A")]


def test_all_frames_are_sent_in_order_and_predictions_count_as_in_the_authors_script(clips, tmp_path, capsys):
    said = iter(["B", "it is\nC", "A)"])
    with closing(ChatServer(lambda body: next(said))) as server:
        main([str(clips), "--endpoint", server.url, "-o", str(tmp_path / "out")])
        asked = server.asked
    found = json.loads(capsys.readouterr().out)
    assert (found["asked"], found["right"], found["clips"], found["no_letter"]) == (3, 2, 2, 1)
    assert found["low"] < found["accuracy"] < found["high"] and found["accuracy"] == pytest.approx(2 / 3)
    system, user = asked[0]["messages"]
    assert "3 consecutive frames from a video" in system["content"] and "given input video." in system["content"]
    text, *images = user["content"]
    assert text["text"].startswith("What is odd in video_2_subset_1?") and len(images) == 3
    first, _, last = (image["image_url"]["url"] for image in images)
    assert brightness(first) == pytest.approx(40, abs=2) and brightness(last) == pytest.approx(200, abs=2)
    assert (asked[0]["max_tokens"], asked[0]["temperature"]) == (2, 0)
    assert (tmp_path / "out" / "video_2_subset_1_preds.txt").read_text() == "B\tB\nC\tit is C\n"
    assert (tmp_path / "out" / "video_10_subset_1_preds.txt").read_text() == "A\tA)\n"


def brightness(url):
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return float(cv2.imdecode(data, cv2.IMREAD_COLOR).mean())


def test_an_interval_of_questions_on_one_clip_is_wider(tmp_path):
    def of(clips):
        replies = [ClipReply(ClipQuestion(tmp_path / clip, "", "A"), "A" if clip < "d" else "B") for clip in clips]
        return summary(replies)

    alone, together = of("abcdefgh"), of("aabbccdd")
    assert alone["by_rote"] == 1 and together["high"] - together["low"] > alone["high"] - alone["low"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{'Q': 'odd?'}]", "no list of questions"),
        ("[{'Q': 'odd?', 'A': 'yes'}]", "'yes' is no letter"),
        ("(", "no list"),
    ],
)
def test_files_that_are_no_questions_are_named(clips, text, message):
    (clips / "video_2_subset_1_qa.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_questions(clips)


def test_missing_questions_and_clips_are_named(clips, tmp_path):
    (clips / "video_2_subset_1_qa.txt").unlink()
    with pytest.raises(DatasetError, match="video_2_subset_1_qa.txt is missing"):
        read_questions(clips)
    with pytest.raises(DatasetError, match="no clips found"):
        read_questions(tmp_path)


@pytest.mark.parametrize(
    ("said", "letter"),
    [("A", "A"), ("A)", "A"), (" D \n", "D"), ("a", None), ("A.", None), ("AB", None), ("Answer: A", None), ("", None)]
    + [("E", None), ("A))", None), (")", None)],
)
def test_a_letter_alone_is_an_answer(said, letter):
    """As VANE-Bench's calc_lmm_vqa_accuracy.py counts, but for spaces before the letter, which it does not take off."""
    assert letter_of(said) == letter


def test_three_questions_in_a_row_without_an_answer_end_it_and_what_was_said_is_kept(clips, tmp_path):
    write_clip(clips, "video_11_subset_1", ["D"])
    said = iter(["B", "", "", ""])
    with closing(ChatServer(lambda body: next(said))) as server:
        with pytest.raises(ChatError, match="3 questions in a row got no answer: .*empty answer"):
            main([str(clips), "--endpoint", server.url, "-o", str(tmp_path / "out")])
    assert (tmp_path / "out" / "video_2_subset_1_preds.txt").read_text() == "B\tB\nC\t-\n"


@given(n=st.integers(1, 500), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilsons_bounds_are_where_the_score_test_just_rejects(n, share, confidence):
    count = round(share * n)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = wilson(count, n, confidence)
    assert 0 <= low <= count / n <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            assert abs(count / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), rel=1e-6, abs=1e-12)
