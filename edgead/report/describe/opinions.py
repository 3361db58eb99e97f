"""Judged images, each with what a language model says of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.files.table import write_csv
from edgead.images.files import ImageError, load_image
from edgead.report.describe.chat import Chat, ChatError
from edgead.report.describe.prompt import PART, QUESTION, description_messages
from edgead.serialization import sentence

MAX_TOKENS = 300
# A server that has failed so often in a row will fail for the rest, each time for as long as it may take.
MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class DescribePlan:
    """What is asked of each image; `everything` asks of good parts too."""

    question: str = QUESTION
    part: str = PART
    language: str = "en"
    heat_map: bool = True
    everything: bool = False


def describe_images(
    detector: Detector, chat: Chat, paths: Iterable[Path], plan: DescribePlan
) -> Iterator[dict[str, Any]]:
    """Judge images and have those that are not ok described; the decision stands, whatever is said.

    Yields
    ------
    row : dict
        Of each image `image`, `decision`, `image_score`, and `facts`, the sentence of its record. Where the language
        model was asked, `model_words`, which are its own and may be wrong, `language_model`, `endpoint` and
        `seconds`; or `problem`. After `MAX_FAILURES` problems of the server in a row, nothing more is asked.
    """
    failures = 0
    for path in paths:
        row: dict[str, Any] = {"image": str(path)}
        try:
            image = load_image(path)
            verdict = detector.predict(image)
        except (ImageError, SettingsError) as error:
            yield {**row, "problem": str(error).removeprefix(f"{path}: ")}
            continue
        facts = sentence(verdict.to_dict(), plan.language)
        row |= {"decision": verdict.decision, "image_score": verdict.image_score, "facts": facts}
        if verdict.decision == "ok" and not plan.everything:
            yield row
            continue
        if failures == MAX_FAILURES:
            yield {**row, "problem": f"not asked: {failures} questions in a row got no answer"}
            continue
        messages = description_messages(
            image, verdict, question=plan.question, part=plan.part, language=plan.language, heat_map=plan.heat_map
        )
        said = _asked(chat, messages)
        failures = failures + 1 if "problem" in said else 0
        yield {**row, **said}


def _asked(chat: Chat, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    begin = time.monotonic()
    try:
        answer = chat.ask(messages, most_tokens=MAX_TOKENS)
    except ChatError as error:
        return {"problem": str(error)}
    return {
        "model_words": answer.text,
        "language_model": answer.model or chat.model or "",
        "endpoint": chat.address.shown,
        "seconds": round(time.monotonic() - begin, 3),
    }


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows as a table where the file's suffix is .csv, or else as lines of JSON."""
    if path.suffix.lower() == ".csv":
        columns = list(dict.fromkeys(column for row in rows for column in row))
        write_csv(path, columns, ({**row, "model_words": _as_text(row.get("model_words"))} for row in rows))
        return
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_whole(path, text.encode(errors="backslashreplace"), durable=False)


def _as_text(words: str | None) -> str:
    """Keep a spreadsheet from taking words for a formula."""
    return f"'{words}" if (words or "").startswith(("=", "+", "-", "@")) else words or ""
