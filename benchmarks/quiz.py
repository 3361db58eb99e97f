"""Quiz of a language model over a test set: VANE-Bench's questions and its way of counting, on factory parts.

`python -m benchmarks quiz MODEL DATA --endpoint http://127.0.0.1:8080/v1 --most 200`. A single letter is asked for, in
at most two tokens at temperature 0. An answer counts where it is the true letter alone, with or without a closing
bracket; spaces around it do not count. Nothing of the detector's verdict is in a question; its heat map may be shown.
Needs the plug-in edgead-language.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.quiz_questions import LETTERS, QUESTIONS, Question, drawn, make_questions
from edgead.dataset.folders import Progress, find_test_images
from edgead.dataset.groups import Groups, group_images
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.metrics.rates import worth
from edgead_language.chat import Chat, ChatError, Message, read_address
from edgead_language.opinions import image_parts, write_rows

CHANCE = 1 / len(LETTERS)
_MAX_TOKENS = 2
_MAX_FAILURES = 3
_IMAGES = {
    False: "an image of a part",
    True: "an image of a part, the same image with the heat map of an anomaly detector",
}
SYSTEM = (
    "You are a helpful and intelligent multi-modal AI assistant, capable of performing visual question answering (VQA) "
    "task. You will be given as input {images}, and a corresponding question related to the {what}, you have to answer "
    "the given question after analyzing and understanding the given input{of}. The question itself will present you "
    "with 4 lettered options like A) B) C) D), your task is to only output single letter corresponding to the correct "
    "answer (i.e. string literal 'A', 'B', 'C', or 'D'), and you should not output anything else."
)


def letter_of(said: str) -> str | None:
    """The letter that an answer is, with or without a closing bracket; None where it is anything else."""
    said = said.strip().removesuffix(")")
    return said if len(said) == 1 and said in LETTERS else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said to a question: `text`, or None and why there is none."""

    question: Question
    text: str | None
    problem: str = ""

    @property
    def letter(self) -> str | None:
        """The letter that was chosen; None where the answer is anything but one."""
        return letter_of(self.text or "")

    @property
    def is_right(self) -> bool:
        """Whether it is the letter of the true option."""
        return self.letter == self.question.letter

    def to_dict(self) -> dict[str, Any]:
        """Describe it in values that JSON knows, the question and its answer under VANE-Bench's names Q and A."""
        asked = self.question
        row: dict[str, Any] = {
            "image": str(asked.image.path),
            "about": asked.about,
            "Q": asked.text,
            "A": f"{asked.letter})",
        }
        row |= {"model_words": self.text, "right": self.is_right}
        return {**row, "problem": self.problem} if self.problem else row


Heard = Callable[[Reply], object]


@dataclass(frozen=True, slots=True)
class QuizPlan:
    """Which questions are asked, at most so many of them, whether the heat map is shown, and which images go together.

    `group` is a rule of `edgead.dataset.groups.group_images`.
    """

    seed: int = 0
    most: int | None = None
    heat_map: bool = True
    group: str = "none"


def run_quiz(
    detector: Detector, chat: Chat, data: Path, plan: QuizPlan, progress: Progress, *, heard: Heard = lambda reply: None
) -> QuizResult:
    """Quiz a language model on a data set in MVTec layout; `heard` is called with each reply as it comes.

    Raises
    ------
    DatasetError
        It has no test set, or none of which anything can be asked.
    SettingsError
        A rule of groups that cannot be used.
    ChatError
        Three questions in a row got no answer.
    """
    questions, left_out = make_questions(find_test_images(data), data, plan.seed)
    asked = drawn(questions, plan.most, plan.seed)
    groups = group_images(list(dict.fromkeys(one.image.path for one in asked)), plan.group, data)
    replies = []
    for reply in ask_all(detector, chat, asked, heat_map=plan.heat_map):
        replies.append(reply)
        heard(reply)
        progress(len(replies), len(asked))
    return QuizResult(replies, left_out, plan.heat_map, groups)


def ask_all(detector: Detector, chat: Chat, questions: Sequence[Question], *, heat_map: bool) -> Iterator[Reply]:
    """Ask every question once; see `ask_each`."""
    asked = (_messages(detector, question, heat_map=heat_map) for question in questions)
    for question, (text, problem) in zip(questions, ask_each(chat, asked), strict=True):
        yield Reply(question, text, problem)


def ask_each(chat: Chat, questions: Iterable[list[Message]]) -> Iterator[tuple[str | None, str]]:
    """Ask every question once; gives what was said, or None and why there is nothing.

    Raises
    ------
    ChatError
        Three in a row got no answer. A single one without counts as wrong.
    """
    failures = 0
    for messages in questions:
        try:
            said = chat.ask(messages, most_tokens=_MAX_TOKENS)
        except ChatError as error:
            failures += 1
            yield None, str(error)
            if failures == _MAX_FAILURES:
                raise ChatError(f"{failures} questions in a row got no answer: {error}") from None
        else:
            failures = 0
            yield said.text, ""


