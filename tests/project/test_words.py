"""One word for one thing: words that the glossary has replaced do not come back, and no class name means two things."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The word, and what to write instead.
REPLACED = {
    "anew": "again, or retrain",
    "mend(s|ed|ing)?": "fix, repair",
    "belts?": "conveyor",
    "promis(e|es|ed|ing)": "guarantee",
    "pictur(e|es|ed)": "image",
    "told": "reported, said, given",
    "outlets?": "queued sink",
    "overwritten(?! by)": "dropped",
    "unjudged": "skipped",
}
KINDS = {".py", ".md", ".toml", ".html", ".js", ".css", ".h", ".cpp", ".inc", ".cu", ".cuh", ".service", ".yaml"}
# Where the old word is the right one: the list itself, a language's own, what others write.
EXEMPT = {
    "docs/glossary.md",
    "CHANGELOG.md",
    "tests/project/test_words.py",
    "csrc/cuda/score_error.cuh",
}
# And what is older than the word: the folder that stores have.
EXEMPT_PARTS = re.compile(r"new Promise\(|Promise\.all|[\"/]pictures")
# Classes of one name in several modules, with the reason.
SAME_NAME = {
    "Block": "a block of a transformer, in the networks of LSFA and SIB-VAD",
    "DecoderBlock": "a block of the decoder, in the networks of INP-Former and MetaUAS",
    "NearestPatches": "one interface on the CPU and on a GPU",
    "Smoother": "one interface: the prepared operator, numpy's and the one on a GPU",
    "UNet": "the network of that name, of other widths in MC4AD and in EAR",
    "WindowSearch": "one interface: the prepared search and numpy's",
}


def texts():
    try:
        names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    except FileNotFoundError:
        names = []
    if not names:  # no git here or none that opens this folder: all but what `make` writes
        found = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*"))
        names = [name for name in found if not name.startswith((".venv/", "build/", "out/"))]
    for name in names:
        path = ROOT / name
        if path.suffix in KINDS and name not in EXEMPT and path.is_file():
            yield name, path.read_text(encoding="utf-8")


def test_old_words_do_not_come_back():
    found = []
    patterns = [
        (re.compile(rf"(?<![A-Za-z]){word}(?![a-z])", re.IGNORECASE), instead) for word, instead in REPLACED.items()
    ]
    for name, text in texts():
        for pattern, instead in patterns:
            for match in pattern.finditer(text):
                line = text[text.rfind("\n", 0, match.start()) + 1 :].partition("\n")[0]
                if not EXEMPT_PARTS.search(line):
                    number = text.count("\n", 0, match.start()) + 1
                    found.append(f"{name}:{number}: {match[0]}: write {instead}")
    assert found == []


@pytest.fixture(scope="module")
def modules():
    """The modules of edgead and of its plug-ins, each once: an installation in place has a link to export/."""
    paths = (*(ROOT / "edgead").rglob("*.py"), *(ROOT / "export").rglob("*.py"))
    found = {path.resolve() for path in (*paths, *ROOT.glob("plugins/*/edgead_*/**/*.py"))}
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in found}


def test_a_module_says_what_it_is(modules):
    """Its docstring begins with a noun: not with a question, and not with a pronoun that stands for the answer."""
    docs = {path: ast.get_docstring(module) or "" for path, module in modules.items()}
    riddle = re.compile(r"(What|Which|Who|Whose|Where|How|When|Whether|Why|Is|Are|Do|Does|Did|May|Would|Those|From) ")
    found = [path for path, doc in docs.items() if riddle.match(doc) or doc.partition("\n")[0].endswith("?") or not doc]
    assert len(docs) > 500 and found == []


def test_a_class_name_stands_for_one_thing(modules):
    """Private classes may share a name: each is alone in its file."""
    places = defaultdict(list)
    for path, module in modules.items():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    several = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    unexpected = {name: found for name, found in several.items() if name not in SAME_NAME}
    assert len(places) > 800 and unexpected == {}, "name each by what it is"
    assert sorted(several) == sorted(SAME_NAME), "an entry that is no longer double goes"
