"""Another package adds a source, a sink, a trigger and a runtime: one file each, made known by entry points."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated

import pytest
from daemons import make_site, started, write_site
from pydantic import BaseModel, TypeAdapter, ValidationError

from edgead.components import added
from edgead.components.options import NoOptions
from edgead.components.registry import Component, OneOf, Registry
from edgead.errors import SettingsError, tell_invalid
from edgead.sinks import SINKS, SinkError, SinkOptions, open_sink
from edgead.sources import SOURCES
from edgead.version import __version__

ROOT = Path(__file__).parents[2]
FILES = ROOT / "tests" / "third_party"
ENTRIES = {
    "edgead.sources": "grey_source",
    "edgead.sinks": "tally_sink",
    "edgead.triggers": "every_nth_trigger",
    "edgead.runtimes": "dimmed_runtime",
}


def installed(folder: Path, entries: dict[str, str], requires: str = "") -> dict[str, str]:
    """Write what a package manager leaves behind of a package; gives the environment that sees it.

    Entries name a module, or NAME = MODULE:CLASS.
    """
    metadata = folder / "edgead_extras-1.0.dist-info"
    metadata.mkdir(parents=True)
    needed = f"Requires-Dist: {requires}\n" if requires else ""
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: edgead-extras\nVersion: 1.0\n{needed}")
    text = "".join(
        f"[{group}]\n{value if ' = ' in value else f'{value} = {value}'}\n" for group, value in entries.items()
    )
    (metadata / "entry_points.txt").write_text(text)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{FILES}", "COLUMNS": "400"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("packages"), ENTRIES)


def edgead(environment, *arguments, fails=False):
    command = [sys.executable, "-c", "from edgead.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


@pytest.mark.slow
def test_they_run_in_the_camera_loop(environment, trained_model, tmp_path):
    tally = tmp_path / "tally.txt"

    def scores(runtime):
        reported = edgead(
            environment, *("stream", trained_model, "grey:?level=90&count=4", "--json"),
            *("--sink", f"tally:{tally}?mark=x", "--sink", f"jsonl:{tmp_path}/{runtime[:6]}"), "--runtime", runtime
        )  # fmt: skip
        assert json.loads(reported)["frames"] == 4
        return [json.loads(line)["image_score"] for line in (tmp_path / runtime[:6]).read_text().splitlines()]

    assert scores("dimmed?gain=0.5") != scores("onnxruntime")
    assert re.fullmatch(r"(x (ok|review|reject)\n){8}", tally.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, what",
    [
        (("grey:?levl=90",), "grey:?levl=90: unknown option 'levl'; known are count, level"),
        (("grey:?level=900",), "grey:?level=900: level: must be at most 255"),
        (("grei:",), "unknown scheme 'grei'; known are camera:0, "),
        (("grey:", "--sink", "tally:"), "tally:: the path is missing"),
        (("grey:", "--runtime", "dimmed?gain=2"), "runtime dimmed: gain: must be at most 1"),
        (("grey:", "--runtime", "dim"), "choose auto or one of onnxruntime, openvino, tensorrt, dimmed"),
    ],
)
def test_what_is_wrong_with_them_is_reported(environment, trained_model, arguments, what):
    assert what in edgead(environment, "stream", trained_model, *arguments, fails=True)


@pytest.mark.slow
def test_they_run_in_the_daemon(environment, trained_model, tmp_path):
    site = make_site(trained_model, cameras={"grey": {"uri": "grey:?level=90&count=60"}})
    site["pipelines"]["a"] |= {
        "camera": "grey", "trigger": {"kind": "every_nth", "n": 3}, "runtime": "dimmed?gain=1", "sinks": ["tally"]
    }  # fmt: skip
    site["sinks"] = {"tally": {"kind": "tally", "path": "tally.txt", "mark": "x"}}  # relative to the site file
    checked = edgead(environment, "daemon", "--check", "-c", write_site(tmp_path, site))
    for text in ("kind: every_nth", "n: 3", "kind: tally", f"path: {tmp_path}/tally.txt", "runtime: dimmed?gain=1"):
        assert text in checked
    with started(tmp_path, site, environment=environment) as daemon:
        assert daemon.wait_state("stopped", reason="has ended")["judged"] == 20
        daemon.stop()
    assert (tmp_path / "tally.txt").read_text().count("x ") == 20
    site["pipelines"]["a"]["trigger"]["n"] = 1
    reported = edgead(environment, "daemon", "--check", "-c", write_site(tmp_path, site), fails=True)
    assert "pipelines.a.trigger.n: must be at least 2" in reported


@pytest.mark.slow
def test_they_are_in_the_help_the_schema_and_the_reference(environment):
    reported = edgead(environment, "stream", "--help")
    assert "grey:?level=90" in reported and "tally:PATH?mark=x" in reported and "dimmed" in reported
    schema = json.dumps(json.loads(edgead(environment, "daemon", "--schema")))
    assert "TallyOptions" in schema and "EveryNthOptions" in schema and "dimmed" in schema
    text = edgead(environment, "daemon", "--components")
    for row in (
        "| `level` | whole number from 0 to 255 | `128` | Of every pixel. |",
        "| `mark` | text of at least 1 characters and at most 8 | `\\|` | What is written. |",
        "| `n` | whole number from 2 to 1,000 | must be given | One frame in so many. |",
        "| `gain` | number above 0 to 1 | `1.0` | Factor of all outputs. |",
    ):
        assert row in text


WITHOUT_A_KIND = """
from edgead.sinks import SinkOptions, register
class MineOptions(SinkOptions):
    pass
