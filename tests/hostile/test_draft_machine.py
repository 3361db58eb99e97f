"""A studio through whatever two people do to its draft, model and limits, and kills while a model goes into service.

After any step: each model beside the others is whole, nothing unfinished lies there, what was acknowledged is on
record, and the limits in force are those of before or the record says why not.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="A DRAFT THROUGH ANYTHING NOT TESTED: the small models need onnx")
if sys.platform != "linux":
    pytest.skip("A DRAFT THROUGH ANYTHING NOT TESTED: the daemon needs Linux", allow_module_level=True)
import cv2
import httpx
import numpy as np
from daemons import RunningDaemon
from fakes import free_port
from forked_daemon import Forks
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from patience import PROGRAM_S, wait_for
from small_daemon import write_model
from small_graph import SIZE

from edgead.adapt.recalibrate import thresholds_by_hand, write_thresholds
from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.folder import Artifact
from edgead.cli.line.studio import _site_in
from edgead.errors import EdgeadError

DRAFT, PARTS = "/api/commission/parts", "/api/pipelines/parts"
FEWEST = 20
PEOPLE = ["Anna", "Ben"]
WHO, WHICH = st.sampled_from(PEOPLE), st.integers(0, 40)
PLACE = st.integers(0, SIZE - 8)
WITH_PIPELINE = st.booleans()
# A model's way into service has fewer steps of the file system than the most of these.
STEPS = st.integers(0, 28)
AFTER_MS = st.integers(0, 200)
KILLS, RACES = 100, 50
OTHERS = ["discard", "learn", "draw", "leave out", "go"]


def png(number: int) -> bytes:
    image = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


class Studio:
    """A studio with small models, its daemon, and what two people ask of it."""

    def __init__(self, learnable: Path, forks: Forks):
        self.folder = Path(tempfile.mkdtemp(prefix="edgead-draft."))
        shutil.copytree(learnable, self.folder / "learnable")
        self.site = _site_in(self.folder / "studio", free_port())
        self.site = self.site.rename(self.folder / "site.yaml")
        self.models = self.folder / "models"
        self.models.mkdir()
        self.forks = forks
        self.sent = self.named = 0
        self.daemon: RunningDaemon | None = None
        self.start()

    def start(self) -> None:
        (self.folder / "daemon.log").write_text("")
        process = self.forks.fork("run_learning_daemon", site=str(self.site))
        database = self.folder / "store" / "verdicts.sqlite"
        self.daemon = RunningDaemon(self.folder, process, self.folder / "daemon.log", database)  # type: ignore[arg-type]
        self.url = self.daemon.api.base_url

    def close(self) -> None:
        if self.daemon is not None:
            self.daemon.close()
        shutil.rmtree(self.folder)

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Ask over a connection of one's own, as each person does."""
        with httpx.Client(base_url=self.url, timeout=PROGRAM_S) as client:
            return client.request(method, path, **given)

    def draft(self) -> dict[str, Any] | None:
        answer = self.ask("GET", DRAFT)
        return answer.json() if answer.status_code == 200 else None

    def is_ready(self) -> bool:
        draft = self.draft()
        return draft is not None and draft["state"] == "learnt"

    def learnt(self) -> None:
        """Have a draft with a model that was learnt from it."""
        if self.draft() is None:
            self.ask("POST", DRAFT, json={"by": "Anna"}).raise_for_status()
        self.send(FEWEST - len(self.draft()["images"]))
        if not self.is_ready():
            self.ask("POST", f"{DRAFT}/learn").raise_for_status()
            wait_for(self.is_ready, "a model")

    def send(self, count: int) -> None:
        if count > 0:
            self.ask("POST", f"{DRAFT}/folder", json={"images": count, "by": "Anna"}).raise_for_status()
        for _ in range(count):
            self.sent += 1
            kind = {"Content-Type": "image/png"}
            self.ask("POST", f"{DRAFT}/images", content=png(self.sent), headers=kind).raise_for_status()

    def new_name(self) -> str:
        self.named += 1
        return f"m{self.named}"

    def go(self, model: str, into_service: bool, who: str = "Anna") -> httpx.Response:
        given = {"model": model, "pipeline": "parts" if into_service else None, "by": who}
        return self.ask("POST", f"{DRAFT}/go", json=given)

    def go_and_die(self, model: str, into_service: bool, steps: int) -> httpx.Response | None:
        """Kill the daemon after so many steps of the file system, and start it again; its answer if it gave one."""
        (self.folder / "die").write_text(str(steps))
        try:
            return self.go(model, into_service)
        except httpx.TransportError:
            return None
        finally:
            self.steps_left = int((self.folder / "die").read_text())
            (self.folder / "die").unlink()
            self.daemon.process.kill()
            self.daemon.process.wait()
            self.start()

    def two_at_once(self, first: Any, second: Any, after_ms: int) -> list[httpx.Response]:
        def later() -> httpx.Response:
            time.sleep(after_ms / 1000)
            return second()

        with ThreadPoolExecutor(2) as people:
            return [future.result() for future in [people.submit(first), people.submit(later)]]

    def broken_models(self) -> list[str]:
        """Models that are not whole, and what unfinished ones lie beside them while nothing is under way."""
        lessons = any(lesson["state"] == "ready" for lesson in self.ask("GET", "/api/lessons").json()["lessons"])
        found = []
        for folder in self.models.iterdir():
            if folder.name.startswith("."):
                found += [] if lessons and ".lesson." in folder.name else [folder.name]
                continue
            for model in earlier_versions(folder.with_suffix("")) if folder.suffix == ".versions" else [folder]:
                try:
                    Artifact.load(model)
                except EdgeadError as error:
                    found.append(f"{model.name}: {error}")
        return found

    def forget_models_before(self, name: str) -> None:
        """Remove models that nothing needs: they are many, and large."""
        for folder in self.models.iterdir():
            if folder.name not in (name, Path(self.ask("GET", PARTS).json()["model"]).name):
                shutil.rmtree(folder)

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        rows = self.ask("GET", "/api/audit?limit=200").json()
        return [row for row in rows if row["seq"] > after]


