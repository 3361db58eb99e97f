"""VANE-Bench: a language model is asked what is wrong in clips, with the benchmark's own files and way of counting.

`python -m benchmarks vane VQA_Data/AI-Generated/SORA --endpoint http://127.0.0.1:8080/v1 -o predictions`. A clip is a
folder such as `video_1_subset_2` with its frames, `frame_137.jpg`, and beside it `video_1_subset_2_qa.txt`, a list of
questions with four lettered options and their answers. As in the authors' script for GPT-4o, all frames of a clip are
sent in their order, at temperature 0, and a single letter is asked for. `predictions` has a file a clip, as
`calc_lmm_vqa_accuracy.py` reads them. Needs the plug-in edgead-language. Bharadwaj et al. 2024, https://github.com/rohit901/VANE-Bench.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from edgead.dataset.folders import DatasetError
from edgead.files.user_paths import named_path
from edgead.images.files import list_images, load_image
from edgead.metrics.rates import worth
from edgead_language.chat import Chat, ChatError, Message, read_address
from edgead_language.opinions import image_part

_CLIP = re.compile(r"video_([0-9]+)_subset_([0-9]+)")
_QUESTIONS = "_qa.txt"
_LETTERS = "ABCD"
_CHANCE = 1 / len(_LETTERS)
_MAX_TOKENS = 2
_MAX_FAILURES = 3
_SYSTEM = (
    "You are a helpful and intelligent multi-modal AI assistant, capable of performing visual question answering (VQA) "
    "task. You will be given as input {frames} consecutive frames from a video, and a corresponding question related "
    "to the video, you have to answer the given question after analyzing and understanding the given input video. The "
    "question itself will present you with 4 lettered options like A) B) C) D), your task is to only output single "
    "letter corresponding to the correct answer (i.e. string literal 'A', 'B', 'C', or 'D'), and you should not output "
    "anything else."
)


def letter_of(said: str) -> str | None:
    """The letter that an answer is, with or without a closing bracket; None where it is anything else."""
    said = said.strip().removesuffix(")")
    return said if len(said) == 1 and said in _LETTERS else None


@dataclass(frozen=True, slots=True)
class ClipQuestion:
    """A question on a clip, a folder of frames; `letter` is that of the true option."""

    clip: Path
    text: str
    letter: str

    def messages(self) -> list[Message]:
        """The question and all frames, as a language model is sent them."""
        frames = [image_part(load_image(path)) for path in list_images(self.clip)]
        system = _SYSTEM.format(frames=len(frames))
        return [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": "text", "text": self.text}, *frames]},
        ]


@dataclass(frozen=True, slots=True)
class ClipReply:
    """What was said to a question; None where nothing was."""

    question: ClipQuestion
    text: str | None

    @property
    def is_right(self) -> bool:
        return letter_of(self.text or "") == self.question.letter

    @property
    def line(self) -> str:
        """The line of a file of predictions: the true letter, a tabulator, and what was said, or `-`, in one line.

        The authors' counter takes spaces off a line's end, and then needs two columns.
        """
        return f"{self.question.letter}\t{' '.join((self.text or '').split()) or '-'}\n"


def read_questions(folder: Path) -> list[ClipQuestion]:
    """Read the questions of all clips in a folder, in the order of the clips' numbers.

    Raises
    ------
    DatasetError
        There is no clip, or one has no questions, or a file of questions is none.
    """
    named = ((_CLIP.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    clips = sorted((int(found[1]), int(found[2]), path) for found, path in named if found)
    if not clips:
        raise DatasetError(f"{folder}: no clips found, folders such as video_1_subset_2 with {_QUESTIONS} beside them")
    return [question for *_, clip in clips for question in _read_clip(clip)]


def _read_clip(clip: Path) -> Iterator[ClipQuestion]:
    file = clip.with_name(clip.name + _QUESTIONS)
    if not list_images(clip):
        raise DatasetError(f"{clip} has no frames")
    try:
        for row in ast.literal_eval(file.read_text(encoding="utf-8").strip()):
            letter = letter_of(row["A"])
            if letter is None:
                raise ValueError(f"the answer {row['A']!r} is no letter")
            yield ClipQuestion(clip, str(row["Q"]), letter)
    except FileNotFoundError:
        raise DatasetError(f"{clip} has no questions: {file} is missing") from None
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise DatasetError(f"{file} is no list of questions Q and answers A: {error}") from None


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


def write_predictions(replies: Sequence[ClipReply], folder: Path) -> None:
    """Write a file of predictions for each clip."""
    folder.mkdir(parents=True, exist_ok=True)
    for clip in dict.fromkeys(reply.question.clip for reply in replies):
        lines = [reply.line for reply in replies if reply.question.clip == clip]
        (folder / f"{clip.name}_preds.txt").write_text("".join(lines), encoding="utf-8")


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


def summary(replies: Sequence[ClipReply]) -> dict[str, Any]:
    """Accuracy with Wilson's interval, in which questions on one clip go together, beside what needs no look."""
    right = [reply.is_right for reply in replies]
    share = sum(right) / len(right)
    clips = [reply.question.clip.name for reply in replies]
    independent = worth(right, [sorted(set(clips)).index(clip) for clip in clips])
    low, high = wilson(share * independent, independent)
    return {
        "clips": len(set(clips)),
        "asked": len(right),
        "right": sum(right),
        "accuracy": share,
        "low": low,
        "high": high,
        "chance": _CHANCE,
        "by_rote": max(Counter(reply.question.letter for reply in replies).values()) / len(right),
        "no_letter": sum(letter_of(reply.text or "") is None for reply in replies),
    }


def main(arguments: Sequence[str]) -> None:
    """Ask, keep what was said, and print the accuracy: also of what was asked before an interruption."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks vane", description=__doc__.partition("\n")[0])
    parser.add_argument("clips", type=named_path, help="a folder of clips of VANE-Bench, such as SORA")
    parser.add_argument("--endpoint", required=True, help="as of `edgead describe`")
    parser.add_argument("--model", dest="name", help="name of the language model; by default the only one there is")
    parser.add_argument("--timeout-s", type=float, default=120.0)
    parser.add_argument("--output", "-o", type=Path, help="folder for the predictions")
    options = parser.parse_args(arguments)
    questions = read_questions(options.clips)
    chat = Chat(read_address(options.endpoint), options.name, options.timeout_s)
    chat = chat if options.name else chat.with_model()
    replies: list[ClipReply] = []
    try:
        for question, (text, _) in zip(questions, ask_each(chat, (one.messages() for one in questions)), strict=True):
            replies.append(ClipReply(question, text))
    finally:
        if options.output is not None and replies:
            write_predictions(replies, options.output)
    print(json.dumps({"language_model": chat.model, "endpoint": chat.address.shown, **summary(replies)}))