register("mine", MineOptions, lambda name, options: None)
"""


@pytest.mark.parametrize(
    "content, why",
    [
        ("import tally_sink\nraise RuntimeError('no licence')\n", "RuntimeError: no licence"),
        (WITHOUT_A_KIND, "mine: its options must have a field `kind: Literal['mine']`"),
    ],
)
def test_one_that_is_broken_is_reported_and_the_others_are_there(tmp_path, content, why):
    (tmp_path / "broken.py").write_text(content)
    environment = installed(tmp_path, {"edgead.sinks": "broken", "edgead.sources": "grey_source"})
    code = (
        "import edgead.line.site.schema; from edgead.sinks import SINKS; from edgead.sources import SOURCES;"
        "print(*SINKS.all(), *SOURCES.all())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == sorted([*SINKS.all(), *SOURCES.all(), "grey"])
    assert done.stderr == (f"entry point broken = broken (edgead.sinks) cannot be used and is left out: {why}\n")


@pytest.mark.parametrize(
    ("here", "requires", "fits"),
    [
        ("0.2.0.dev0", "edgead[train]>=0.2.0.dev0,<0.3", True),
        ("0.2.0.dev7+g1234567", "edgead>=0.2.0.dev0,<0.3", True),
        ("0.2.0", "edgead>=0.2.0.dev0,<0.3", True),
        ("0.2.1.dev3+g1234567", "edgead>=0.2.0.dev0,<0.3", True),
        ("0.1.0", "edgead>=0.2.0.dev0,<0.3", False),
        ("0.3.0.dev1+g1234567", "edgead>=0.2.0.dev0,<0.3", False),
        ("0.3.0", "edgead>=0.2.0.dev0,<0.3", False),
        ("0.3.0", "edgead<0.3; extra == 'test'", True),
        ("0.3.0", "edgead-plant<0.3", True),
        ("0.3.0", "", True),
    ],
)
def test_a_package_is_loaded_where_it_fits_this_version(tmp_path, monkeypatch, here, requires, fits):
    installed(tmp_path, {"edgead.verbs": "hello = json:loads"}, requires)
    (package,) = distributions(path=[str(tmp_path)])
    (entry,) = package.entry_points
    monkeypatch.setattr(added, "__version__", here)
    if fits:
        assert added.load_entry(entry) is json.loads
    else:
        both = f"edgead-extras 1.0 needs edgead <0.3,>=0.2.0.dev0, and this is edgead {here}: "
        with pytest.raises(SettingsError, match=re.escape(both)):
            added.load_entry(entry)


def test_a_package_for_another_version_is_named_with_both_versions_and_the_others_are_there(tmp_path):
    groups = ("methods", "backbones", "heads", "sorters", "sinks", "verbs")
    environment = installed(tmp_path, {f"edgead.{group}": "late = json:loads" for group in groups}, "edgead>=99")
    code = """
