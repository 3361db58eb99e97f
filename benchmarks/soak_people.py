"""People at a soaked daemon: lessons, reloads, calibrations and commissions in turn, each looked at once it has ended.

After each one: no answer was a server's error, and limits are those of before or a row of the audit, or the model's
own record with its reason, says why not. At the end: each model in the folder is whole and named in the audit or the
site file, each model that the audit names is there, and nothing unfinished lies beside them.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.folder import Artifact
from edgead.errors import EdgeadError
from edgead.images.files import write_image
from edgead.synthetic.line import part_seed, render

LINE, OTHER, CAMERA = "line", "other", "conveyor"
_BY = {"by": "soak"}
_PARTS = 20  # of a draft, and of a calibration
_WITHIN_S = 300.0
_BUSY = 503  # an answer, not a fault
_GONE = ("the store keeps no image of it", "the store has just removed images")  # a refusal in words, on a busy device


class People(threading.Thread):
    """Change a running daemon until `stop` is called.

    Parameters
    ----------
    site : Path
        Its file; the pipeline `line` judges the camera `conveyor`, and its model lies in the folder `models` beside it.
    process : subprocess.Popen
    log : Path

    Attributes
    ----------
    done, answers : Counter
        What was done, and how often; the page's answers by their status.
    problems : list of str
        What does not hold.
    """

    def __init__(self, site: Path, process: subprocess.Popen, log: Path):
        super().__init__(name="people", daemon=True)
        self.done: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.problems: list[str] = []
        self._site, self._process, self._log = site, process, log
        self._models = site.parent / "models"
        self._ended = threading.Event()
        self._chance = random.Random(1)
        self._seen = 0  # the last row of the audit
        self._limits: tuple[str, Any] = ("", None)

    def run(self) -> None:
        """Do one after another until the end; what fails is a problem, and the next one comes."""
        port = self._wait(self._port, "the page")
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0)
        self._wait(lambda: self._status()["thresholds"], "a model")
        while not self._ended.is_set():
            for change in (
                self._reload,
                self._teach,
                self._set_limits,
                self._calibrate,
                self._commission,
                self._go_back,
            ):
                if self._ended.is_set():
                    return
                try:
                    change()
                    self._look_at_limits()
                except Exception as error:  # noqa: BLE001  the edge of a thread: it is said, and the soak goes on
                    self.problems.append(f"{change.__name__}: {type(error).__name__}: {error}")

    def found(self) -> dict[str, Any]:
        """Give what was done, how the page answered, and what does not hold."""
        return {"people": dict(self.done), "answers": dict(self.answers), "problems": self.problems}

    def stop(self) -> None:
        """Let what is under way end, and look at what is there; the daemon still runs."""
        self._ended.set()
        self.join(_WITHIN_S)
        self._ask("POST", f"/api/lessons/{LINE}/discard", json=_BY)
        self._look_at_models()
        self._client.close()

    def _reload(self) -> None:
        site = yaml.safe_load(self._site.read_text())
        if site["pipelines"].pop(OTHER, None) is None:
            # A lesson is for a model that no other pipeline has; the file takes no aliases of YAML, so it is a copy.
            site["pipelines"][OTHER] = copy.deepcopy(site["pipelines"][LINE]) | {"model": str(self._models / OTHER)}
        self._site.write_text(yaml.safe_dump(site, sort_keys=False))
        self._read_again()
        self.done["reloads"] += 1

    def _teach(self) -> None:
        self._ask("POST", f"/api/lessons/{LINE}/discard", json=_BY)  # one that a calibration since has made useless
        verdict = self._chance.choice(self._wait(self._with_images, "verdicts with images"))
        mark = {"verdict": "good", "pipeline": LINE, **_BY}
        self._must("POST", f"/api/verdicts/{verdict}/mark", json=mark)
        lesson = {"pipeline": LINE, "verdicts": [verdict], "reason": "it is good", **_BY}
        answer = self._ask("POST", "/api/lessons", json=lesson)
        if answer.status_code == httpx.codes.CONFLICT and any(said in answer.text for said in _GONE):
            self.done["lessons refused"] += 1
            return
        _said(answer)
        try:
            ended = self._wait(lambda: (one := self._lesson())["state"] != "running" and one, "a lesson")
        except TimeoutError:  # learning gives way to all else that the machine does
            ended = {"state": "given up"}
        self.done[f"lessons {ended['state']}"] += 1
        what = "accept" if ended["state"] == "ready" and self._chance.random() < 0.7 else "discard"
        if self._ask("POST", f"/api/lessons/{LINE}/{what}", json=_BY).status_code == httpx.codes.OK:
            self.done[f"lessons {what}ed"] += 1

    def _set_limits(self) -> None:
        given = {name: 0.95 * limit for name, limit in _limits(self._status()["thresholds"]).items()}
        given = {**given, "reason": "a trial", **_BY}
        self._must("PUT", f"/api/pipelines/{LINE}/thresholds", json=given)
        self.done["limits set"] += 1

    def _calibrate(self) -> None:
        images = self._site.parent / "lamp"
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir()
        day = self._chance.randrange(10**6)
        for number in range(_PARTS):
            write_image(images / f"{number:02d}.png", render(part_seed(day, number))[0])
        command = [sys.executable, "-c", "from edgead.cli import main; main()", "calibrate", self._status()["model"]]
        options = [str(images), "--false-reject-rate", "0.1", "--accept-outliers", "--yes", "--reason", "a new lamp"]
        ended = subprocess.run([*command, *options], capture_output=True, text=True)
        if ended.returncode:
            raise RuntimeError(ended.stderr[-500:])
        self._read_again()
        self.done["calibrations"] += 1

    def _commission(self) -> None:
        """Take the next step of a model's way into service: learning takes as long as it takes, beside all else."""
        path = f"/api/commission/{CAMERA}"
        draft = next(one for one in self._must("GET", "/api/commission") if one["camera"] == CAMERA)["draft"]
        if draft is None:
            self._must("POST", path, json=_BY)
            self._must("POST", f"{path}/collect", json={"mode": "interval", "every_s": 0.2})
            self._wait(lambda: len(self._must("GET", path)["images"]) >= _PARTS, "parts")
            self._must("POST", f"{path}/collect", json={"mode": "off"})
            self._must("POST", f"{path}/learn")
        elif draft["state"] == "learnt":
            model = f"m{self.done['commissions'] + 1}"
            pipeline = LINE if self._chance.random() < 0.7 else None
            self._must("POST", f"{path}/go", json={"model": model, "pipeline": pipeline, **_BY})
            self.done["commissions"] += 1
            self._must("POST", f"{path}/discard", json=_BY)
        elif draft["state"] != "learning":
            raise RuntimeError(f"the draft is {draft['state']}: {draft['problem']}")

    def _go_back(self) -> None:
        if self._ask("POST", f"/api/pipelines/{LINE}/roll-back", json=_BY).status_code == httpx.codes.OK:
            self.done["ways back"] += 1

    def _look_at_limits(self) -> None:
        """See that limits moved for a reason that somebody can find."""
        status = self._wait(
            lambda: (one := self._status())["state"] == "running" and one["thresholds"] and one, "a model"
        )
        sha256, limits = status["model_sha256"], _limits(status["thresholds"])
        rows = [row for row in self._must("GET", "/api/audit?limit=200") if row["seq"] > self._seen]
        self._seen = max([self._seen, *(row["seq"] for row in rows)])
        before, self._limits = self._limits, (sha256, limits)
        if self._limits == before:
            return
        said = [
            row
            for row in rows
            if (row["action"] == "thresholds" and _limits(row["after"]) == limits)
            or (isinstance(row["after"], str) and sha256[:16] in row["after"])
        ]
        changes = Artifact.load(Path(status["model"])).manifest.threshold_changes
        calibrated = changes and changes[-1].reason and _limits(changes[-1].after.model_dump()) == limits
        if before[0] and not said and not (calibrated and sha256 != before[0]):
            self.problems.append(f"the limits were {before}, are {self._limits}, and nothing says why: {rows}")

    def _look_at_models(self) -> None:
        rows = self._must("GET", "/api/audit?limit=1000")
        named = {Path(row["after"]["model"]) for row in rows if row["action"] == "commission model"}
        sections = yaml.safe_load(self._site.read_text())["pipelines"].values()
        there = {path for path in self._models.iterdir() if path.suffix != ".versions"}
        for path in there ^ {*named, self._models / OTHER, *(Path(section["model"]) for section in sections)}:
            self.problems.append(f"{path}: {'no name for this model' if path in there else 'no model of this name'}")
        for path in there:
            for model in (path, *earlier_versions(path)):
                try:
                    Artifact.load(model)
                except EdgeadError as error:
                    self.problems.append(str(error))
        self.done["models"] = len(there)

    def _read_again(self) -> None:
        ended, refused = self._said("reloaded"), self._said("not reloaded")
        self._process.send_signal(signal.SIGHUP)
        self._wait(lambda: self._said("reloaded") > ended or self._said("not reloaded") > refused, "a reload")
        if self._said("not reloaded") > refused:
            raise RuntimeError("the site file was not read again: see the log")

    def _must(self, method: str, path: str, **given: Any) -> Any:
        return _said(self._ask(method, path, **given))

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        answer = self._client.request(method, path, **given)
        self.answers[answer.status_code] += 1
        if answer.is_server_error and answer.status_code != _BUSY:
            self.problems.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def _with_images(self) -> list[str]:
        found = self._must("GET", f"/api/verdicts?pipeline={LINE}&limit=200")
        return [row["id"] for row in found["verdicts"] if row["images"]]

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = self._must("GET", f"/api/pipelines/{LINE}")
        return found

    def _lesson(self) -> dict[str, Any]:
        return next(one for one in self._must("GET", "/api/lessons")["lessons"] if one["pipeline"] == LINE)

    def _port(self) -> int | None:
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]
        return next((line["port"] for line in lines if "port" in line), None)

    def _said(self, text: str) -> int:
        return self._log.read_text().count(f'"message": "{text}')

    def _wait(self, true: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            if found := true():
                return found
            time.sleep(0.2)
        raise TimeoutError(f"{what} did not come within {_WITHIN_S:g} s")


def _said(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise RuntimeError(f"{answer.url.path}: {answer.text}")
    return answer.json()


def _limits(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("review", "reject")}


def copy_for_people(model: Path, models: Path) -> Path:
    """Copy a model, which they change, for each pipeline; gives that of the line."""
    for name in (LINE, OTHER):
        shutil.copytree(model, models / name)
    return models / LINE
