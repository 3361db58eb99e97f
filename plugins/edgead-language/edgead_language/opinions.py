"""Descriptions of judged images by a language model, from the image, the detector's map and the verdict's facts."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.files.table import write_csv
from edgead.images.files import ImageError
from edgead.images.overlay import draw_heat
from edgead.serialization import language_names, sentence
from edgead.types import Verdict
from edgead_language.chat import Chat, ChatError, Message

QUESTION = "Is there any anomaly in the image? If there is, say what it looks like and where it is."
PART = "a part"
LONGEST_SIDE_PX = 768
_JPEG_QUALITY = 85
_MAX_BOXES = 5
_SYSTEM = (
    "You describe parts to the people who inspect them. A detector has judged the part already, and its decision "
    "stands. Say only what can be seen in the images, and say so where you see nothing. Answer in {language}, in at "
    "most three sentences."
)
HEAT_MAP = (
    "The second image is the same photo with the heat map of an anomaly detector on it: yellow to red where it is "
    "unusual, with a red box around each region above the limit."
)
MAX_TOKENS = 300
# After so many failures in a row, questions end, as each further failure may take the whole time limit.
MAX_FAILURES = 3


def image_part(image: np.ndarray) -> dict[str, Any]:
    """Make a message's element for an image (H, W, 3), uint8, BGR: JPEG, at most `LONGEST_SIDE_PX`, no metadata."""
    scale = min(1.0, LONGEST_SIDE_PX / max(image.shape[:2]))
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"}}


def image_parts(image: np.ndarray, mapped: Verdict | None) -> list[dict[str, Any]]:
    """Make the elements of a message for an image and, with a verdict, for the image with the heat map."""
    return [image_part(one) for one in (image, *([] if mapped is None else [draw_heat(image, mapped)]))]


def description_messages(
    image: np.ndarray, verdict: Verdict, *, question: str, part: str, language: str, heat_map: bool
) -> list[Message]:
    """Make the messages that ask for a description of one judged image.

    `image`: ndarray of shape (H, W, 3), uint8, BGR.
    `verdict`: verdict; its id and the file's name are not sent.
    `part`: name of the part in the image, such as "a metal nut".
    `language`: code of the language for the answer.
    `heat_map`: send the detector's map too.
    """
    record = verdict.to_dict()
    text = [
        f"This is a photo of {part} for anomaly detection, which should be without any damage, flaw, defect, scratch, "
        "hole or broken part.",
        *([HEAT_MAP] if heat_map else []),
        f"The detector's facts, in pixels of {image.shape[1]} x {image.shape[0]}: {_facts(record)}",
        question,
    ]
    parts = image_parts(image, verdict if heat_map else None)
    return [
        {"role": "system", "content": _SYSTEM.format(language=language_names()[language])},
        {"role": "user", "content": [*parts, {"type": "text", "text": "\n".join(text)}]},
    ]


def _facts(record: Mapping[str, Any]) -> str:
    """Describe the verdict by its sentence, and the boxes in words, the highest peak first."""
    boxes = []
    for box in record["boxes"][:_MAX_BOXES]:
        place = f" ({box['place']})" if box["place"] else ""
        boxes.append(f"{box['width']} x {box['height']} from x {box['x']}, y {box['y']}{place}")
    regions = f" Regions: {'; '.join(boxes)}." if boxes else ""
    return (sentence(record) or "The part was found good.") + regions


@dataclass(frozen=True, slots=True)
class DescribePlan:
    """Settings of the questions; `everything` asks about good parts too."""

    question: str = QUESTION
    part: str = PART
    language: str = "en"
    heat_map: bool = True
    everything: bool = False


def describe_images(
    detector: Detector, chat: Chat, paths: Iterable[Path], plan: DescribePlan
) -> Iterator[dict[str, Any]]:
    """Judge images and ask for descriptions of images that are not ok; descriptions never change a decision.

    Yields
    ------
    row : dict
        For each image `image`, `decision`, `image_score`, and `facts`, the sentence of its record. If the language
        model was asked, also `model_words`, its answer, which may be wrong, `language_model`, `endpoint` and
        `seconds`; or `problem`. After `MAX_FAILURES` problems of the server in a row, nothing more is asked.
    """
    failures = 0
    for path in paths:
        row: dict[str, Any] = {"image": str(path)}
        try:
            image = detector.read_image(path)
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
            detector.visible(image),
            verdict,
            question=plan.question,
            part=plan.part,
            language=plan.language,
            heat_map=plan.heat_map,
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
    """Write rows as a table if the file's suffix is .csv, otherwise as JSON lines."""
    if path.suffix.lower() == ".csv":
        columns = list(dict.fromkeys(column for row in rows for column in row))
        write_csv(path, columns, ({**row, "model_words": _as_text(row.get("model_words"))} for row in rows))
        return
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_whole(path, text.encode(errors="backslashreplace"), durable=False)


def _as_text(words: str | None) -> str:
    """Escape words that a spreadsheet would take for a formula."""
    return f"'{words}" if (words or "").startswith(("=", "+", "-", "@")) else words or ""