from edgead.adapt.frozen_backbone import added_backbones
from edgead.adapt.methods.registry import METHODS
from edgead.cli import main
from edgead.errors import EdgeadError
from edgead.heads import find_head
from edgead.sinks import SINKS
from edgead.unlabelled.sorting.sort import SORTERS
print(*SINKS.all())
for load in (lambda: METHODS.find("late"), added_backbones, lambda: find_head("late"), lambda: SORTERS.find("late")):
    try:
        load()
    except EdgeadError as error:
        print(error)
import sys
sys.argv = ["edgead", "late"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    both = f"edgead-extras 1.0 needs edgead >=99, and this is edgead {__version__}: "
    kinds, *said = done.stdout.splitlines()
    assert {*SINKS.builtin()} <= {*kinds.split()} and "late" not in kinds.split()
    assert len(said) == 4 and all(both in line for line in said), done.stdout
    assert done.returncode and done.stderr.count(both) == 2, done.stderr  # of the sink, and of the verb


@pytest.mark.parametrize(
    "name, options, scheme, what",
    [
        ("one", NoOptions, "other", "a thing named 'one' is there already: choose another name"),
        ("other", NoOptions, "one", "one: belongs to another thing already: choose another scheme"),
        ("other", BaseModel, "other", "other: its options must be a subclass of edgead's Section"),
    ],
)
def test_a_name_or_a_scheme_belongs_to_one(name, options, scheme, what):
    things = Registry("thing", ())
    things.add(Component("one", NoOptions, {"one": "one:"}))
    with pytest.raises(SettingsError, match=what):
        things.add(Component(name, options, {scheme: "x:"}))
    assert list(things.all()) == ["one"]


def test_a_kind_of_a_plug_in_that_is_not_installed_is_named_with_its_package(monkeypatch):
    bare = Registry("sink", ())
    monkeypatch.setattr(bare, "_load_others", lambda: None)
    for known in ("jsonl", "webhook"):
        bare.add(Component(known, SINKS.named(known).options, {}))
    section = TypeAdapter(Annotated[SinkOptions, OneOf(bare)])
    assert section.validate_python({"kind": "jsonl", "path": "x"}).path == Path("x")
    with pytest.raises(ValidationError) as refused:
        section.validate_python({"kind": "s7", "host": "10.0.0.20", "db": 20})
    reported = tell_invalid(refused.value.errors(), whole="sinks.plc")
    assert re.fullmatch(r"sinks.plc: s7 comes with edgead-plant: .*pip install '.*edgead-plant\[s7\]'", reported)
    with pytest.raises(ValidationError) as refused:
        section.validate_python({"kind": "s8"})
    assert "unknown kind 's8'; known are jsonl, webhook" in tell_invalid(refused.value.errors())


def test_a_scheme_of_a_plug_in_that_is_not_installed_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(SINKS, "of_scheme", lambda scheme: None)
    with pytest.raises(SinkError, match=r"^gpio:17: gpio comes with edgead-plant: .*pip install"):
        open_sink("gpio:17")
    with pytest.raises(SinkError, match="^opcua://host: opcua comes with edgead-plant: "):
        open_sink("opcua://host")


def test_the_page_has_the_files_that_run_here():
    page = (ROOT / "docs" / "components.md").read_text()
    for module in ENTRIES.values():
        assert (FILES / f"{module}.py").read_text() in page


def test_every_kind_has_its_group_of_entry_points():
    from edgead.line.site.reference import KINDS

    assert {f"edgead.{registry.kind}s" for registry, _ in KINDS} == set(ENTRIES)
    assert all(isinstance(registry, Registry) for registry, _ in KINDS)


def test_the_pages_have_the_detector_and_the_head_that_run_here():
    assert (FILES / "mean_image_method.py").read_text() in (ROOT / "docs" / "methods.md").read_text()
    assert (FILES / "top_head.py").read_text() in (ROOT / "docs" / "heads.md").read_text()


THEIR_DETECTORS = """
from mean_image_method import MeanImage
from top_head import TopHead

class TopMean(MeanImage):
    name = "top_mean"

    @property
    def head(self):
        return TopHead(count=self.config.patch)

class WrongHead(MeanImage):
    name = "wrong_head"

    @property
    def head(self):
        return TopHead.model_construct(kind="wrong")
"""


@pytest.mark.slow
def test_a_head_of_theirs_scores(tmp_path, line_data):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    (tmp_path / "theirs.py").write_text(THEIR_DETECTORS)
    heads = "top = top_head:TopHead\nwrong = top_head:TopHead"
    methods = "top_mean = theirs:TopMean\nother_name = theirs:TopMean\nwrong_head = theirs:WrongHead"
    environment = installed(tmp_path, {"edgead.heads": heads, "edgead.methods": methods})
    model = tmp_path / "model"
    for detector, problem in (
        ("other_name", "the name of theirs:TopMean is 'top_mean'"),
        ("wrong_head", "the kind of top_head:TopHead is 'top', not 'wrong'"),
    ):
        assert problem in edgead(environment, "train", line_data, "-o", model, "--detector", detector, fails=True)
    edgead(environment, "train", line_data, "-o", model, "--detector", "top_mean")
    assert json.loads((model / "manifest.json").read_text())["head"] == {"kind": "top", "count": 8}
    edgead(environment, "verify", model, line_data / "test" / "good")
    said = edgead(environment, "export", model, line_data, "--precision", "int8", fails=True)
    assert "has no convolution, all that int8 changes: take fp32 or fp16" in said


@pytest.mark.slow
def test_a_detector_of_theirs_is_trained_proven_and_judges(tmp_path, line_data):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    environment = installed(tmp_path, {"edgead.methods": "mean_image = mean_image_method:MeanImage"})
    model = tmp_path / "model"
    edgead(environment, "train", line_data, "-o", model, "--detector", "mean_image", "--set", "patch=4")
    edgead(environment, "verify", model, line_data / "test" / "good")
    found = json.loads(edgead(environment, "eval", model, line_data, "--json"))
    assert 0 < found["image_AUROC"] < 1  # no more: parts of that line lie where they like
    assert "parts that lie still" in edgead(environment, "presets")


@pytest.mark.slow
def test_doctor_names_plug_ins_sound_and_broken(tmp_path):
    (tmp_path / "nothing_sink.py").write_text("")
    sinks = "tally_sink = tally_sink\nnothing_sink = nothing_sink"
    environment = installed(tmp_path, {"edgead.sinks": sinks, "edgead.triggers": "their_trigger = their_trigger"})
    found = json.loads(edgead(environment, "doctor", "--json"))["plug-ins"]
    assert not found["ok"] and "tally_sink (sinks)" in found["detail"]
    assert "their_trigger (triggers) cannot be used: ModuleNotFoundError: No module named" in found["detail"]
    assert "nothing_sink (sinks) cannot be used: it registers no sink" in found["detail"]


@pytest.mark.slow
def test_a_detector_of_theirs_is_listed_also_where_it_does_not_load(tmp_path):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    environment = installed(tmp_path, {"edgead.methods": "their_method"})
    said = " ".join(edgead(environment, "train", "--help").replace("│", "").split())
    assert "golden, " in said and ", their_method" in said
    listed = json.loads(edgead(environment, "presets", "--json"))
    assert "cannot be imported: No module named 'their_method'" in listed["their_method"]["purpose"]
    assert "default" in listed["patchcore"]["presets"]