class DraftMachine(RuleBasedStateMachine):
    """What two people do to a draft, its models and their limits, and what happens to the computer."""

    problems: list[str]  # that were found, also where they do not come back when the same steps are taken again
    steps: int
    learnable: Path
    forks: Forks

    def __init__(self) -> None:
        super().__init__()
        self.studio = Studio(self.learnable, self.forks)
        self.acknowledged: list[tuple[str, Any]] = []
        self.in_force: tuple[str, Any] = ("", None)
        self.seen = 0  # the last row of the record when that was seen

    @initialize()
    def a_first_model_judges(self):
        self.studio.learnt()
        self.go(True)

    # The draft

    @rule(who=WHO)
    def begin(self, who):
        there = self.studio.draft() is not None
        answer = self.studio.ask("POST", DRAFT, json={"by": who})
        self.hold(answer.status_code == (409 if there else 200), answer.text)

    @rule(count=st.sampled_from([1, FEWEST]))
    def send_images(self, count):
        if self.studio.draft() is not None:
            self.studio.send(count)

    @rule(who=WHO, place=PLACE)
    def draw(self, who, place):
        if (draft := self.studio.draft()) is not None:
            drawn = {"wanted": 60, "ignored": [[place, place, 8, 8]], "revision": draft["revision"], "by": who}
            if self.studio.ask("PUT", DRAFT, json=drawn).status_code == 200:
                self.acknowledged.append(("change draft", f"{place},{place},8,8"))

    @rule(who=WHO, which=WHICH, back=st.booleans())
    def leave_an_image_out_or_put_it_back(self, who, which, back):
        draft = self.studio.draft() or {"images": [], "left_out": []}
        names, what = (draft["left_out"], "restore") if back else (draft["images"], "remove")
        if names:
            name = names[which % len(names)]
            if self.studio.ask("POST", f"{DRAFT}/images/{name}/{what}", json={"by": who}).status_code == 200:
                self.acknowledged.append(("put image back" if back else "leave image out", name))

    @rule()
    def learn(self):
        self.studio.learnt()

    @rule(who=WHO)
    def discard(self, who):
        there = self.studio.draft()
        self.studio.ask("POST", f"{DRAFT}/discard", json={"by": who}).raise_for_status()
        if there is not None:
            self.acknowledged.append(("discard draft", len(there["images"]) + len(there["left_out"])))

    @rule(into_service=WITH_PIPELINE)
    def go(self, into_service):
        name, ready = self.studio.new_name(), self.studio.is_ready()
        self.went(self.studio.go(name, into_service), name, ready)

    def went(self, answer, name, ready):
        self.hold((answer.status_code == 200) == ready, answer.text)
        if ready:
            self.acknowledged.append(("commission model", str(self.studio.models / name)))

    @rule(into_service=WITH_PIPELINE, after_ms=AFTER_MS)
    def one_puts_a_model_into_service_and_the_other_discards_the_draft(self, into_service, after_ms):
        self.one_puts_a_model_into_service_and_the_other_does_what_else("discard", into_service, after_ms)

    @rule(other=st.sampled_from(OTHERS), into_service=WITH_PIPELINE, after_ms=AFTER_MS)
    def one_puts_a_model_into_service_and_the_other_does_what_else(self, other, into_service, after_ms):
        self.studio.learnt()
        name, draft = self.studio.new_name(), self.studio.draft()
        drawn = {"wanted": 60, "ignored": [], "revision": draft["revision"], "by": "Ben"}
        others = {
            "discard": lambda: self.studio.ask("POST", f"{DRAFT}/discard", json={"by": "Ben"}),
            "learn": lambda: self.studio.ask("POST", f"{DRAFT}/learn"),
            "draw": lambda: self.studio.ask("PUT", DRAFT, json=drawn),
            "leave out": lambda: self.studio.ask("POST", f"{DRAFT}/images/{draft['images'][0]}/remove"),
            "go": lambda: self.studio.go(name, into_service, "Ben"),
        }
        self.two_at_once(name, lambda: self.studio.go(name, into_service), others[other], after_ms)

    def two_at_once(self, name, first, second, after_ms):
        """Let two ask at once; a model that one of them is said to have put beside the others is whole there."""
        answers = self.studio.two_at_once(first, second, after_ms)
        texts = [answer.text for answer in answers]
        self.hold(all(answer.status_code in (200, 409) for answer in answers), texts)
        if any(answer.status_code == 200 and "model" in answer.json() for answer in answers):
            self.hold((self.studio.models / name / "manifest.json").exists(), f"{name} is no model: {texts}")
            self.acknowledged.append(("commission model", str(self.studio.models / name)))
        wait_for(lambda: (draft := self.studio.draft()) is None or draft["state"] != "learning", "the end of learning")

    @rule(into_service=WITH_PIPELINE, steps=STEPS)
    def the_computer_stops_while_a_model_goes_into_service(self, into_service, steps):
        self.studio.learnt()
        name = self.studio.new_name()
        answer = self.studio.go_and_die(name, into_service, steps)
        if answer is not None:
            self.went(answer, name, True)
        self.went(self.studio.go(name, into_service), name, True)

    @rule(steps=STEPS)
    def the_computer_stops_while_a_model_is_put_beside_the_others(self, steps):
        self.the_computer_stops_while_a_model_goes_into_service(False, steps)

    @rule()
    def the_computer_ends_and_starts(self):
        self.studio.daemon.close()
        self.studio.start()

    # Models and limits

    @rule(who=WHO, review=st.integers(1, 10**6))
    def set_limits_on_the_page(self, who, review):
        given = {"review": review, "reject": 2e6, "by": who, "reason": "a new lamp"}
        if self.studio.ask("PUT", f"{PARTS}/thresholds", json=given).status_code == 200:
            self.acknowledged.append(("thresholds", review))

    @rule(reject=st.integers(3, 10**6), at_once=st.booleans())
    def calibrate_by_the_command(self, reject, at_once):
        if model := self.status()["model_sha256"] and Path(self.status()["model"]):
            artifact = Artifact.load(model)
            change, calibration = thresholds_by_hand(artifact, None, reject=reject, review=reject)
            write_thresholds(artifact, change, calibration, reason="a new lamp")
            if at_once:
                self.studio.daemon.process.send_signal(signal.SIGHUP)

    @rule(who=WHO)
    def roll_back(self, who):
        self.studio.ask("POST", f"{PARTS}/roll-back", json={"by": who})

    @rule(who=WHO, number=st.integers(1000, 1100))
    def teach_a_part(self, who, number):
        kind = {"Content-Type": "image/png"}
        judged = self.studio.ask("POST", f"{PARTS}/judge", content=png(number), headers=kind)
        if judged.status_code == 200:
            verdict = judged.json()["id"]
            mark = {"verdict": "good", "by": who}
            self.studio.ask("POST", f"/api/verdicts/{verdict}/mark", json=mark).raise_for_status()
            lesson = {"pipeline": "parts", "verdicts": [verdict], "by": who}
            if self.studio.ask("POST", "/api/lessons", json=lesson).status_code == 200:
                self.acknowledged.append(("teach", verdict))
                wait_for(lambda: self.lessons()[0]["state"] != "running", "the end of a lesson")

    @rule(who=WHO, accept=st.booleans())
    def decide_on_the_lesson(self, who, accept):
        what, before = "accept" if accept else "discard", self.status()["thresholds"]
        if self.studio.ask("POST", f"/api/lessons/parts/{what}", json={"by": who}).status_code == 200:
            self.acknowledged.append((f"{what} lesson", None))
            # What was taught here scores as before: no limit moves, whoever has set or calibrated it.
            now = self.status()["thresholds"]
            self.hold(before in (None, now), f"a lesson moved {before} to {now}")  # None: the model is being loaded

    # What holds

    @invariant()
    def models_are_whole_and_nothing_unfinished_lies_beside_them(self):
        DraftMachine.steps += 1
        self.hold(not (found := self.studio.broken_models()), found)

    @invariant()
    def what_was_acknowledged_is_on_record(self):
        found = [(row["action"], _said(row["action"], row["before"], row["after"])) for row in self.studio.rows()]
        missing = [one for one in self.acknowledged[-150:] if one not in found]
        self.hold(not missing, f"not on record: {missing}")

    @invariant()
    def limits_move_for_a_reason_on_record(self):
        # A row may be written between two of these questions: what came after the first is looked at next time, too.
        newest = max((row["seq"] for row in self.studio.rows()), default=0)
        status = self.status()
        sha256, limits = status["model_sha256"], status["thresholds"]
        if not sha256 or limits is None:
            return  # it is being loaded
        rows = self.studio.rows(self.seen)
        before, self.in_force, self.seen = self.in_force, (sha256, limits), newest
        if limits != before[1]:
            why = self.reason_of(rows, before, status["model"])
            self.hold(why, f"the limits were {before}, are {self.in_force}, and nothing says why: {rows}")

    def reason_of(self, rows, before, model):
        """Say whether one of these rows of the audit, or the model's own record, gives a reason for the limits."""
        sha256, limits = self.in_force
        set_here = [row for row in rows if row["action"] == "thresholds" and _limits(row["after"]) == limits]
        another = [row for row in rows if isinstance(row["after"], str) and sha256[:16] in row["after"]]
        changes = Artifact.load(Path(model)).manifest.threshold_changes
        calibrated = changes and _limits(changes[-1].after.model_dump()) == limits and changes[-1].reason
        return set_here or another or (calibrated and sha256 != before[0])

    # What it takes

    def hold(self, true, problem):
        if not true:
            self.problems.append(str(problem))
            raise AssertionError(problem)

    def status(self):
        return self.studio.ask("GET", PARTS).json()

    def lessons(self):
        return self.studio.ask("GET", "/api/lessons").json()["lessons"]

    def teardown(self):
        self.studio.close()


