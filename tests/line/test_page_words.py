"""The page's tables of words: complete, and nothing in them that nobody reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest

import edgead.line.web
from edgead.images.likeness import Difference, Misfit, Size
from edgead.line.daemon import pipeline, site_runtime
from edgead.line.drift.words import _SPREAD, _WORDS, drift_reason
from edgead.sources import camera, connection, live, network, reader_process, reopened_camera, watched
from edgead.sources.reopened_camera import _DEAD

PAGE = Path(edgead.line.web.__file__).parent / "page"
TABLES = sorted((PAGE / "words").glob("*.json"))
# The list of the API is made of the English OpenAPI; `words.js` defines t.
MODULES = [path for path in sorted(PAGE.glob("*.js")) if path.name not in ("docs.js", "words.js")]
CALL = re.compile(r'\bt\((?:\s*("(?:[^"\\]|\\.)*"))?')
# A list of the device's texts, which the page has as they are.
CLOSED = re.compile(r"\bclosed\((.*?)\);", re.DOTALL)
# Begins like a word that people read, and is nothing that a protocol names.
SENTENCE = re.compile(r'(?<!\bt\()(["`])([A-Z][a-z]+(?: [^"`]*)?)\1')
READ_OUT = ("aria-label", "alt", "placeholder", "title")
# Keys of the keyboard, and what a drag says that it carries.
NAMES = {"ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Delete", "Escape", "Enter", "Home", "End", "Files"}


class _Texts(HTMLParser):
    """What is read of a page: its texts, and the attributes that are read out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._skips = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skips |= tag == "noscript"
        self.found |= {value for name, value in attrs if name in READ_OUT and value}

    def handle_endtag(self, tag: str) -> None:
        self._skips &= tag != "noscript"

    def handle_data(self, data: str) -> None:
        if not self._skips and re.search("[A-Za-z]{2}", data):
            self.found.add(data.strip())


def _texts() -> set[str]:
    page = _Texts()
    page.feed((PAGE / "index.html").read_text("utf-8"))
    calls = [call for path in MODULES for call in CALL.findall(path.read_text("utf-8"))]
    return page.found | {json.loads(call) for call in calls if call} | _closed()


def _closed() -> set[str]:
    lists = CLOSED.findall((PAGE / "reasons.js").read_text("utf-8"))
    return {text for found in lists for text in re.findall(r'"([^"]+)"', found)}


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_a_table_has_every_text_of_the_page_and_no_other(table):
    words = json.loads(table.read_text("utf-8"))
    assert set(words) == _texts()
    for text, translated in words.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", translated)), text
        assert translated.strip() == translated != ""


def test_an_id_of_the_page_names_one_element():
    ids = re.findall(r'\bid="([^"]*)"', (PAGE / "index.html").read_text("utf-8"))
    assert len(ids) > 100 and [name for name, count in Counter(ids).items() if count > 1] == []


def test_a_table_holds_each_text_once_and_in_order():
    for table in TABLES:
        texts = [text for text, _ in json.loads(table.read_text("utf-8"), object_pairs_hook=list)]
        assert texts == sorted(set(texts), key=lambda text: (text.casefold(), text))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_what_a_module_has_people_read_goes_through_the_table(module):
    text = module.read_text("utf-8")
    assert all(CALL.findall(text)), "t takes a text as it stands, not one that is made"
    code = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
    assert [found for _, found in SENTENCE.findall(code) if found not in NAMES] == []


def test_there_is_a_german_table():
    assert "de" in [table.stem for table in TABLES]


def test_what_drift_and_cameras_say_of_a_closed_list_is_in_the_table():
    """The page finds these texts again by how they read: `reasons.js` and the device must agree."""
    changes = [(name, change) for name, words in _WORDS.items() for change in words]
    one_sided = ("flagged parts", "scores beside good images")
    changes += [(name, change) for name in _WORDS if name not in one_sided for change in _SPREAD]
    asked = [(name, change, camera) for name, change in changes for camera in (True, False, None)]
    reasons = {drift_reason({name: change}, camera=camera) for name, change, camera in asked}
    said = {part for reason in reasons for part in reason.removesuffix(")").split(" (")}
    said |= {_DEAD, "dark", "bright", "blurred", "moved", "frozen"}
    known = set(re.findall(r't\("([^"]+)"\)', (PAGE / "reasons.js").read_text("utf-8")))
    assert said <= known | _closed()


