"""The log of a training: its records in a file, the losses of its steps, what a tracker's failure does to it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from torch import nn  # noqa: E402

import edgead  # noqa: E402
from edgead.adapt.training import log as log_module  # noqa: E402
from edgead.adapt.training.log import TrainingLog, training_log  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.dataset.folders import no_progress  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.trainer.checkpoint import Learner  # noqa: E402
from edgead.workstation.trainer.loop import run_steps  # noqa: E402


@pytest.fixture
def plugin(monkeypatch):
    """A method that is trained at once."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugin"))


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_training_leaves_its_settings_stages_and_figures_in_a_file(plugin, line_data, tmp_path):
    file, stages = tmp_path / "metrics.jsonl", []
    edgead.train(
        line_data,
        tmp_path / "model",
        detector="dummy",
        false_reject_rate=0.2,
        log_to=file,
        progress=lambda stage, done, total: stages.append(stage),
    ).close()
    found = records(file)
    events = [record["event"] for record in found]
    assert events[0] == "start" and events[-1] == "end" and events.count("settings") == 1
    assert {record["stage"] for record in found if record["event"] == "stage"} == set(stages)
    assert [record["seconds"] for record in found] == sorted(record["seconds"] for record in found)
    settings, end = found[events.index("settings")], found[-1]
    artifact = Artifact.load(tmp_path / "model")
    training, limits = artifact.manifest.training, artifact.graph().calibration
    assert (settings["detector"], settings["settings"]) == ("dummy", training["settings"])
    assert (end["threshold"], end["false_reject_rate"]) == (limits.reject, 0.2)
    assert all(end[name] == training[name] for name in ("training_images", "data_sha256", "fit_seconds"))


def test_losses_of_steps_are_logged_as_means_over_as_many_steps(monkeypatch):
    monkeypatch.setattr(log_module, "LOSSES", 4)
    kept = Kept()
    log, module = TrainingLog({"kept": kept}, no_progress), nn.Linear(1, 1)
    learner = Learner(module, [torch.optim.SGD(module.parameters(), lr=0.0)], stage="student")
    run_steps(lambda number, rng: torch.tensor(float(number)), learner, 10, seed=0, progress=log)
    losses = [(one["stage"], one["step"], one["steps"], one["loss"]) for one in kept.of("loss")]
    means = [(3, 1.0), (6, 4.0), (9, 7.0), (10, 9.0)]  # of steps whose losses are 0, 1, 2, ...
    assert losses == [("student", step, 10, mean) for step, mean in means]
    assert [(one["stage"], one["count"]) for one in kept.of("stage")] == [("student", 10)]


def test_a_failure_is_logged_below_what_was_there(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for problem in ("no images", "no images either"):
        with pytest.raises(SettingsError), training_log([str(file)], no_progress):
            raise SettingsError(problem)
    assert [record.get("problem") for record in records(file)] == [None, "no images", None, "no images either"]


@pytest.mark.parametrize(
    "where, words",
    [
        ("nowhere/metrics.jsonl", "nowhere/metrics.jsonl: cannot be written: No such file"),
        ("wandb:x", "unknown tracker 'wandb': choose one of jsonl"),
        ("", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_learnt(plugin, line_data, tmp_path, where, words):
    with pytest.raises(SettingsError, match=words):
        edgead.train(line_data, tmp_path / "model", detector="dummy", log_to=[where])
    assert not (tmp_path / "model").exists()


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(caplog):
    kept, broken = Kept(), Broken()
    log = TrainingLog({"mlflow:http://host": broken, "kept": kept}, no_progress)
    with caplog.at_level(logging.WARNING):
        log("read images", 1, 1)
        log("calibrate", 1, 1)
    assert len(kept.of("stage")) == 2 and broken.asked == 1
    assert caplog.messages == ["mlflow:http://host gets no more of this training: RuntimeError: the server is away"]


class Kept:
    """Keeps the records."""

    def __init__(self):
        self._records = []

    def of(self, event):
        return [record for record in self._records if record["event"] == event]

    def write(self, record):
        self._records.append(record)

    def close(self):
        pass


class Broken(Kept):
    """Fails with each record."""

    asked = 0

    def write(self, record):
        self.asked += 1
        raise RuntimeError("the server is away")
