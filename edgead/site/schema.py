"""What a site file may say: cameras, pipelines, sinks and limits of one device; a model a section, no unknown keys."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from edgead.site.values import Host, Name, Port, Seconds, Secretive, Uri, WebhookUrl


class Section(BaseModel):
    """A section of the site file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HealthSection(Section):
    """When a camera's pictures are no longer those that it was commissioned with; see `edgead.sources.health`."""

    dark_below: Annotated[float, Field(ge=0, le=255)] = 10.0
    bright_above: Annotated[float, Field(ge=0, le=255)] = 245.0
    blurred_below: Annotated[float, Field(ge=0, le=1, description="Sharpness relative to the golden images.")] = 0.3
    moved_above_px: Annotated[float, Field(gt=0, le=100_000)] = 8.0
    every_s: Seconds = 1.0


class CameraSection(Section):
    uri: Uri
    open_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 5.0
    stalled_after_s: Annotated[
        float, Field(ge=0.001, le=86_400, description="Age of the newest frame that makes a camera stalled.")
    ] = 2.0
    retry_first_s: Seconds = 0.5
    retry_most_s: Seconds = 30.0
    max_megapixels: Annotated[
        float, Field(gt=0, le=1000, description="A larger frame is a fault: each takes 3 bytes a pixel, several times.")
    ] = 64.0
    frozen_after: Annotated[
        int, Field(ge=2, le=10**9, description="Identical frames in a row that make a camera frozen.")
    ] = 25
    health: HealthSection = HealthSection()


class EveryFrame(Section):
    """Judge every frame that is not overtaken by a newer one."""

    kind: Literal["every_frame"] = "every_frame"


class Interval(Section):
    """Judge one frame in each interval."""

    kind: Literal["interval"]
    every_s: Seconds


class Software(Section):
    """Judge the next frame after a call over HTTP or an MQTT message."""

    kind: Literal["software"]
    mqtt_sink: Annotated[Name | None, Field(description="Sink whose broker is listened to.")] = None
    topic: str | None = None


class Gpio(Section):
    """Judge the next frame after an edge on a line of the computer (libgpiod)."""

    kind: Literal["gpio"]
    chip: str = "/dev/gpiochip0"
    line: Annotated[int, Field(ge=0, le=65_535)]
    edge: Literal["rising", "falling"] = "rising"
    debounce_ms: Annotated[float, Field(ge=0, le=60_000)] = 5.0


