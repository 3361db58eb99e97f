"""Boxes of FiLo: which count, the place that they give, and what lies outside, as in the authors' code."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import filo_authors as authors  # noqa: E402
from authors import authors_numbers  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead_foundation.filo import boxes as filo_boxes  # noqa: E402
from edgead_foundation.filo.boxes import GroundingDino, Located, choose_boxes, judge_located  # noqa: E402

THEIRS = {name.removeprefix("boxes/"): value for name, value in authors_numbers("filo").items() if "boxes/" in name}
SIDE = (518, 518)


def located(number):
    logits, boxes = map(torch.from_numpy, authors.draw_boxes(number))
    tokenizer = authors.WordTokenizer()
    tokens = torch.tensor(tokenizer(" . ".join(authors.CAPTION) + ".")["input_ids"])
    return choose_boxes(
        logits.sigmoid(),
        boxes,
        lambda places: tokenizer.decode(tokens[places].tolist()),
        authors.CAPTION,
        threshold=authors.THRESHOLD,
    )


def found(number):
    one = located(number)
    return one.place, int((~one.inside(SIDE)).sum())


def theirs():
    return [
        (str(place) or "all", int(count)) for place, count in zip(THEIRS["positions"], THEIRS["outside"], strict=True)
    ]


def test_boxes_count_as_in_the_authors_code():
    assert [found(number) for number in range(len(THEIRS["positions"]))] == theirs()
    assert any(count == SIDE[0] * SIDE[1] for _, count in theirs()), "none without a box"


TURNED = {
    "larger boxes": ("LARGEST", 2.0),
    "any phrase": ("_names", lambda phrase, words: True),
    "places moved": ("_THIRDS", ((0, 100), (101, 400), (401, 517))),
}


@pytest.mark.parametrize("turned", TURNED)
def test_one_thing_turned_is_seen(turned, monkeypatch):
    monkeypatch.setattr(filo_boxes, *TURNED[turned])
    assert [found(number) for number in range(len(THEIRS["positions"]))] != theirs()


def test_between_two_places_all_are_meant():
    box = torch.tensor([[172.5 / 518, 0.5, 0.1, 0.1]])
    one = choose_boxes(torch.tensor([[0.0, 0.9]]), box, lambda places: "defect", ["defect"], threshold=0.25)
    assert one.place == "all" and one.phrases == ("defect",)


class Words:
    """A network whose places differ."""

    place = "all"

    def understand(self, image):
        return None, None, None, torch.eye(9)[None]

    def judge(self, embedding, patches, good, anomalous):
        return torch.tensor([[[0.5, 1.0], [0.5, 0.5]]]), anomalous.argmax(dim=1).float()


def test_the_map_is_lowered_outside_of_boxes():
    one = Located(torch.tensor([[0.0, 0.5, 0.5, 1.0]]), "right", ("defect",))
    score, anomaly_map = judge_located(Words(), np.zeros((2, 2, 3), np.uint8), one)
    assert score == 5
    np.testing.assert_allclose(anomaly_map, [[0.35, 1.0], [0.5, 0.35]], rtol=1e-6)
    words = Words()
    words.place = "center"
    with pytest.raises(SettingsError, match="build it with place=all"):
        judge_located(words, np.zeros((2, 2, 3), np.uint8), one)


@pytest.mark.slow
def test_a_folder_without_a_grounding_dino_is_refused(tmp_path):
    pytest.importorskip("transformers", reason="Grounding DINO is of transformers")
    with pytest.raises(SettingsError, match="holds no Grounding DINO of transformers"):
        GroundingDino(tmp_path)
