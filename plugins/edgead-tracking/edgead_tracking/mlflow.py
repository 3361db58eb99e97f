"""Tracker `mlflow:URI`: a run with settings as parameters, losses, seconds and figures as metrics, words as tags."""

from __future__ import annotations

import os
import time
from typing import Any

from edgead.adapt.training.log import Record
from edgead.components.uri import without_credentials
from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead_tracking.figures import split

EXPERIMENT = "edgead"
"""Name of the runs' experiment, unless MLFLOW_EXPERIMENT_NAME is set."""

# Kept small, as training waits for the server. MLflow's defaults, 7 and 120 s, add up to a quarter of an hour.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# Most metrics and most texts that MLflow accepts in one request, and seconds for which metrics wait for a request.
_MOST, _MOST_TEXTS, _EVERY_S = 900, 100, 5.0
_LONGEST = {"params": 500, "tags": 5000}


class Mlflow:
    """Tracker that creates a run in an experiment; MLflow's variables, such as MLFLOW_TRACKING_TOKEN, give access."""

    def __init__(self, where: str):
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ModuleNotFoundError:
            raise SettingsError(f"MLflow needs `{plugin_command('edgead-tracking[mlflow]')}`") from None
        if where.startswith("http") and "@" in where:  # MLflow's errors would quote the credentials
            raise SettingsError(
                "mlflow: user and password do not belong into the URI: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        try:
            self._client = MlflowClient(where or None)
            found = self._client.get_experiment_by_name(name)
            experiment = self._client.create_experiment(name) if found is None else found.experiment_id
            self._run = self._client.create_run(experiment).info.run_id
        except (MlflowException, ImportError) as error:
            raise SettingsError(f"mlflow:{without_credentials(where)}: cannot be written: {error}") from None
        self._waiting: list[tuple[str, float, int, int]] = []
        self._sent_s = time.monotonic()

    def write(self, record: Record) -> None:
        event = record["event"]
        if event == "loss":
            self._add(f"loss/{record['stage']}", record["loss"], record["step"])
        elif event == "stage":
            self._add(f"took_seconds/{record['stage']}", record["took_seconds"])
        elif event == "settings":
            numbers, texts = split(record)
            self._send_texts("params", {**texts, **{name: str(value) for name, value in numbers.items()}})
        elif event in ("end", "failed"):
            numbers, texts = split({name: value for name, value in record.items() if name != "settings"})
            for name, value in numbers.items():
                self._add(name, value)
            self._send()
            self._send_texts("tags", texts)
            self._client.set_terminated(self._run, "FINISHED" if event == "end" else "FAILED")

    def close(self) -> None:
        """Do nothing, as the last record has been sent already."""

    def _add(self, name: str, value: float, step: int = 0) -> None:
        self._waiting.append((name, value, time.time_ns() // 10**6, step))
        if len(self._waiting) >= _MOST or time.monotonic() - self._sent_s > _EVERY_S:
            self._send()

    def _send(self) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self._run, metrics=[Metric(*one) for one in self._waiting])
        self._waiting.clear()
        self._sent_s = time.monotonic()

    def _send_texts(self, what: str, texts: dict[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        kind = {"params": Param, "tags": RunTag}[what]
        all_of: list[Any] = [kind(name, text[: _LONGEST[what]]) for name, text in texts.items()]
        for begin in range(0, len(all_of), _MOST_TEXTS):
            some: dict[str, Any] = {what: all_of[begin : begin + _MOST_TEXTS]}
            self._client.log_batch(self._run, **some)