def _said(action, before, after):
    """What of a row is compared with what was acknowledged."""
    of = {
        "change draft": lambda: after["ignored"][0] if after["ignored"] else None,
        "leave image out": lambda: after["image"],
        "put image back": lambda: after["image"],
        "discard draft": lambda: before["images"],
        "commission model": lambda: after["model"],
        "thresholds": lambda: after["review"],
        "teach": lambda: after["verdicts"][0],
    }
    return of[action]() if action in of else None


def _limits(given):
    return {name: given[name] for name in ("review", "reject")}


@pytest.mark.slow
@pytest.mark.parametrize("examples", [pytest.param(3, marks=pytest.mark.faults), 26], ids=["minutes", "thousand steps"])
def test_a_draft_comes_whole_through_anything(once, tmp_path, examples):
    always_the_same = examples < 10
    with Forks() as forks:
        DraftMachine.learnable, DraftMachine.forks = write_model(once, tmp_path / "learnable"), forks
        # A way that fails is not made shorter: starts and kills take their time.
        options = {"phases": [Phase.generate], "suppress_health_check": list(HealthCheck), "database": None}
        options |= {"stateful_step_count": 40, "derandomize": always_the_same, "print_blob": not always_the_same}
        DraftMachine.problems, DraftMachine.steps = [], 0
        try:
            run_state_machine_as_test(DraftMachine, settings=settings(max_examples=examples, **options))
        except Flaky:
            if not DraftMachine.problems:
                raise
            raise AssertionError(DraftMachine.problems[0]) from None
        finally:
            print(f"{DraftMachine.steps} steps in {examples} ways")


