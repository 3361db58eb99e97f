"""Trackers: a real training's records read back by TensorBoard's and MLflow's own readers."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from modbus_server import free_port

from edgead.adapt.training.log import TRACKERS, training_log
from edgead.dataset.folders import no_progress
from edgead.errors import SettingsError
from edgead.process.installation import comes_with

SETTINGS = {
    "detector": "simplenet",
    "settings": {"steps": 3, "layers": ["stride8"], "seed": 123456789, "learning_rate": 1e-05},
    "data": "5e" * 32,
}
END = {"model": "out/model", "threshold": 0.5, "training_images": 24, "groups": {"rule": "auto", "groups": 12}}


def log_a_training(where, end=True):
    with training_log([where], no_progress) as log:
        log("read images", 24, 24)
        log.write("settings", **SETTINGS)
        for step, loss in enumerate((0.75, 0.5, 0.25), 1):
            log.loss("train", step, 3, loss)
        if not end:
            raise SettingsError("stopped by a test")
        log.write("end", **END)


def test_every_entry_point_is_one_that_the_core_names_where_this_package_is_not_installed():
    names = {entry.name for entry in entry_points(group="edgead.trackers")}
    assert names >= {"tensorboard", "mlflow"} <= set(TRACKERS)
    for name in ("tensorboard", "mlflow"):
        assert f"edgead-tracking[{name}]" in comes_with("edgead.trackers", name)
        assert TRACKERS.find(name)


def test_importing_the_trackers_imports_no_library_of_theirs():
    code = """
import sys, edgead_tracking.tensorboard, edgead_tracking.mlflow, edgead_tracking.otel
print([name for name in ("torch", "tensorboard", "mlflow", "opentelemetry.sdk") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_tensorboard_reads_losses_seconds_and_figures(tmp_path):
    pytest.importorskip("torch")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log_a_training(f"tensorboard:{tmp_path}/runs/first")
    read = reader.EventAccumulator(str(tmp_path / "runs/first"))
    read.Reload()
    assert [(one.step, one.value) for one in read.Scalars("loss/train")] == [(1, 0.75), (2, 0.5), (3, 0.25)]
    (took,) = read.Scalars("took_seconds/read images")
    assert 0 <= took.value < 60
    ends = {tag: read.Scalars(tag)[0].value for tag in read.Tags()["scalars"] if tag.startswith("end/")}
    assert ends == {"end/threshold": 0.5, "end/training_images": 24, "end/groups.groups": 12}
    (text,) = read.Tensors("settings/text_summary")
    assert '"detector": "simplenet"' in text.tensor_proto.string_val[0].decode()


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        log_a_training(f"tensorboard:{tmp_path}/file/runs")
    with pytest.raises(SettingsError, match="names no folder"):
        log_a_training("tensorboard:")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    pytest.importorskip("mlflow", reason="MLFLOW NOT TESTED: pip install 'edgead-tracking[mlflow]'")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"


@pytest.mark.filterwarnings("ignore")  # those of MLflow's own libraries
def test_mlflow_reads_settings_losses_figures_and_how_a_run_ended(store, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "bottles")
    log_a_training(f"mlflow:{store}")
    with pytest.raises(SettingsError, match="stopped by a test"):
        log_a_training(f"mlflow:{store}", end=False)
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("bottles")
    failed, run = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert (run.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert failed.data.tags["problem"] == "stopped by a test"
    assert run.data.params == {
        "detector": "simplenet", "settings.steps": "3", "settings.layers": '["stride8"]', "data": "5e" * 32,
        "settings.seed": "123456789", "settings.learning_rate": "1e-05"
    }  # fmt: skip
    losses = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss/train")]
    assert losses == [(1, 0.75), (2, 0.5), (3, 0.25)]
    figures = {name: run.data.metrics[name] for name in ("threshold", "training_images", "groups.groups")}
    assert figures == {"threshold": 0.5, "training_images": 24, "groups.groups": 12}
    assert run.data.tags["model"] == "out/model" and run.data.tags["groups.rule"] == "auto"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "who, words",
    [("", "mlflow:http://127.0.0.1:[0-9]+: cannot be written"), ("me:hunter2@", "MLFLOW_TRACKING_PASSWORD")],
)
def test_a_server_that_is_away_and_a_password_in_the_uri_are_refused(monkeypatch, who, words):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SettingsError, match=words) as refused:
        log_a_training(f"mlflow:http://{who}127.0.0.1:{free_port()}")
    assert "hunter2" not in str(refused.value)
