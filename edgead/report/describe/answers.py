"""Answers of an OpenAI-compatible server, read with care: another program's, and a language model's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_CHARACTERS = 2_000
_MAX_NAME = 100
_EVENTS = "text/event-stream"


class UnusableAnswer(ValueError):
    """The sentence goes on after the address of the server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a language model said: one line, at most `MAX_CHARACTERS` long, and the name that its server gives it."""

    text: str
    model: str


def read_answer(content: bytes, kind: str) -> Answer:
    """Read the answer to a chat request, whole or in the events of a stream.

    Raises
    ------
    UnusableAnswer
        It is of another form, or empty.
    """
    if kind == _EVENTS or content.startswith(b"data:"):
        pieces = list(_events(content))
        text = "".join(_text_of(piece, "delta") for piece in pieces)
        named = next((piece for piece in pieces if piece.get("model")), {})
    else:
        named = _json(content)
        text = _text_of(named, "message")
    said = cleaned(text)
    if not said:
        raise UnusableAnswer("gave an empty answer: does its model see images, and may it use more tokens?")
    if len(said) > MAX_CHARACTERS:
        said = said[: MAX_CHARACTERS - 1] + "…"
    return Answer(said, cleaned(str(named.get("model") or ""))[:_MAX_NAME])


def model_names(content: bytes) -> list[str]:
    """Read the answer to GET /models.

    Raises
    ------
    UnusableAnswer
        It is of another form.
    """
    listed = _json(content).get("data")
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("id"), str) for one in listed
    ):
        raise UnusableAnswer("lists no models")
    return [cleaned(one["id"])[:_MAX_NAME] for one in listed]


def cleaned(text: str) -> str:
    """Put a text on one line, without what moves a terminal's cursor or turns the direction of writing."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    """Events of a stream (HTML standard, 9.2.6), as far as chat servers use them: a line of data each."""
    for line in content.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            yield _json(data)


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnusableAnswer("answered with something that is no JSON object: is it a chat server?")
    if "choices" not in found and "error" in found:
        raise UnusableAnswer(f"reports an error: {cleaned(str(found['error']))[:200]}")
    return found


def _text_of(found: dict[str, Any], part: str) -> str:
    """The words of the first choice: a text, or a list of parts of which some are text."""
    choices = found.get("choices")
    if part == "delta" and choices == []:  # the last event counts tokens, and has none
        return ""
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get(part) if isinstance(first, dict) else None
    if not isinstance(message, dict):
        raise UnusableAnswer("answered with JSON that holds no answer of a chat: is it a chat server?")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(one.get("text", "")) for one in content if isinstance(one, dict))
    return content if isinstance(content, str) else ""
