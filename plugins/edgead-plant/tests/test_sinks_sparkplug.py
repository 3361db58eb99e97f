"""Sparkplug B on a real mosquitto: what a host application reads, by the payloads of the public definition."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from broker import PASSWORD, USER, Broker
from cable import Cable
from patience import MAX_S, wait_until
from pydantic import ValidationError
from verdicts import Line

from edgead.sinks import open_queued
from edgead.types import Part
from edgead_plant.sinks.sparkplug import SparkplugOptions

pytest.importorskip("paho.mqtt", reason="SPARKPLUG NOT TESTED: pip install 'edgead-plant[sparkplug]'")
pytest.importorskip("google.protobuf", reason="SPARKPLUG NOT TESTED: pip install 'edgead-plant[sparkplug]'")

from edgead_plant.sparkplug import Metric, asks_for_rebirth, decode, encode  # noqa: E402

# What the classes give that protoc makes of the public sparkplug_b.proto, for the same metrics.
OF_THE_PUBLIC_DEFINITION = (
    "08c8d395ffbc3112120a05626453657118c8d395ffbc312008580712170a016118fbd095ffbc31200a280169000000000000"
    "d03f120e0a016218c8d395ffbc31200b700112100a016318c8d395ffbc31200c7a02c3bc120e0a016418c8d395ffbc31200c380118c801"
)
METRICS = [
    Metric("bdSeq", "UInt64", 7),
    Metric("a", "Double", 0.25, timestamp_ms=1_700_000_000_123, historical=True),
    Metric("b", "Boolean", True),
    Metric("c", "String", "ü"),
    Metric("d", "String", None),
]


def test_a_payload_is_byte_for_byte_that_of_the_public_definition():
    assert encode(METRICS, 1_700_000_000_456, 200).hex() == OF_THE_PUBLIC_DEFINITION


def test_a_payload_is_read_as_it_was_written():
    read = decode(encode(METRICS, 5, 255))
    assert (read.timestamp, read.seq) == (5, 255)
    assert [metric.name for metric in read.metrics] == ["bdSeq", "a", "b", "c", "d"]
    assert read.metrics[4].is_null and not decode(encode((), 5)).HasField("seq")
    assert not asks_for_rebirth(b"\xff no payload")


class Host:
    """A host application: keeps (message, device, payload) in their order, and may ask for births."""

    def __init__(self, broker):
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard = []
        subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "host")
        self._client.username_pw_set(USER, PASSWORD)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._hear
        self._client.connect("127.0.0.1", broker.port, 5)
        self._client.subscribe("spBv1.0/#", 1)
        self._client.loop_start()
        assert subscribed.wait(MAX_S)

    def _hear(self, _client, _data, message):
        parts = message.topic.split("/")
        assert parts[:2] == ["spBv1.0", "plant"] and parts[3] == "line7" and not message.retain
        if parts[2] != "NCMD":
            self.heard.append((parts[2], "/".join(parts[4:]), decode(message.payload)))

    def messages(self):
        return [message for message, *_ in self.heard]

    def ask_for_births(self):
        self._client.publish(
            "spBv1.0/plant/NCMD/line7", encode([Metric("Node Control/Rebirth", "Boolean", True)], 1), 1
        )

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def values(payload):
    names = {8: "long_value", 10: "double_value", 11: "boolean_value", 12: "string_value"}
    return {m.name: None if m.is_null else getattr(m, names[m.datatype]) for m in payload.metrics}


@contextmanager
def line7(tmp_path):
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        with closing(Host(broker)) as host:
            yield broker, host
    finally:
        broker.stop()


@contextmanager
def queued_of(port, **settings):
    section = {"kind": "sparkplug", "host": "127.0.0.1", "port": port, "user": USER, "password": PASSWORD}
    sparkplug = {"group": "plant", "node": "line7", "retry_most_s": 1}
    queued = open_queued("plant", SparkplugOptions.model_validate({**section, **sparkplug, **settings}))
    try:
        yield queued
    finally:
        queued.close(0.5)


def test_births_data_and_death_in_their_order(tmp_path):
    line = Line("caps")
    with line7(tmp_path) as (broker, host):
        with queued_of(broker.port) as queued:
            for score in (0.1, 0.9):
                frame, verdict = line.part(score)
                queued.write(replace(frame, part=Part("A1", "B7", "red cap")), verdict)
            queued.write(*Line("front").part(0.45))
            wait_until(lambda: len(host.heard) == 6)
            host.ask_for_births()
            wait_until(lambda: len(host.heard) == 9)
        wait_until(lambda: len(host.heard) == 10)
    expected = ["NBIRTH", "DBIRTH", "DDATA", "DDATA", "DBIRTH", "DDATA", "NBIRTH", "DBIRTH", "DBIRTH", "NDEATH"]
    assert host.messages() == expected
    assert [device for _, device, _ in host.heard] == ["", *["caps"] * 3, *["front"] * 2, "", "caps", "front", ""]
    payloads = [payload for *_, payload in host.heard]
    assert [payload.seq for payload in payloads[:9]] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert not payloads[9].HasField("seq")
    births = {values(payloads[index])["bdSeq"] for index in (0, 6, 9)}
    assert len(births) == 1  # a birth that was asked for belongs to the same session
    data = values(payloads[3])
    assert (data["Verdict/Id"], data["Verdict/Decision"], data["Verdict/Score"]) == (frame.id, "reject", 0.9)
    assert (data["Part/Serial"], data["Part/Batch"], data["Part/Recipe"]) == ("A1", "B7", "red cap")
    assert (data["Counters/Judged"], data["Counters/Ok"], data["Counters/Reject"]) == (2, 1, 1)
    assert set(values(payloads[1])) == set(data) and set(values(payloads[1]).values()) == {None}
    assert values(payloads[7]) == data  # the birth of a device that is known has its values


@pytest.mark.slow
def test_a_broken_connection_is_a_death_and_what_waited_comes_as_historical_after_a_new_birth(tmp_path):
    line = Line("caps")
    with line7(tmp_path) as (broker, host):
        with closing(Cable(broker.port)) as cable, queued_of(cable.port) as queued:
            wait_until(lambda: host.messages() == ["NBIRTH"])
            queued.write(*line.part())
            wait_until(lambda: host.messages() == ["NBIRTH", "DBIRTH", "DDATA"])
            cable.cut()
            wait_until(lambda: host.messages()[3:] == ["NDEATH", "NBIRTH", "DBIRTH"])
            born = [values(payload)["bdSeq"] for message, _, payload in host.heard if message in ("NBIRTH", "NDEATH")]
            assert born[0] == born[1] and born[2] == (born[0] + 1) % 256
            old, verdict = line.part()
            queued.write(replace(old, captured_at=old.captured_at.replace(year=2020)), verdict)
            queued.write(*line.part())
            wait_until(lambda: host.messages()[6:] == ["DDATA"] * 2)
            historical = [payload.metrics[0].is_historical for message, _, payload in host.heard if message == "DDATA"]
            assert historical == [False, True, False]


@pytest.mark.slow
def test_ten_cuts_under_load_lose_nothing_and_what_comes_twice_is_known(tmp_path):
    line, sent = Line("caps"), []
    with line7(tmp_path) as (broker, host), closing(Cable(broker.port)) as cable, queued_of(cable.port) as queued:
        for cut in range(10):
            wait_until(lambda cut=cut: host.messages().count("NBIRTH") == cut + 1)
            for part in line.parts(20):
                queued.write(*part)
                sent.append(part[0].id)
            time.sleep(0.01)
            cable.cut()
        wait_until(lambda: host.messages().count("NBIRTH") == 11 and queued.status().waiting == 0)
        wait_until(lambda: host.messages().count("DDATA") >= len(sent))
        assert queued.status().failed == 0 and queued.status().written == len(sent)
    seq, arrived = 0, []
    for message, _, payload in host.heard:
        if message == "NBIRTH":
            assert payload.seq == 0
        elif message in ("DBIRTH", "DDATA"):
            assert payload.seq == (seq + 1) % 256
        seq = payload.seq
        arrived += [values(payload)["Verdict/Id"]] if message == "DDATA" else []
    assert list(dict.fromkeys(arrived)) == sent and len(arrived) - len(sent) <= 10


@pytest.mark.parametrize("wrong", [{"group": "a/b"}, {"node": "a+"}, {"group": ""}, {"payload": "xml"}])
def test_what_cannot_stand_in_a_topic_is_refused(wrong):
    with pytest.raises(ValidationError):
        SparkplugOptions.model_validate({"host": "h", **wrong})
