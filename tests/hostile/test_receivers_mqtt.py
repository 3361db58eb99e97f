"""A broker that sends hostile packets to a real paho client: no thread ends, and once it is decent all arrives."""

from __future__ import annotations

import threading
import time
from contextlib import closing, contextmanager

import pytest
from patience import wait_until
from verdicts import Line

pytest.importorskip("paho.mqtt", reason="MQTT NOT TESTED: pip install 'edgead[daemon]'")
from hostile.mqtt_broker import BREAKS, KINDS, TOPIC, HostileBroker
from paho.mqtt import client as paho

from edgead.plant.mqtt.client import MqttSubscription
from edgead.sinks import open_queued
from edgead.sinks.mqtt import MqttOptions

FOR_S = 0.6


@contextmanager
def clients_of(broker, options=MqttOptions, **settings):
    values = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "retry_most_s": 1, "keepalive_s": 5}
    section = options.model_validate({**values, **settings})
    heard: list[bytes] = []
    queued = open_queued("broker", section)
    subscription = MqttSubscription(section, TOPIC.decode(), lambda payload: heard.append(payload[:9]))
    try:
        yield queued, heard
    finally:
        queued.close(0.1)
        subscription.close()


def paho_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("paho-mqtt-client")]


@pytest.mark.parametrize("kind", [*KINDS, *BREAKS])
def test_a_broker_that_means_harm(kind, caplog):
    attacked(kind, caplog)


def attacked(attack_kind, caplog, **settings):
    attack = KINDS.get(attack_kind) or BREAKS[attack_kind]
    before = len(paho_threads())
    hostile = HostileBroker(attack, holds=attack_kind in KINDS)
    with closing(hostile) as broker, clients_of(broker, **settings) as clients:
        queued, heard = clients
        line = Line()
        queued.write(*line.part(0.9))
        wait_until(lambda: broker.connects)
        time.sleep(FOR_S)
        assert len(paho_threads()) == before + 2
        assert broker.sent_bytes < 60e6
        if attack_kind == "retained":
            assert heard == []
        heard.clear()
        broker.become_decent()
        wait_until(lambda: (broker.say(b"go-on"), b"go-on" in heard)[1])
        wait_until(lambda: queued.status().written >= 1)
        queued.write(*line.part(0.9))
        wait_until(lambda: queued.status().written >= 2)
        assert len(broker.published) >= 1 and queued.status().problem is None
    assert len([record for record in caplog.records if record.name.startswith("edgead.")]) <= 40


def test_a_connection_that_fails_unforeseen_is_made_again(monkeypatch, caplog):
    loop, fail = paho.Client._loop, threading.Event()

    def failing(self, timeout=1.0):
        if fail.is_set():
            fail.clear()
            raise RuntimeError("nobody foresaw it")
        return loop(self, min(timeout, 0.1))

    monkeypatch.setattr(paho.Client, "_loop", failing)
    with closing(HostileBroker(next(iter(KINDS.values())))) as broker:
        broker.become_decent()
        with clients_of(broker) as (queued, heard):
            line = Line()
            queued.write(*line.part(0.9))
            wait_until(lambda: queued.status().written >= 1)
            for _ in range(2):  # once for each client, in any order
                fail.set()
                wait_until(lambda: not fail.is_set())
            wait_until(lambda: "failed unforeseen" in caplog.text and "nobody foresaw it" in caplog.text)
            queued.write(*line.part(0.9))
            wait_until(lambda: queued.status().written >= 2)
            wait_until(lambda: (broker.say(b"go-on"), b"go-on" in heard)[1])


def test_messages_that_paho_would_keep_for_ever_end_the_connection():
    with closing(HostileBroker(KINDS["qos_2_flood"])) as broker, clients_of(broker) as (queued, _):
        wait_until(lambda: "a QoS that was not asked for" in (queued.status().problem or ""))


def test_what_is_too_long_is_not_even_received():
    with closing(HostileBroker(KINDS["200_megabytes"])) as broker, clients_of(broker) as (queued, _):
        wait_until(lambda: "200000000 bytes in one message" in (queued.status().problem or ""))
        assert broker.sent_bytes < 30e6


@pytest.mark.slow
def test_the_pause_grows_while_a_broker_accepts_and_breaks(caplog):
    broken = HostileBroker(BREAKS["accepts_and_breaks"], holds=False)
    with closing(broken) as broker, clients_of(broker, retry_most_s=15):
        time.sleep(8)
        assert 4 <= len(broker.connects) <= 10  # of two clients, after 0, 1, 3 and 7 s; each second it would be 16
    assert len(caplog.records) <= 40
