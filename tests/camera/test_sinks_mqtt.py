"""The MQTT sink with a real mosquitto: passwords, TLS, a broker that is away, hangs or refuses."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from broker import PASSWORD, USER, Broker, Receiver
from cable import Cable
from patience import MAX_S, wait_until
from verdicts import Line, ids, notice

from edgead.errors import SettingsError
from edgead.serialization import verdict_record
from edgead.serialization.notice import notice_record
from edgead.sinks import open_queued, open_sink
from edgead.sinks.contract import SinkError
from edgead.sinks.mqtt import MqttOptions

pytest.importorskip("paho.mqtt", reason="MQTT NOT TESTED: pip install 'edgead[daemon]'")


@contextmanager
def running(tmp_path, **settings):
    broker = Broker(tmp_path / "broker", **settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def section(broker, **settings):
    tls = {"tls": True, "ca_file": broker.ca_file} if broker.ca_file else {}
    values = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "user": USER, "password": PASSWORD, **tls}
    return MqttOptions.model_validate({**values, "retry_most_s": 1, **settings})


@contextmanager
def queued_of(broker, **settings):
    queued = open_queued("broker", section(broker, **settings))
    try:
        yield queued
    finally:
        queued.close(0.1)


def received(receiver, count):
    """Ids of what arrived, in its order, once so many different ones have: some may come twice."""
    wait_until(lambda: len(set(ids(receiver.records))) >= count)
    return ids(receiver.records)


def test_two_of_one_name_do_not_throw_each_other_out(tmp_path):
    with running(tmp_path) as broker, queued_of(broker) as one, queued_of(broker) as other:
        for _ in range(3):
            for queued in (one, other):
                queued.write(*Line().part())
            wait_until(lambda: one.status().waiting == other.status().waiting == 0)
        assert one.status().problem is None and other.status().problem is None


@pytest.mark.parametrize("tls", [False, True])
def test_a_verdict_arrives_with_its_pipeline_in_the_topic(tmp_path, tls):
    frame, verdict = Line("caps").part(0.9)
    with running(tmp_path, tls=tls) as broker, closing(Receiver(broker, "edgead/#", 1)) as receiver:
        with queued_of(broker) as queued:
            queued.write(frame, verdict)
            received(receiver, 1)
            wait_until(lambda: queued.status().written == 1)
            assert queued.status().problem is None
    assert receiver.topics == ["edgead/caps/verdict"]
    assert receiver.records == [json.loads(json.dumps(verdict_record(frame, verdict)))]


def test_a_notice_is_retained_so_that_who_comes_later_sees_what_stands(tmp_path):
    raised = notice()
    resolved = replace(raised, resolved_at=raised.since)
    with running(tmp_path) as broker, closing(Receiver(broker, "edgead/#", 1)) as receiver, queued_of(broker) as queued:
        queued.notify(raised)
        wait_until(lambda: len(receiver.records) == 1)
        with closing(Receiver(broker, "edgead/+/notice/+", 1, name="later")) as later:
            wait_until(lambda: later.records)
            assert (later.topics, later.retained) == (["edgead/caps/notice/rejects_in_a_row"], [True])
            assert later.records == [json.loads(json.dumps(notice_record(raised)))]
        queued.notify(resolved)
        wait_until(lambda: queued.status().notices_written == 2)
        wait_until(lambda: len(receiver.records) == 2)
        assert [record["event"] for record in receiver.records] == ["raised", "resolved"]
        assert receiver.retained == [False, False] and queued.status().written == 0


@pytest.mark.slow
@pytest.mark.parametrize("qos", [1, 2])
def test_an_alarm_that_comes_while_the_broker_is_away_arrives_once(tmp_path, qos):
    """Among verdicts, of which more wait than may: they push out none of the notices."""
    line, raised = Line(), notice()
    with running(tmp_path) as broker, closing(Receiver(broker, "edgead/+/notice/+", qos)) as receiver:
        with queued_of(broker, qos=qos, queue={"messages": 50}) as queued:
            queued.write(*line.part())
            wait_until(lambda: queued.status().written == 1)
            broker.stop()
            wait_until(lambda: queued.status().problem is not None)
            for number in range(200):
                queued.write(*line.part())
                if number == 20:
                    queued.notify(raised)
            time.sleep(2)
            assert queued.status().notices_waiting == 1 and queued.status().dropped > 100
            broker.start()
            wait_until(lambda: queued.status().waiting == queued.status().notices_waiting == 0)
            wait_until(lambda: receiver.records)
            time.sleep(1)  # for what would come twice
            assert [record["id"] for record in receiver.records] == [raised.id]
            assert (queued.status().notices_written, queued.status().notices_lost) == (1, 0)


@pytest.mark.parametrize("qos, away_s", [(1, 1.5), (2, 1.5), pytest.param(2, 30.0, marks=pytest.mark.slow)])
def test_a_broker_that_was_away_gets_everything_once_and_in_order(tmp_path, qos, away_s):
    line, sent, slowest = Line(), [], 0.0

    def work_for(queued, seconds):
        nonlocal slowest
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            part = line.part()
            begin = time.perf_counter()
            queued.write(*part)
            slowest = max(slowest, time.perf_counter() - begin)
            sent.append(part[0].id)
            time.sleep(0.01)

    with running(tmp_path, tls=True) as broker, closing(Receiver(broker, "edgead/#", qos)) as receiver:
        with queued_of(broker, qos=qos) as queued:
            work_for(queued, 0.5)
            assert received(receiver, len(sent))
            broker.stop()
            before = len(sent)
            work_for(queued, away_s)
            status = queued.status()
            assert status.waiting > (len(sent) - before) / 2
            assert "connection has ended" in status.problem or "refused" in status.problem
            broker.start()
            work_for(queued, 0.5)
            received(receiver, len(sent))
            wait_until(lambda: queued.status().waiting == 0)
            time.sleep(0.2)  # for what would come twice
            status = queued.status()
            assert (status.written, status.dropped, status.failed, status.problem) == (len(sent), 0, 0, None)
            arrived = ids(receiver.records)
            # With QoS 1 the one that was under way may come twice, which its id shows.
            assert list(dict.fromkeys(arrived)) == sent and len(arrived) - len(sent) <= (1 if qos == 1 else 0)
            assert slowest < 5


@pytest.mark.slow
@pytest.mark.parametrize("qos, most_twice", [(1, 4), (2, 0)])
def test_a_cable_cut_under_load_loses_nothing_and_what_comes_twice_is_known(tmp_path, qos, most_twice):
    line, sent = Line(), []
    with running(tmp_path) as broker, closing(Receiver(broker, "edgead/#", qos)) as receiver:
        with closing(Cable(broker.port)) as cable, queued_of(broker, qos=qos, port=cable.port) as queued:
            for _ in range(4):
                count = len(receiver.records)
                while len(receiver.records) < count + 20:
                    part = line.part()
                    queued.write(*part)
                    sent.append(part[0].id)
                    time.sleep(0.001)
                cable.cut()
                for part in line.parts(10):
                    queued.write(*part)
                    sent.append(part[0].id)
            wait_until(lambda: queued.status().written == len(sent))
            arrived = received(receiver, len(sent))
    assert len(arrived) - len(sent) <= most_twice
    assert list(dict.fromkeys(arrived)) == sent


def test_what_does_not_fit_is_dropped_oldest_first_and_counted(tmp_path):
    parts = Line().parts(25)
    with running(tmp_path) as broker, closing(Receiver(broker, "edgead/#", 1)) as receiver:
        broker.stop()
        with queued_of(broker, queue={"messages": 10}) as queued:
            queued.write(*parts[0])
            wait_until(lambda: queued.status().waiting == 1 and not queued._waiting)
            for part in parts[1:]:
                queued.write(*part)
            status = queued.status()
            assert (status.waiting, status.dropped, status.written) == (11, 14, 0)
            broker.start()
            kept = [parts[0], *parts[-10:]]  # the first was already in work
            assert received(receiver, 11) == [frame.id for frame, _ in kept]


def test_a_wrong_password_is_reported_and_never_shown(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with running(tmp_path) as broker, queued_of(broker, password=f"not-{PASSWORD}") as queued:
        queued.write(*Line().part())
        wait_until(lambda: "the broker refuses: Not authorized; check user" in (queued.status().problem or ""))
        reported = f"{caplog.text} {queued.status()} {queued!r} {queued._sink!r} {vars(queued._sink)}"
    assert "Not authorized" in caplog.text and PASSWORD not in reported


def test_an_unknown_authority_is_reported(tmp_path):
    with running(tmp_path, tls=True) as broker, queued_of(broker, ca_file=None) as queued:
        wait_until(lambda: "certificate verify failed" in (queued.status().problem or ""))


def test_a_missing_ca_file_is_named(tmp_path):
    settings = {"kind": "mqtt", "host": "127.0.0.1", "tls": True, "ca_file": tmp_path / "ca.pem"}
    with pytest.raises(SettingsError, match="ca.pem cannot be used: No such file"):
        open_queued("broker", MqttOptions.model_validate(settings))


def test_a_broker_that_hangs_is_noticed_and_loses_nothing(tmp_path):
    line = Line()
    with running(tmp_path) as broker, closing(Receiver(broker, "edgead/#", 1)) as receiver:
        with queued_of(broker, keepalive_s=2) as queued:
            sent = line.parts(1)
            queued.write(*sent[0])
            received(receiver, 1)
            os.kill(broker.process.pid, signal.SIGSTOP)
            sent += line.parts(20)
            for part in sent[1:]:
                queued.write(*part)
            wait_until(lambda: queued.status().problem)
            os.kill(broker.process.pid, signal.SIGCONT)
            wait_until(lambda: queued.status().written == 21)
            arrived = list(dict.fromkeys(received(receiver, 21)))
            assert arrived == [frame.id for frame, _ in sent]


def test_what_is_not_delivered_at_the_end_is_counted_and_delays_no_stop(tmp_path):
    with running(tmp_path) as broker:
        broker.stop()
        queued = open_queued("broker", section(broker))
        for part in Line().parts(5):
            queued.write(*part)
        begin = time.monotonic()
        queued.close(0.3)
        assert 0.3 <= time.monotonic() - begin < MAX_S
        assert (queued.status().dropped, queued.status().waiting) == (5, 0)


def test_messages_of_a_topic_are_heard_but_none_of_the_past(tmp_path):
    from edgead.plant.mqtt.client import MqttSubscription

    heard = []
    with running(tmp_path) as broker, closing(Receiver(broker, "nothing", 1)) as sender:
        sender.publish("line7/trigger", b"retained", retain=True)
        subscription = MqttSubscription(section(broker), "line7/trigger", heard.append)
        with closing(subscription):
            assert subscription.wait(MAX_S)
            wait_until(lambda: (sender.publish("line7/trigger", b"go"), heard)[1])
            assert set(heard) == {b"go"}
            broker.stop()
            wait_until(lambda: subscription.problem is not None)
            broker.start()
            assert subscription.wait(MAX_S) and subscription.problem is None
            heard.clear()
            wait_until(lambda: (sender.publish("line7/trigger", b"again"), heard)[1])
            assert set(heard) == {b"again"}


def test_a_uri_is_enough_for_the_camera_loop(tmp_path):
    frame, verdict = Line("").part(0.9)
    with running(tmp_path, tls=True) as broker, closing(Receiver(broker, "#", 1)) as receiver:
        place = f"127.0.0.1:{broker.port}"
        uri = f"mqtts://{USER}:{PASSWORD}@{place}/plant/line7?qos=2&ca_file={broker.ca_file}"
        with closing(open_sink(uri)) as sink:
            assert sink.uri == f"mqtts://{place}/plant/line7"
            sink.write(frame, verdict)
        assert received(receiver, 1) == [frame.id] and receiver.topics == ["plant/line7"]
        broker.stop()
        sink = open_sink(f"mqtt://{USER}:{PASSWORD}@{place}/x")
        sink.write(frame, verdict)
        sink._queued.close(0.1)
        with pytest.raises(SinkError, match="1 verdicts were not delivered: mqtt://127.0.0.1.*refused") as error:
            sink.close()
        assert PASSWORD not in str(error.value)