class PartInView(Section):
    """Judge each part on a belt once: when something has come into view and stands in its middle."""

    kind: Literal["part_in_view"]
    zone: Annotated[
        tuple[float, float, float, float], Field(description="x, y, width, height, as shares of the picture.")
    ] = (0.3, 0.0, 0.4, 1.0)
    changed_above: Annotated[
        float, Field(gt=0, le=255, description="Mean change of grey level against the empty view.")
    ] = 12.0

    @field_validator("zone")
    @classmethod
    def _within(cls, zone: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x, y, width, height = zone
        most = 1 + 1e-9  # 0.7 and 0.3 may be a little more than 1
        if not (x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= most and y + height <= most):
            raise ValueError(f"must lie in the picture, as shares of it from 0 to 1, found {list(zone)}")
        return zone


TriggerSection = Annotated[EveryFrame | Interval | Software | Gpio | PartInView, Field(discriminator="kind")]


class _Sink(Section):
    required: Annotated[
        bool, Field(description="The device is ready only while this sink works: a PLC that ejects, for example.")
    ] = False
    tolerated_s: Annotated[
        float, Field(ge=0, le=86_400, description="For how long a required sink may fail before that.")
    ] = 10.0


class UriSink(_Sink):
    """A sink of the camera loop: `jsonl:FILE`, `images:FOLDER?only=reject`."""

    kind: Literal["uri"]
    uri: Uri


class QueueSection(Section):
    """How much waits for a slow or dead receiver; what is beyond that is dropped oldest first, and counted."""

    messages: Annotated[int, Field(ge=1, le=10**6)] = 10_000


class MqttSink(_Sink):
    """Verdicts as JSON to a broker; what it cannot take is kept, in order, until it is back."""

    kind: Literal["mqtt"]
    host: Host
    port: Port = 1883
    topic: Annotated[str, Field(description="{pipeline} stands for the pipeline's name.")] = "edgead/{pipeline}/verdict"
    qos: Literal[0, 1, 2] = 1
    user: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    ca_file: Path | None = None
    client_id: Annotated[
        str | None, Field(description="By default a new one; with QoS 2 of computer, sink and topic.")
    ] = None
    keepalive_s: Annotated[
        int, Field(ge=2, le=3600, description="A broker that is silent for 1.5 times as long is away.")
    ] = 15
    retry_most_s: Annotated[int, Field(ge=1, le=86_400, description="Longest wait between two tries to connect.")] = 15
    queue: QueueSection = QueueSection()


class WebhookSink(_Sink):
    """Verdicts as JSON to a URL, signed with HMAC-SHA256 where there is a secret."""

    kind: Literal["webhook"]
    url: WebhookUrl
    secret: SecretStr | None = None
    timeout_s: Seconds = 5.0
    retry_first_s: Seconds = 0.5
    retry_most_s: Seconds = 30.0
    give_up_after_s: Annotated[
        float, Field(ge=0.001, le=31_536_000, description="A verdict not taken for so long is counted as failed.")
    ] = 600.0
    only: Literal["all", "review", "reject"] = "all"
    queue: QueueSection = QueueSection(messages=1_000)


class ModbusSink(_Sink):
    """Verdicts to a PLC over Modbus/TCP: coils and holding registers from the addresses that are given."""

    kind: Literal["modbus"]
    host: Host
    port: Port = 502
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    coil: Annotated[int, Field(ge=0, le=65532, description="ok, review, reject, and one that toggles.")] = 0
    register_: Annotated[
        int, Field(ge=0, le=65529, alias="register", description="Count (2), score (2), decision.")
    ] = 0
    timeout_s: Seconds = 1.0


SinkSection = Annotated[UriSink | MqttSink | WebhookSink | ModbusSink, Field(discriminator="kind")]


class DriftSection(Section):
    """When parts or pictures are no longer those that the thresholds were made for; see `edgead.drift`."""

    average_run_length: Annotated[
        float, Field(ge=100, le=1e12, description="At most one false alarm is expected in so many parts.")
    ] = 1_000_000
    most_flagged: Annotated[
        float,
        Field(gt=0, lt=1, description="Share of parts, defects included, that may be sent to review or rejected."),
    ] = 0.2
    pictures: Annotated[bool, Field(description="Compare brightness, sharpness and place with golden images.")] = True
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class PipelineSection(Section):
    """One model that judges one camera."""

    camera: Name
    model: Path
    runtime: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    precision: Literal["fp32", "fp16", "int8"] | None = None
    threads: Annotated[int | None, Field(ge=1, le=256)] = None
    trigger: TriggerSection = EveryFrame()
    sinks: tuple[Name, ...] = ()
    budget_ms: Annotated[
        float | None,
        Field(
            gt=0, le=86_400_000, description="From the capture to the verdict; what takes longer is counted as late."
        ),
    ] = None
    drift: Annotated[DriftSection | None, Field(description="null watches for none.")] = DriftSection()


class StoreSection(Section):
    """The record of every verdict, and pictures of some."""

    url: Annotated[
        Secretive | None, Field(min_length=1, repr=False, description="SQLAlchemy URL; by default SQLite in `folder`.")
    ] = None
    folder: Path = Path("evidence")
    evidence: Literal["none", "reject", "review", "all"] = "review"
    before: Annotated[int, Field(ge=0, le=100, description="Frames kept from before a verdict with evidence.")] = 2
    after: Annotated[int, Field(ge=0, le=100)] = 2
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    keep_days: Annotated[float, Field(gt=0, le=36_500)] = 90.0
    most_mib: Annotated[int, Field(ge=1, le=10**9, description="Most that pictures may take.")] = 10_000
    free_mib: Annotated[
        int, Field(ge=0, le=10**9, description="Left free on the disk: below it no picture is written.")
    ] = 500
    commit_within_ms: Annotated[
        float, Field(ge=0, le=10_000, description="Longest that a verdict waits for its row when the disk stalls.")
    ] = 250.0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HttpSection(Section):
    """The page and the API. Without a token only this computer can reach them."""

    host: Host = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0 takes a free one.")] = 8080
    token: SecretStr | None = None
    secure_cookie: Annotated[bool, Field(description="Behind a proxy that speaks HTTPS.")] = False
    session_hours: Annotated[float, Field(gt=0, le=24 * 365, description="How long a sign-in on the page lasts.")] = (
        12.0
    )
    failures_most: Annotated[
        int, Field(ge=1, le=10**6, description="Wrong tokens of one address within `failures_within_s`.")
    ] = 10
    failures_within_s: Seconds = 60.0

    @model_validator(mode="after")
    def _guarded(self) -> HttpSection:
        if not _is_loopback(self.host) and self.token is None:
            raise ValueError(f"host {self.host} can be reached from elsewhere: give a token, or bind 127.0.0.1")
        if self.token is not None and len(self.token.get_secret_value()) < 16:
            raise ValueError("the token is shorter than 16 characters: `openssl rand -hex 32` makes one")
        return self


class LimitsSection(Section):
    """What the daemon bears before it gives up."""

    restarts: Annotated[
        int, Field(ge=0, le=10**6, description="Restarts of a pipeline within `restarts_within_s`.")
    ] = 5
    restarts_within_s: Seconds = 600.0
    drain_s: Annotated[float, Field(gt=0, le=60, description="For what is under way when it is told to stop.")] = 1.5


class Site(Section):
    """A whole site file."""

    cameras: dict[Name, CameraSection] = Field(min_length=1)
    pipelines: dict[Name, PipelineSection] = Field(min_length=1)
    sinks: dict[Name, SinkSection] = {}
    store: StoreSection = StoreSection()
    http: HttpSection | None = HttpSection()
    limits: LimitsSection = LimitsSection()

    @model_validator(mode="after")
    def _known_names(self) -> Site:
        for name, pipeline in self.pipelines.items():
            _expect(pipeline.camera, self.cameras, f"pipelines.{name}.camera")
            for sink in pipeline.sinks:
                _expect(sink, self.sinks, f"pipelines.{name}.sinks")
            trigger = pipeline.trigger
            if isinstance(trigger, Software) and trigger.mqtt_sink is not None:
                where = f"pipelines.{name}.trigger"
                _expect(trigger.mqtt_sink, self.sinks, f"{where}.mqtt_sink")
                if not isinstance(self.sinks[trigger.mqtt_sink], MqttSink) or not trigger.topic:
                    raise ValueError(
                        f"{where}: mqtt_sink must name a sink of kind mqtt, and topic a topic of its broker"
                    )
        return self


def _expect(name: str, known: Mapping[str, object], where: str) -> None:
    if name not in known:
        raise ValueError(f"{where}: there is no {name!r}, known are {', '.join(known) or 'none'}")
