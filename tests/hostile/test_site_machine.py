"""A site through whatever people, disks and models do to it, in any order, while its daemon runs or is killed.

After any step: what was acknowledged is on record. At any time: what the site file names runs or is said to be in
fault, and what says that it runs judges. Once all is sound again one reload leads back to what the file names.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="A SITE THROUGH ANYTHING NOT TESTED: the small models need onnx")
if sys.platform != "linux":
    pytest.skip("A SITE THROUGH ANYTHING NOT TESTED: the daemon needs Linux", allow_module_level=True)
import cv2
from daemons import RunningDaemon, write_site
from fakes import free_port
from forked_daemon import Forks
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from patience import wait_for
from small_daemon import write_model
from small_graph import small_images

from edgead.files.atomic import exchange_names

MODELS = ["one", "two"]
NAMES = ["a", "b", "c"]
WHICH = st.integers(0, 5)  # of two or three pipelines
MODEL, NAME = st.sampled_from(MODELS), st.sampled_from(NAMES)
FAULTS = ["broken", "held", "slow"]
FAULT = st.sampled_from(FAULTS)
CAMERA, RATE = st.sampled_from(["live", "watched"]), st.sampled_from([20, 40])
IMAGE = cv2.imencode(".png", small_images(1)[0])[1].tobytes()


class SiteMachine(RuleBasedStateMachine):
    """What people do to a site, and what happens to it."""

    problems: list[str]  # that were found, also where they do not come back when the same steps are taken again
    once: Any  # the fixture
    forks: Forks

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="edgead-site."))
        for name in ("images", *FAULTS):
            (self.folder / name).mkdir()
        for name in MODELS:
            write_model(self.once, self.folder / name)
        self.made = self.fed = self.unsound = 0  # the last one: steps since all was sound
        self.lock: sqlite3.Connection | None = None
        self.acknowledged: list[tuple[str, str, Any]] = []
        self.rate = 20
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.named_at: dict[str, int] = {}  # the line of the log at which the file named another model
        self.read: dict[str, tuple[dict[str, Any], int]] = {}  # what the daemon has read for certain, and that line
        self.daemon: RunningDaemon | None = None

    @initialize(model=MODEL)
    def start(self, model):
        for name in ("a", "b"):
            self.name(name, "watched", model)
        self.start_daemon()

    # The site file, and when it is read

    @rule(name=NAME, camera=CAMERA, model=MODEL, at_once=st.booleans())
    def name_a_pipeline(self, name, camera, model, at_once):
        self.name(name, camera, model)
        self.reload(at_once)

    @rule(which=WHICH, at_once=st.booleans())
    def name_another_model(self, which, at_once):
        name, section = self.one_of_them(which)
        (other,) = set(MODELS) - {Path(section["model"]).name}
        self.name(name, section["camera"], other)
        self.reload(at_once)

    @precondition(lambda self: len(self.pipelines) > 1)
    @rule(which=WHICH, at_once=st.booleans())
    def name_it_no_more(self, which, at_once):
        del self.pipelines[self.one_of_them(which)[0]]
        self.reload(at_once)

    @rule(rate=RATE, at_once=st.booleans())
    def change_the_live_camera(self, rate, at_once):
        self.rate = rate
        self.reload(at_once)

    @rule()
    def reload(self, at_once=True):
        if at_once:
            self.write()
            self.daemon.process.send_signal(signal.SIGHUP)

    # Models

    @rule(fault=FAULT, which=WHICH)
    def a_model_misbehaves(self, fault, which):
        (self.folder / fault / Path(self.one_of_them(which)[1]["model"]).name).touch()
        self.feed()

    @rule(model=MODEL)
    def a_model_behaves_again(self, model):
        for fault in FAULTS:
            (self.folder / fault / model).unlink(missing_ok=True)

    @rule(model=MODEL)
    def a_model_is_damaged(self, model):
        if (bank := self.folder / model / "memory_bank.npy").exists():
            bank.write_bytes(b"damaged")

    @rule(model=MODEL, after=st.integers(0, 3), by_renames=st.booleans())
    def a_model_is_replaced_and_that_may_be_killed(self, model, after, by_renames):
        if (self.folder / model).exists():
            draft = str(self.draft(model))
            self.forks.fork(
                "replace_model", model=str(self.folder / model), draft=draft, after=after, by_renames=by_renames
            ).wait()

    # The computer

    @rule()
    def the_computer_ends_and_starts(self):
        self.daemon.close()
        self.the_store_is_free_again()  # without it the daemon does not start, which it says
        self.start_daemon()

    @precondition(lambda self: self.lock is None)
    @rule()
    def somebody_locks_the_store(self):
        self.lock = sqlite3.connect(self.folder / "evidence" / "verdicts.sqlite", isolation_level=None, timeout=30)
        self.lock.execute("BEGIN IMMEDIATE")

    @rule()
    def the_store_is_free_again(self):
        if self.lock is not None:
            self.lock.close()
            self.lock = None

    # The page

    @rule(name=NAME, review=st.integers(1, 10**6))
    def somebody_sets_thresholds(self, name, review):
        given = {"review": review, "reject": 2e6, "by": "Anna", "reason": "a new lamp"}
        if self.daemon.api.put(f"/api/pipelines/{name}/thresholds", json=given).status_code == 200:
            self.acknowledged.append(("thresholds", name, review))

    @rule(name=NAME, model=MODEL)
    def somebody_exchanges_the_model(self, name, model):
        if (self.folder / "held" / model).exists():
            return  # who asks would wait for it
        given = {"model": model, "by": "Anna"}
        if self.daemon.api.post(f"/api/pipelines/{name}/model", json=given).status_code == 200:
            self.acknowledged.append(("swap model", name, str(self.folder / model)))

    # What holds

    @invariant()
    def what_was_acknowledged_is_on_record(self):
        self.unsound += 1
        if self.acknowledged:
            with closing(sqlite3.connect(self.folder / "evidence" / "verdicts.sqlite")) as store:
                rows = store.execute("SELECT action, pipeline, after FROM audit").fetchall()
            found = [(action, pipeline, json.loads(after)) for action, pipeline, after in rows]
            found = [(*row, after["review"] if row[0] == "thresholds" else _path_of(after)) for *row, after in found]
            missing = [change for change in self.acknowledged if change not in found]
            if missing:
                self.fail(f"not on record: {missing}")

    @rule()
    def what_the_file_names_runs_or_is_said_to_be_in_fault(self):
        begin = len(self.daemon.log)
        self.reload()
        self.wait(lambda: not self.strays(begin), "what the site file names, in service or in fault")

    @rule()
    def what_says_that_it_runs_judges(self):
        found = self.states()
        # A recording waits for a pipeline that is still starting, and the others of the camera with it.
        awaited = {each["camera"] for each in found.values() if each["state"] == "starting"}
        self.wait_judged([name for name, each in found.items() if each["camera"] not in awaited], or_not_running=True)

    @precondition(lambda self: self.unsound >= 10)
    @rule()
    def what_the_file_names_runs_once_all_is_sound(self):
        self.unsound = 0
        self.the_store_is_free_again()
        for model in MODELS:
            self.a_model_behaves_again(model)
        for name in MODELS:
            self.make_sound(name)
        # What the faults have stopped has stopped: no frame is under way that fails after the reload.
        self.wait_judged(self.states(), or_not_running=True)
        self.reload_for_certain()
        self.wait(self.all_in_service, "what the site file names, in service")
        self.wait_judged(self.pipelines)

    # What it takes

    def make_sound(self, name):
        """Repair a model and its versions: where it is missing, the newest of these is put in its place."""
        for folder in (self.folder / name, *(self.folder / f"{name}.versions").glob("*")):
            bank = folder / "memory_bank.npy"
            if bank.exists() and bank.read_bytes() == b"damaged":
                sound = self.draft(name)
                exchange_names(sound, folder)  # in one step: a pipeline puts an earlier version where none is
                shutil.rmtree(sound)

    def one_of_them(self, which):
        return sorted(self.pipelines.items())[which % len(self.pipelines)]

    def name(self, name, camera, model):
        named = {"camera": camera, "model": str(self.folder / model)}
        if self.pipelines.get(name) != named:
            before, line = self.read.get(name, ({}, 0))
            # Where the name comes back, the daemon may never have read the other: what departed since then stands.
            self.named_at[name] = line if named == before else len(self.daemon.log) if self.daemon else 0
        self.pipelines[name] = named

    def write(self):
        images = self.folder / "images"
        cameras = {"live": {"uri": f"synthetic:?rate={self.rate}&count=6&repeat=1"}}
        cameras["watched"] = {"uri": f"watch:{images}?stable_ms=0&after=delete"}
        used = {section["camera"] for section in self.pipelines.values()}
        site = {"cameras": {name: cameras[name] for name in used}, "pipelines": self.pipelines}
        site |= {"store": {"folder": "evidence", "free_mib": 0}, "http": {"port": 0}}
        # Nobody is there who takes the verdicts.
        away = {"kind": "webhook", "url": f"http://127.0.0.1:{AWAY}", "retry_most_s": 1}
        sections = {name: {**section, "sinks": ["away"]} for name, section in self.pipelines.items()}
        return write_site(
            self.folder, site | {"pipelines": sections, "sinks": {"away": away}, "limits": {"restarts": 0}}
        )

    def reload_for_certain(self):
        """Reload, and once more when that has ended: it may have begun before the file was written."""
        for _ in range(2):
            ended = self.reloads()
            self.reload()
            self.wait(lambda ended=ended: self.reloads() > ended, "a reload of the site file")
        self.read = {name: (section, self.named_at[name]) for name, section in self.pipelines.items()}

    def reloads(self):
        return sum(line["message"].startswith("reloaded") for line in self.daemon.log)

    def start_daemon(self):
        (self.folder / "daemon.log").write_text("")
        process = self.forks.fork("run_daemon", site=str(self.write()))
        database = self.folder / "evidence" / "verdicts.sqlite"
        self.daemon = RunningDaemon(self.folder, process, self.folder / "daemon.log", database)
        self.named_at = dict.fromkeys(self.pipelines, 0)
        self.read = {name: (section, 0) for name, section in self.pipelines.items()}
        self.states()

    def states(self):
        return {each["name"]: each for each in self.daemon.api.get("/api/pipelines").raise_for_status().json()}

    def strays(self, begin):
        """Pipelines that are not as the file says, and of which nothing since that line of the log says so."""
        found, said = self.states(), [line["message"] for line in self.daemon.log[begin:]]
        strays = found.keys() ^ self.pipelines.keys()
        for name in found.keys() & self.pipelines.keys():
            each = found[name]
            faulty = each["state"] == "fault" and each["reason"] or each["state"] == "starting"
            refused = any(f"{name}: keeps its model" in line or f"{name}: its model is not" in line for line in said)
            if not (faulty or refused or self.in_service(name, each["model"])):
                strays.add(name)
        return strays

    def all_in_service(self):
        found = self.states()
        return found.keys() == self.pipelines.keys() and all(
            self.in_service(name, each["model"]) for name, each in found.items()
        )

    def in_service(self, name, model):
        """Whether that is the model which the file names, or which somebody has put in its place since."""
        changes = [
            line["message"]
            for line in self.daemon.log[self.named_at[name] :]
            if line.get("pipeline") == name and line.get("action") in ("swap model", "roll back on fault")
        ]
        departed = changes and "by site file" not in changes[-1] and _path_of(changes[-1].rpartition("-> ")[2]) == model
        return model == self.pipelines[name]["model"] or departed

    def wait_judged(self, names, *, or_not_running=False):
        begin = {name: each["judged"] for name, each in self.states().items() if name in names}
        found = {}

        def judged():
            self.feed()
            found.clear()
            found.update(self.states())
            return all(one_judged(name) for name in begin)

        def one_judged(name):
            each = found.get(name)
            if each is None or each["state"] != "running":
                return or_not_running
            begin[name] = min(begin[name], each["judged"])  # a reload that is under way may start it again
            return each["judged"] > begin[name]

        self.wait(judged, f"verdicts of {', '.join(begin)}")

    def wait(self, true, what):
        try:
            wait_for(true, what)
        except AssertionError as error:
            states = [(name, each["state"], each["reason"], each["judged"]) for name, each in self.states().items()]
            self.fail(f"{error}; the file names {self.pipelines}, there are {states}")

    def fail(self, problem):
        self.problems.append("\n".join([problem, *(line["message"] for line in self.daemon.log[-30:])]))
        raise AssertionError(problem)

    def draft(self, model):
        self.made += 1
        made = write_model(self.once, self.folder / f".draft-{self.made}")
        return made

    def feed(self):
        images = self.folder / "images"
        if len(list(images.glob("*.png"))) < 3:
            self.fed += 1
            (images / f".{self.fed}").write_bytes(IMAGE)
            os.rename(images / f".{self.fed}", images / f"{self.fed:06}.png")

    def teardown(self):
        try:
            if self.daemon is not None:
                self.what_the_file_names_runs_once_all_is_sound()
                self.what_was_acknowledged_is_on_record()
        finally:
            self.the_store_is_free_again()
            if self.daemon is not None:
                self.daemon.close()
            shutil.rmtree(self.folder)


def _path_of(named):
    """Where a model of the record lies, without its hash; nothing of what names none."""
    return named.partition(" (")[0] if isinstance(named, str) else named


AWAY = free_port()


@pytest.mark.slow
@pytest.mark.parametrize("examples", [pytest.param(5, marks=pytest.mark.faults), 50], ids=["a minute", "ten minutes"])
def test_a_site_comes_back_from_anything(once, examples):
    always_the_same = examples < 10
    with Forks() as forks:
        SiteMachine.once, SiteMachine.forks = staticmethod(once), forks
        SiteMachine.problems = []
        # A way that fails is not made shorter: each try would wait in vain for as long as `wait_for` does.
        options = {"phases": [Phase.generate], "suppress_health_check": list(HealthCheck), "database": None}
        options |= {"stateful_step_count": 40, "derandomize": always_the_same, "print_blob": not always_the_same}
        try:
            run_state_machine_as_test(SiteMachine, settings=settings(max_examples=examples, **options))
        except Flaky:
            if not SiteMachine.problems:
                raise
            raise AssertionError(SiteMachine.problems[0]) from None