@pytest.fixture
def studio(trained_model):
    """A studio that learns a real model."""
    with Forks() as forks:
        studio = Studio(trained_model, forks)
        try:
            studio.learnt()
            yield studio
        finally:
            studio.close()


@pytest.mark.slow
def test_a_hundred_kills_on_the_way_into_service_use_up_no_name_and_leave_nothing(studio):
    most = 10**6
    for into_service in (True, False):  # so many steps of the file system has the way
        assert studio.go_and_die(studio.new_name(), into_service, most).status_code == 200
        steps = most - studio.steps_left
        answered = 0
        for number in range(KILLS // 2):
            name = studio.new_name()
            answered += studio.go_and_die(name, into_service, number * steps // (KILLS // 2)) is not None
            assert studio.broken_models() == []
            answer = studio.go(name, into_service)
            assert answer.status_code == 200, (number, answer.text)
            assert studio.broken_models() == []
            studio.forget_models_before(name)
        print(f"into service {into_service}: {steps} steps, {answered} of {KILLS // 2} answered before the kill")


@pytest.mark.slow
def test_fifty_races_of_two_people_leave_a_whole_model_or_a_refusal(studio):
    chance, went = random.Random(5), 0
    for _ in range(RACES):
        studio.learnt()
        name, into_service = studio.new_name(), chance.random() < 0.5
        answers = studio.two_at_once(
            lambda name=name, into_service=into_service: studio.go(name, into_service),
            lambda: studio.ask("POST", f"{DRAFT}/discard", json={"by": "Ben"}),
            chance.randrange(200),
        )
        assert all(answer.status_code in (200, 409) for answer in answers), [answer.text for answer in answers]
        went += any(answer.status_code == 200 and "model" in answer.json() for answer in answers)
        assert studio.broken_models() == [], name
        studio.forget_models_before(name)
    print(f"{went} of {RACES} models put beside the others")
    assert went > 0
