"""Sink that serves verdicts by OPC UA, with names of OPC 40100-1 (Machine Vision); it does not conform to that."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Literal

from edgead.serialization import record_json
from edgead.sinks import BaseSink, SinkError, SinkOptions, register
from edgead.types import DECISIONS, FAULT, Frame, Verdict
from edgead_plant.opcua import OpcUaOptions, OpcUaServer, Values

_FIELDS = {
    "ResultId": "String",
    "ResultState": "Int32",
    "IsPartial": "Boolean",
    "IsSimulated": "Boolean",
    "MeasId": "String",
    "PartId": "String",
    "ProductId": "String",
    "JobId": "String",
    "ExternalRecipeId": "String",
    "InternalConfigurationId": "String",
    "CreationTime": "DateTime",
    "ProcessingTimeMs": "Double",
    "Decision": "String",
    "ImageScore": "Double",
    "Threshold": "Double",
    "Kind": "String",
    "ResultContent": "String",
}
"""Fields of a result, by names of OPC 40100-1's ResultDataType; time, decision and its reasons are ours."""
_COMPLETED = 1  # ResultState of OPC 40100-1: the processing was completed


class OpcUaSinkOptions(SinkOptions, OpcUaOptions):
    """Verdicts as variables and events of an OPC UA server on this computer (`pip install 'edgead-plant[opcua]'`)."""

    kind: Literal["opcua"]
    queued: ClassVar[bool] = True


class OpcUaSink(BaseSink):
    """Sink that serves each pipeline's last result, counters and state, and emits an event for each verdict.

    Clients may connect and leave at any time. A client that reconnects reads the last result and the counters; missed
    events are lost, and the counters show how many.
    """

    needs_image = False

    def __init__(self, section: OpcUaSinkOptions):
        self._server = OpcUaServer(section, "VisionSystems", "ResultReadyEventType", _FIELDS, SinkError)
        self.uri = self._server.uri
        self._counts: dict[str, Counter[str]] = {}
        self._skipped = 0

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return self._server.port

    def skip(self, count: int) -> None:
        """Count verdicts that will not be served."""
        self._skipped += count

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Serve one verdict.

        Raises SinkError: the server has ended, or does not accept the values.
        """
        pipeline = verdict.pipeline or "stream"
        counts = self._counts.setdefault(pipeline, Counter())
        counts[verdict.decision] += 1
        result = _result(frame, verdict, counts.total())
        values: dict[str, tuple[str, Any]] = {
            f"ResultManagement/Results/LatestResult/{name}": value for name, value in result.items()
        }
        values["VisionStateMachine/CurrentState"] = ("String", "Operational")
        values["Counters/Judged"] = ("UInt32", counts.total() % 2**32)
        values["Counters/Dropped"] = ("UInt32", self._skipped % 2**32)
        for decision in (*DECISIONS, FAULT):
            values[f"Counters/{decision.capitalize()}"] = ("UInt32", counts[decision] % 2**32)
        self._server.publish(pipeline, values, result, f"{pipeline}: {verdict.decision}")

    def close(self) -> None:
        self._server.close()


def _result(frame: Frame, verdict: Verdict, number: int) -> Values:
    times, part = verdict.stage_times, frame.part
    took_ms = times.preprocess_ms + times.infer_ms + times.score_ms + times.smooth_ms
    values = (
        frame.id or str(number),
        _COMPLETED,
        False,
        frame.source.startswith("synthetic:"),
        str(frame.number),
        part.serial,
        part.recipe,
        part.batch,
        part.recipe,
        verdict.model,
        frame.captured_at,
        took_ms,
        verdict.decision,
        float(verdict.image_score),
        float(verdict.threshold),
        verdict.kind or "",
        record_json(frame, verdict),
    )
    return {name: (kind, value) for (name, kind), value in zip(_FIELDS.items(), values, strict=True)}


register("opcua", OpcUaSinkOptions, lambda name, options: OpcUaSink(options))
