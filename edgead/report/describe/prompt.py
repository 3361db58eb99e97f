"""Prompt of a language model: the image, the detector's map of it, the facts, and a question.

The order and the words are AnomalyGPT's (Gu et al., "AnomalyGPT: detecting industrial anomalies using large
vision-language models", AAAI 2024): the image, then the map as a prompt, then what the part should be, then the
question. There the map is a prompt of learnt tokens; here it is a second image, and boxes in words.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from edgead.images.overlay import draw_heat
from edgead.report.describe.chat import Message
from edgead.serialization import language_names, sentence
from edgead.types import Verdict

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


def image_part(image: np.ndarray) -> dict[str, Any]:
    """Put an image of shape (H, W, 3), uint8, BGR, into a message: JPEG of at most `LONGEST_SIDE_PX`, no metadata."""
    scale = min(1.0, LONGEST_SIDE_PX / max(image.shape[:2]))
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"}}


def image_parts(image: np.ndarray, mapped: Verdict | None) -> list[dict[str, Any]]:
    """Put an image into a message, and with a verdict the image under its heat map."""
    return [image_part(one) for one in (image, *([] if mapped is None else [draw_heat(image, mapped)]))]


def description_messages(
    image: np.ndarray, verdict: Verdict, *, question: str, part: str, language: str, heat_map: bool
) -> list[Message]:
    """Ask for a description of one judged image.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8, BGR
    verdict : Verdict
        Its name and that of its file are not sent.
    question : str
    part : str
        What the image shows, such as "a metal nut".
    language : str
        The code of the language of the answer.
    heat_map : bool
        Send the detector's map too.
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
    """The sentence, and the boxes in words, the highest peak first."""
    boxes = []
    for box in record["boxes"][:_MAX_BOXES]:
        place = f" ({box['place']})" if box["place"] else ""
        boxes.append(f"{box['width']} x {box['height']} from x {box['x']}, y {box['y']}{place}")
    regions = f" Regions: {'; '.join(boxes)}." if boxes else ""
    return (sentence(record) or "The part was found good.") + regions
