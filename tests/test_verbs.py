"""Verbs are imported when they are called: help and refusals come before what a verb needs is loaded."""

from __future__ import annotations

import ast
import inspect
import shlex
import subprocess
import sys

import pytest
from command_line import run_here
from typer.main import get_command

from edgead.cli import app
from edgead.cli.examples import EXAMPLES
from edgead.cli.verbs import VERBS

HEAVY = {"numpy", "cv2", "yaml", "onnxruntime", "torch", "sqlalchemy", "http.client"}


def loaded(*arguments: str) -> tuple[str, set[str]]:
    """What a fresh command says, and which of the heavy packages it has imported then."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', sorted({HEAVY!r} & sys.modules.keys())))\n"
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "from edgead.cli import main\nmain()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    said, _, names = ended.stdout.rpartition("LOADED ")
    return " ".join((said + ended.stderr).split()), set(ast.literal_eval(names))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["trian"], []])
def test_help_and_a_misspelt_verb_import_no_verb(arguments):
    said, heavy = loaded(*arguments)
    assert said and heavy == set()


def test_a_command_that_is_a_plug_ins_is_named_with_its_package():
    ended = run_here("heights", "scans")
    assert ended.returncode == 2 and ended.stderr.startswith("error: edgead-heights comes with edgead-height: ")


def test_help_lists_each_verb_below_its_heading_with_what_its_own_help_begins_with():
    said = " ".join(run_here("--help", columns=300).stdout.replace("│", "").split())
    places, group = [], get_command(app)
    for heading, verbs in VERBS.items():
        places.append(said.index(heading))
        for verb in verbs:
            help_text = group.load(verb).help or ""
            first = " ".join(inspect.cleandoc(help_text).partition("\n\n")[0].split())
            assert first
            places.append(said.index(f"{verb} {first}", places[-1]))
    assert places == sorted(places)
    listed = [verb for verbs in VERBS.values() for verb in verbs]
    assert set(get_command(app).imported) == set(listed) and len(listed) == len(set(listed))  # none is left out


@pytest.mark.parametrize("example", [example for both in EXAMPLES.values() for example in both])
def test_an_example_is_one_of_its_verb(example, tmp_path, monkeypatch):
    command, verb, *words = shlex.split(example)
    monkeypatch.chdir(tmp_path)
    for word in words:  # models and folders that it takes for granted
        if word.isidentifier():
            (tmp_path / word).mkdir(exist_ok=True)
    of_verb = get_command(app).load(verb)
    if hasattr(of_verb, "commands"):  # verbs below a verb
        of_verb = of_verb.commands[words.pop(0)]
    assert command == "edgead" and not of_verb.make_context(verb, words).args


def test_every_verb_has_examples():
    assert list(EXAMPLES) == [verb for verbs in VERBS.values() for verb in verbs]
    assert all(
        len(set(both)) == 2 and f"edgead {verb}" in both[0] and f"edgead {verb}" in both[1]
        for verb, both in EXAMPLES.items()
    )
    assert "Examples: edgead train good_images -o model" in " ".join(run_here("train", "--help").stdout.split())


def test_a_misspelt_verb_is_refused_with_the_nearest():
    ended = run_here("trian")
    assert ended.returncode == 2 and "Did you mean 'train'?" in ended.stderr


@pytest.mark.parametrize(
    ("verb", "command"), [("golden", "edgead train GOLDEN_PARTS"), ("forecast", "edgead report MODEL MADE_DEFECTS")]
)
def test_what_people_take_for_a_verb_names_the_command(verb, command):
    ended = run_here(verb)
    assert ended.returncode == 2 and f"{verb} is no verb of its own: `{command}" in " ".join(ended.stderr.split())
    assert verb not in get_command(app).imported


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["nowhere"], "nowhere: no such folder"),
        ([".", "--detector", "nothing"], "unknown detector 'nothing'"),
        ([".", "--normal-dir", "missing"], "has no folder missing"),
        ([".", "--preset", "nothing"], "patchcore has no preset 'nothing': choose one of fast, default"),
        ([".", "--set", "nothing=1"], "patchcore has no setting nothing: it has image_size, seed, backbone"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_torch_is_loaded(arguments, refusal, tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    said, heavy = loaded("train", *arguments, "-o", "model")
    assert refusal in said and "torch" not in heavy
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("verb", ["predict", "calibrate", "teach", "eval", "export", "describe", "sort", "sign"])
def test_a_model_that_is_not_there_is_refused_before_a_verb_loads_what_it_needs(verb):
    said, heavy = loaded(verb, "nowhere", "part.png")
    assert "nowhere is not an edgead model: no such directory" in said and heavy == set()


def test_presets_are_listed_without_torch():
    said, heavy = loaded("presets")
    assert "patchcore" in said and "paper_medium" in said and "auto" in said and "torch" not in heavy


def test_the_help_of_a_verb_fills_in_what_it_names_and_imports_no_torch():
    said, heavy = loaded("train", "--help")
    assert "one of patchcore, simplenet" in said.replace("│ ", "") and "torch" not in heavy