def test_what_pipelines_say_while_nothing_is_wrong_is_in_the_table():
    """As above; a name of a camera is in braces on both sides."""
    page = (PAGE / "reasons.js").read_text("utf-8")
    (listed,) = re.findall(r"const PIPELINE = closed\((.*?)\);", page, re.DOTALL)
    said = re.findall(r'_state\.(?:starting|stopped)\(f?"([^"]+)"\)', Path(pipeline.__file__).read_text("utf-8"))
    assert len(said) == 4
    for text in said:
        assert f'"{text.replace("{self.section.camera}", "{name}")}"' in listed


def test_what_pipelines_and_cameras_say_of_faults_is_found_by_the_page():
    """As above: what a pipeline says in its own words matches a pattern; of a camera's, each part is in the table."""
    page = (PAGE / "reasons.js").read_text("utf-8")
    (listed,) = re.findall(r"const FAULTS = \[(.*?)\n\];", page, re.DOTALL)
    patterns = [re.compile(found) for found in re.findall(r"^  \[/(.*?)/, ", listed, re.MULTILINE)]
    code = Path(pipeline.__file__).read_text("utf-8")
    said = re.findall(r'_state\.fault\("(?:camera|hang|trigger)", f"([^"]+)"\)', code)
    said += ["{what}" + text for text in re.findall(r'else f"(; restarted [^"]+)"', code)]
    assert len(said) == 5
    for text in said:
        filled = text.replace("{camera.state}", "lost")
        assert any(pattern.search(re.sub(r"\{[^}]*\}", "7", filled)) for pattern in patterns), text
    (listed,) = re.findall(r"const CAMERA = closed\((.*?)\);", page, re.DOTALL)
    for module, text in (
        (live, "did not open within {limits.open_timeout_s:g} s"),
        (live, "no frame for {self._limits.read_timeout_s:g} s"),
        (connection, "no data for {waited_s:.1f} s"),
        (connection, "the stream ended or the connection was lost"),
        (camera, "it is in use by another program or gives no images"),
        (network, "the host cannot be reached"),
        (network, "the host name cannot be resolved"),
        (reader_process, "its reader process was ended"),
        (reopened_camera, "the stream has come to its end"),
        *((watched, part) for part in ("each would take the other's images", "stop that one, or name another folder")),
    ):
        assert text in Path(module.__file__).read_text("utf-8"), text
        assert f'"{re.sub(r"{[^}]*}", "{number}", text)}"' in listed


def test_what_of_a_site_is_not_in_force_is_found_by_the_page():
    patterns = re.findall(r"^  \[/(.*?)/, ", (PAGE / "reasons.js").read_text("utf-8"), re.MULTILINE)
    code = Path(site_runtime.__file__).read_text("utf-8")
    said = re.findall(r'f"(\{name\}: keeps[^"]+|http: [^"]+)"', code)
    assert len(said) == 2
    for text in (site_runtime.RESTART, *said):
        assert any(re.search(pattern, text) for pattern in patterns), text


def test_what_frames_of_another_format_are_said_to_be_is_found_by_the_page():
    page = (PAGE / "reasons.js").read_text("utf-8")
    (listed,) = re.findall(r"const FORMAT = closed\((.*?)\);", page, re.DOTALL)
    (pattern,) = re.findall(r"= /(.*learnt.*)/\.exec", page)
    for what in get_args(Difference):
        found = re.match(pattern, f"recipe 7: {Misfit(what, Size(120, 227), Size(227, 227)).text}")
        assert found is not None and found.groups()[:3] == ("7", "227 x 120", "227 x 227")
        assert f'"{found[4]}"' in listed
