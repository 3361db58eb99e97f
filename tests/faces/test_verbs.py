"""Verbs are imported when they are called: help and refusals come before what a verb needs is loaded."""

from __future__ import annotations

import ast
import inspect
import os
import shlex
import subprocess
import sys

import pytest
from command_line import run_here
from typer.main import get_command

from edgead.cli import app
from edgead.cli.examples import EXAMPLES
from edgead.cli.verbs import FIRST, GROUP, GROUPS, VERBS
from edgead.process.installation import of_plugins

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


@pytest.mark.parametrize("arguments", [["--help"], ["help", "make"], ["--version"], ["trian"], []])
def test_help_and_a_misspelt_verb_import_no_verb(arguments):
    said, heavy = loaded(*arguments)
    assert said and heavy == set()


def test_a_verb_of_a_plug_in_that_is_not_installed_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("edgead.cli.verbs.entry_points", lambda group: [])
    listed = " ".join(run_here("help", "plugins").stdout.replace("│", "").split())
    assert listed.endswith("weights Comes with edgead-foundation, not installed. ╰" + "─" * 298 + "╯")
    for verb, package in (("heights", "edgead-height"), ("tune", "edgead-tune")):
        ended = run_here(verb, "scans")
        assert ended.returncode == 2 and ended.stderr.startswith(f"error: {verb} comes with {package}: ")
        assert f"{verb} Comes with {package}, not installed." in listed


PLUG_IN = """
import numpy
from edgead.cli.app import ListingApp, Model, app

pair = ListingApp(help="Two of a kind.")
app.add_typer(pair, name="pair")

@pair.command()
def first():
    'The first of both.'

@app.command()
def weigh(model: Model) -> None:
    'Say how heavy a model is.'
    print("12 g", model)

@app.command()
def train() -> None:
    print("another's")
"""


def test_a_plug_in_adds_verbs_that_no_other_imports(tmp_path, monkeypatch):
    metadata = tmp_path / "scales-1.dist-info"
    metadata.mkdir()
    (tmp_path / "scales.py").write_text(PLUG_IN)
    (tmp_path / "broken.py").write_text("def (:")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: scales\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[edgead.verbs]\nweigh = scales\npair = scales\ntrain = scales\nlost = not_there.verbs\nsunk = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("COLUMNS", "300")
    said, heavy = loaded("help", "plugins")
    listed = " ".join(said.replace("│", "").split())
    assert "weigh Say how heavy a model is." in listed and "pair Two of a kind." in listed and heavy == set()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").touch()
    said, heavy = loaded("weigh", str(tmp_path / "model"))
    assert said == f"12 g {tmp_path / 'model'}" and "numpy" in heavy
    assert "weigh [OPTIONS]" in loaded("weigh", "--help")[0]
    assert "The first of both." in loaded("pair", "--help")[0]
    assert "Missing argument 'DATA'" in loaded("train")[0]  # edgead's own comes first
    assert "not_there is missing" in loaded("lost")[0]
    assert "sunk broken cannot be read" in listed
    assert "the verb sunk of broken cannot be imported" in loaded("sunk")[0]


@pytest.mark.parametrize("group", VERBS)
def test_help_lists_each_verb_of_a_group_with_what_its_own_help_begins_with(group):
    said = " ".join(run_here("help", group, columns=300).stdout.replace("│", "").split())
    places, command = [said.index(GROUPS[group])], get_command(app)
    for verb in VERBS[group]:
        help_text = command.load(verb).help or ""
        first = " ".join(inspect.cleandoc(help_text).partition("\n\n")[0].split())
        assert first
        places.append(said.index(f"{verb} {first}", places[-1]))
    assert places == sorted(places)


def test_help_begins_with_the_first_week_and_has_a_line_for_each_other_group():
    said = " ".join(run_here("--help", columns=300).stdout.replace("│", "").split())
    assert len(VERBS[FIRST]) == 10 and said == " ".join(run_here("help", columns=300).stdout.replace("│", "").split())
    for group in VERBS.keys() - {FIRST}:
        assert f"help {group} {GROUPS[group]}: {', '.join(VERBS[group])}" in said
    listed = [verb for verbs in VERBS.values() for verb in verbs]
    imported = set(get_command(app).imported) - set(of_plugins(GROUP))  # which the reference of the command imports
    assert imported == set(listed) and len(listed) == len(set(listed))  # none is left out
    assert not set(GROUPS) & {*listed, *of_plugins(GROUP)}


def test_help_on_a_verb_is_its_own_and_a_misspelt_one_is_refused():
    assert run_here("help", "push").stdout == run_here("push", "--help").stdout != ""
    ended = run_here("help", "psh")
    assert ended.returncode == 2 and "psh" in ended.stderr


def test_help_of_train_leaves_out_what_is_rarely_needed():
    few, many = (" ".join(run_here("train", given, columns=300).stdout.split()) for given in ("--help", "--help-all"))
    assert "--memory-bank-size" not in few and "--memory-bank-size" in many and "--detector" in few
    assert "`edgead train --help-all` has 11 more options" in few and "--help-all" not in many


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
    assert EXAMPLES.keys() == {verb for verbs in VERBS.values() for verb in verbs}
    assert all(
        len(set(both)) == 2 and f"edgead {verb}" in both[0] and f"edgead {verb}" in both[1]
        for verb, both in EXAMPLES.items()
    )
    assert "Examples: edgead train good_images -o model" in " ".join(run_here("train", "--help").stdout.split())


def test_a_misspelt_verb_is_refused_with_the_nearest():
    ended = run_here("trian")
    assert ended.returncode == 2 and "Did you mean 'train'?" in ended.stderr


@pytest.mark.parametrize(("verb", "command"), [("golden", "edgead train GOLDEN_PARTS"), ("start", "edgead studio")])
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
        (["."], "found 1 good images, but at least 4 are needed"),
        ([".", "--detector", "simplenet"], "found 1 good images, but at least 20 are needed"),
        ([".", "--hold-out", "20"], "--hold-out 20: give a share of the good images, such as 0.2"),
    ],
)
def test_a_training_that_cannot_be_is_refused_before_torch_is_loaded(arguments, refusal, tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    said, heavy = loaded("train", *arguments, "-o", "model")
    assert refusal in said and "torch" not in heavy
    assert "cv2" not in heavy or "--normal-dir" in arguments or "images" in refusal  # of which the images are listed
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("verb", ["predict", "calibrate", "teach", "eval", "export", "sort", "sign"])
def test_a_model_that_is_not_there_is_refused_before_a_verb_loads_what_it_needs(verb):
    said, heavy = loaded(verb, "nowhere", "part.png")
    assert "nowhere is not an edgead model: no such directory" in said and heavy == set()


def test_presets_are_listed_without_torch():
    said, heavy = loaded("presets")
    assert "patchcore" in said and "paper_medium" in said and "auto" in said and "torch" not in heavy


def test_the_help_of_a_verb_fills_in_what_it_names_and_imports_no_torch():
    said, heavy = loaded("train", "--help")
    assert "one of patchcore, simplenet" in said.replace("│ ", "") and "torch" not in heavy
