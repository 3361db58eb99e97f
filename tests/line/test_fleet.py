"""Devices that report themselves, who sees them, and when a tag moves."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

pytest.importorskip("edgead.line.daemon.fleet.member")
pytest.importorskip("paho.mqtt")
from broker import PASSWORD, USER, Broker
from command_line import run_here
from patience import MAX_S, wait_until
from registry import RealRegistry, small_model

from edgead.artifact.oci.client import RegistryError
from edgead.artifact.oci.push import push, tag_digest
from edgead.errors import EdgeadError
from edgead.line.daemon.fleet.devices import Devices, FleetDevice
from edgead.line.daemon.fleet.followers import Followers
from edgead.line.daemon.fleet.gate import CanaryGate
from edgead.line.daemon.fleet.member import FleetMember
from edgead.line.daemon.fleet.report import DeviceReport, PipelineReport, make_report, read_report
from edgead.line.daemon.fleet.reporter import Reporter
from edgead.line.site.model_following import FleetSection
from edgead.line.site.schema import Site
from edgead.plant.mqtt.options import BrokerOptions

SOURCE = "oci://registry.test/line/caps:canary"
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker") / "of")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = RealRegistry(tmp_path_factory.mktemp("registry") / "of")
    registry.start()
    yield registry
    registry.stop()


def options(broker: Broker) -> BrokerOptions:
    return BrokerOptions.model_validate({"host": "127.0.0.1", "port": broker.port, "user": USER, "password": PASSWORD})


def judging(digest: str = NEW, *, source: str = SOURCE, **changed) -> PipelineReport:
    said = dict(state="running", model="c" * 64, follows=source, following="current", tag_digest=digest, digest=digest)
    return PipelineReport.model_validate(said | {"decisions": {"ok": 9, "reject": 1}} | changed)


def device(name: str, *pipelines: PipelineReport, heard_s: float = 0.0, online: bool = True) -> FleetDevice:
    named = {f"p{number}": pipeline for number, pipeline in enumerate(pipelines)}
    now = datetime.now(timezone.utc)
    report = DeviceReport(device=name, at=now, edgead="1.0", every_s=60, pipelines=named)
    return FleetDevice(name, online, report, heard_s)


# The gate


def test_a_model_goes_on_once_enough_canaries_have_been_well_for_long_enough():
    gate = CanaryGate(SOURCE, NEW, healthy=2, for_s=100)
    other = device("elsewhere", judging(OLD, source="oci://registry.test/line/caps:stable"))
    late = device("b", judging(OLD))
    asked = [gate.ask([device("a", judging()), late, other], 0)]
    both = [device("a", judging()), device("b", judging()), other]
    asked += [gate.ask(both, now_s) for now_s in (10, 100, 110)]
    assert [one.answer for one in asked] == ["wait", "wait", "wait", "go"]
    assert [one.reason for one in asked][:2] == ["1 of 2 judge by it", "2 judge by it; 100 s more"]


def test_a_break_begins_the_time_again():
    gate = CanaryGate(SOURCE, NEW, healthy=1, for_s=100)
    well, faulty = device("a", judging()), device("a", judging(state="fault", reason="camera top is lost"))
    answers = [gate.ask([one], now_s).answer for one, now_s in ((well, 0), (faulty, 50), (well, 60), (well, 155))]
    assert answers == ["wait"] * 4 and gate.ask([well], 161).answer == "go"
    assert "a: in fault: camera top is lost" in gate.ask([faulty], 162).reason


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("following", ["refused", "pinned"])
def test_one_that_refuses_stops_it_whatever_the_others_say(following, online):
    refusing = judging(OLD, tag_digest=NEW, following=following, why="golden/0.png scores 3")
    devices = [device("a", judging()), device("b", refusing, online=online)]
    opinion = CanaryGate(SOURCE, NEW, healthy=1, for_s=0).ask(devices, 0)
    assert (opinion.answer, opinion.reason) == ("stop", f"b: {following}: golden/0.png scores 3")


def test_what_was_refused_before_does_not_count():
    before = device("b", judging(OLD, tag_digest=OLD, following="refused", why="old"))
    assert CanaryGate(SOURCE, NEW, healthy=1, for_s=0).ask([device("a", judging()), before], 0).answer == "go"


def test_a_device_that_is_away_is_not_well():
    gate = CanaryGate(SOURCE, NEW, healthy=1, for_s=0)
    assert gate.ask([device("a", judging(), online=False)], 0).answer == "wait"
    assert gate.ask([device("a", judging(), heard_s=0)], 181).answer == "wait"
    assert gate.ask([replace(device("a"), report=None)], 0).answer == "wait"
    assert gate.ask([device("a", judging(), heard_s=100)], 181).answer == "go"


# Reports


def line(decisions):
    status = SimpleNamespace(state="running", reason=None, model_sha256="c" * 64, decisions=decisions)
    return SimpleNamespace(status=lambda: status)


def test_a_report_says_what_judges_and_why():
    status = SimpleNamespace(
        source=SOURCE, state="refused", reason="x" * 2000, problem=None, tag_digest=NEW, digest=OLD
    )
    followers = {"front": SimpleNamespace(status=status)}
    report = make_report("line7", 60, {"front": line({"ok": 3, "reject": 1}), "back": line({})}, followers)
    assert read_report(report.dump()) == report
    front = report.pipelines["front"]
    assert (front.self_test, front.ok_share, len(front.why)) == ("failed", 0.75, 500)
    assert report.pipelines["back"].follows is None and report.pipelines["back"].ok_share is None


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b'{"schema": 2}', b"[" * 100_000, b"x" * 300_000])
def test_what_is_no_report_is_not_read(payload):
    assert read_report(payload) is None


def test_devices_report_changes_at_once_and_a_lost_one_is_seen(broker):
    said = {"front": line({"ok": 1})}
    section = FleetSection(**options(broker).model_dump(), device="line7", topic="plant/a", every_s=60)
    reporter = Reporter(section, lambda: make_report("line7", 60, said, {}))
    reporter.start()
    with Devices(options(broker), "plant/a") as devices:
        wait_until(lambda: [one.there(time.monotonic()) for one in devices.all()] == [True])
        said["back"] = line({})
        wait_until(lambda: set(devices.all()[0].report.pipelines) == {"front", "back"})
        reporter._connection.client.socket().shutdown(2)  # as a cable that is pulled
        wait_until(lambda: not devices.all()[0].online)
        wait_until(lambda: devices.all()[0].online)
        reporter.close()
        wait_until(lambda: not devices.all()[0].online)
    with Devices(options(broker), "plant/a") as later:
        (found,) = later.settled()
    assert not found.online and set(found.report.pipelines) == {"front", "back"}


def test_a_broker_that_is_away_is_said(broker):
    nowhere = BrokerOptions.model_validate({"host": "127.0.0.1", "port": 9})
    with pytest.raises(EdgeadError, match="mqtt://127.0.0.1:9: "):
        Devices(nowhere, "edgead/fleet", within_s=3)


# Of a site


def test_a_reload_exchanges_what_follows_and_leaves_the_rest(tmp_path):
    def site(**follow):
        followed = {"from": "oci://127.0.0.1:9/line/caps:stable", **follow} if follow else None
        pipelines = {"a": {"camera": "top", "model": "m", "follow": followed}}
        cameras = {"top": {"uri": "synthetic:"}}
        return Site.model_validate({"cameras": cameras, "pipelines": pipelines, "store": {"folder": tmp_path}})

    audit = []
    store = SimpleNamespace(add_audit=lambda **change: audit.append(change))
    pipelines = {"a": SimpleNamespace(name="a", model_path=tmp_path / "m", failed_model=None)}
    followers = Followers()
    assert followers.begin("a", site(every_s=1), store) is None
    first = followers.named["a"]
    for _ in range(2):
        followers.follow(site(every_s=1), pipelines, store)
        assert followers.named["a"] is first
    wait_until(lambda: first.status.problem)
    assert "127.0.0.1:9 cannot be reached" in first.status.problem
    first.follow_again(by="Anna")
    assert [(change["by"], change["action"], change["pipeline"]) for change in audit] == [("Anna", "follow again", "a")]
    followers.follow(site(every_s=5), pipelines, store)
    second = followers.named["a"]
    assert second is not first and second.section.every_s == 5
    followers.follow(site(), pipelines, store)
    assert followers.named == {}
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "follower a"])


def test_a_broker_that_cannot_be_used_stops_no_inspection(tmp_path, caplog):
    cameras, pipelines = {"top": {"uri": "synthetic:"}}, {"a": {"camera": "top", "model": "m"}}
    fleet = {"host": "127.0.0.1", "port": 9, "tls": True, "ca_file": str(tmp_path / "gone.pem")}
    site = Site.model_validate({"cameras": cameras, "pipelines": pipelines, "fleet": fleet})
    member = FleetMember()
    member.follow(site, dict, SimpleNamespace())
    member.close()
    assert "nothing is reported to the fleet: " in caplog.text and "gone.pem" in caplog.text


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$SYS", " a", "x" * 65, "a\nb"])
def test_a_device_has_a_name_that_a_topic_can_have(name):
    with pytest.raises(ValueError, match="is no level of a topic"):
        FleetSection(host="broker", device=name)


# The verbs


@pytest.fixture
def call(broker, registry, monkeypatch):
    monkeypatch.setenv("EDGEAD_BROKER_PASSWORD", PASSWORD)
    at = f"mqtt://{USER}@127.0.0.1:{broker.port}"

    def call(*words: str, asks: bool = True, json: str = "--json") -> tuple[int, str, str]:
        """Code, and what was said on each of the two streams."""
        ended = run_here(*words, *(["--broker", at] if asks else []), *filter(None, [json]))
        return ended.returncode, ended.stdout, ended.stderr

    return call


def retained(broker: Broker, topic: str, *devices: FleetDevice) -> None:
    from paho.mqtt.publish import multiple

    messages = [
        message
        for one in devices
        for message in (
            {"topic": f"{topic}/{one.name}/state", "payload": b"online", "qos": 1, "retain": True},
            {"topic": f"{topic}/{one.name}/report", "payload": one.report.dump(), "qos": 1, "retain": True},
        )
    ]
    multiple(messages, port=broker.port, auth={"username": USER, "password": PASSWORD})


def test_status_lists_devices(broker, call):
    faulty = judging(OLD, state="fault", reason="hangs")
    retained(broker, "plant/b", device("line1", judging()), device("line2", faulty))
    code, out, _ = call("fleet", "status", "--topic", "plant/b")
    found = json.loads(out)["devices"]
    assert [(one["device"], one["online"]) for one in found] == [("line1", True), ("line2", True)] and code == 1
    assert found[1]["pipelines"]["p0"]["reason"] == "hangs" and found[0]["pipelines"]["p0"]["digest"] == NEW
    retained(broker, "plant/b", device("line2", judging()))
    code, out, _ = call("fleet", "status", "--topic", "plant/b", json="")
    assert code == 0 and out.count("90.0 %") == 2 and "caps:canary" in out


def test_a_tag_moves_once_its_devices_are_well(broker, registry, call, tmp_path):
    new = push(small_model(tmp_path / "m"), registry.reference("canary", "line/promoted")).digest
    repository = str(registry.reference("canary", "line/promoted")).rpartition(":")[0]
    stable, source = registry.reference("stable", "line/promoted"), f"{repository}:canary"
    tags = ("fleet", "promote", repository, "--from", "canary", "--to", "stable")
    words = (*tags, "--topic", "plant/c", "--for-s", "0.2", "--within-s")
    retained(broker, "plant/c", device("line1", judging(new, source=source)))
    code, _, said = call(*words, "0", "--when-healthy", "2")
    assert code == 1 and "not promoted, not within 0 s: 1 of 2 judge by it" in said
    with pytest.raises(RegistryError, match="has none"):
        tag_digest(stable)
    refusing = judging(OLD, tag_digest=new, source=source, following="refused", why="x")
    retained(broker, "plant/c", device("line2", refusing))
    code, _, said = call(*words, "30", "--when-healthy", "1")
    assert code == 1 and "a device refuses it: line2: refused: x" in said
    retained(broker, "plant/c", device("line2", judging(new, source=source)))
    code, out, _ = call(*words, str(MAX_S), "--when-healthy", "2")
    assert (code, json.loads(out)["digest"], tag_digest(stable)) == (0, new, new)
    newer = push(small_model(tmp_path / "m", rows=9), registry.reference("canary", "line/promoted")).digest
    assert call(*tags, asks=False)[0] == 0 and tag_digest(stable) == newer != new


@pytest.mark.parametrize("at", ["http://a:1", "mqtt://", "mqtt://a:x", "mqtt://a/topic", "a"])
def test_what_is_no_broker(at):
    ended = run_here("fleet", "status", "--broker", at)
    assert ended.returncode == 2 and "error: --broker" in ended.stderr