def _messages(detector: Detector, question: Question, *, heat_map: bool) -> list[Message]:
    image = load_image(question.image.path)
    parts = image_parts(image, detector.predict(image) if heat_map else None)
    return [
        {"role": "system", "content": SYSTEM.format(images=_IMAGES[heat_map], what="part", of="")},
        {"role": "user", "content": [{"type": "text", "text": question.text}, *parts]},
    ]


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the score interval of a binomial rate.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927. It covers the rate with
    the confidence on average, and is narrower than `clopper_pearson`, which covers it at least so often.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (successes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    # At both ends rounding could leave the share outside.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half


@dataclass(frozen=True, slots=True)
class QuizResult:
    """All replies, and what could not be asked; with `groups`, those on images of one group go together."""

    replies: Sequence[Reply]
    left_out: Sequence[str]
    heat_map: bool
    groups: Groups | None = None

    def to_dict(self) -> dict[str, Any]:
        """Accuracy by question and in all: with Wilson's interval, beside chance and the best answer by rote."""
        by_question = {about: [one for one in self.replies if one.question.about == about] for about in QUESTIONS}
        return {
            "all": self._accuracy(self.replies),
            "questions": {about: self._accuracy(replies) for about, replies in by_question.items() if replies},
            "chance": CHANCE,
            "heat_map": self.heat_map,
            "groups_account": "each image counts alone" if self.groups is None else self.groups.account,
            "left_out": list(self.left_out),
        }

    def table(self) -> Table:
        """Lay the result out for a terminal."""
        shown = "with the heat map" if self.heat_map else "without the heat map"
        table = Table(
            title=f"{len(self.replies)} questions with four options, {shown}; chance is {CHANCE:g}",
            title_justify="left",
            caption="; ".join(f"not asked: {one}" for one in self.left_out) or None,
            caption_justify="left",
        )
        for column in ("question", "right", "accuracy", "95 % interval", "by rote", "no letter"):
            table.add_column(column, no_wrap=True)
        found = self.to_dict()
        for name, row in {**found["questions"], "all": found["all"]}.items():
            shares = (f"{row['accuracy']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}", f"{row['by_rote']:.3f}")
            table.add_row(name, f"{row['right']} of {row['asked']}", *shares, str(row["no_letter"]))
        return table

    def _accuracy(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """Replies that go together are worth fewer: the interval is that of as many independent ones."""
        right = [reply.is_right for reply in replies]
        share = sum(right) / len(right)
        images = [reply.question.image.path for reply in replies]
        groups = self.groups.of(images) if self.groups else images
        independent = worth(right, groups) if len(set(groups)) < len(groups) else len(groups)
        low, high = wilson(share * independent, independent)
        return {
            "asked": len(right),
            "right": sum(right),
            "accuracy": share,
            "low": low,
            "high": high,
            "above_chance": low > CHANCE,
            "by_rote": _by_rote(replies),
            "no_letter": sum(reply.letter is None for reply in replies),
        }


def _by_rote(replies: Sequence[Reply]) -> float:
    """The accuracy of the best that needs no look at the image: one letter, or one option wherever it stands."""
    letters = Counter(reply.question.letter for reply in replies)
    options = Counter(reply.question.true for reply in replies)
    return max(*letters.values(), *options.values()) / len(replies)


def main(arguments: Sequence[str]) -> None:
    """Ask, print the accuracies, and keep the replies as they come: also those before an interruption."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quiz", description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="whose heat maps are shown")
    parser.add_argument("data", type=Path, help="a data set in MVTec layout")
    parser.add_argument("--endpoint", required=True, help="as of `edgead describe`")
    parser.add_argument("--model", dest="name", help="name of the language model; by default the only one there is")
    parser.add_argument("--most", type=int, help="at most so many questions, drawn at random")
    parser.add_argument("--no-heat-map", dest="heat_map", action="store_false")
    parser.add_argument("--group", default="auto", help="which images are of one part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=60.0)
    parser.add_argument("--output", "-o", type=Path, help="file for the replies: JSON lines, or a table by .csv")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    plan = QuizPlan(options.seed, options.most, options.heat_map, options.group)
    chat = Chat(read_address(options.endpoint), options.name, options.timeout_s)
    chat = chat if options.name else chat.with_model()
    rows: list[dict[str, Any]] = []
    with Detector.load(options.model) as detector:
        try:
            result = run_quiz(
                detector, chat, options.data, plan, lambda *_: None, heard=lambda reply: rows.append(reply.to_dict())
            )
        finally:
            if options.output is not None and rows:
                write_rows(rows, options.output)
    report = {"language_model": chat.model, "endpoint": chat.address.shown, **result.to_dict()}
    if options.json:
        print(json.dumps(report))
    else:
        Console(width=140).print(result.table())
