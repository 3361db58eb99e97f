"""A PLC asks, a GigE camera looks: 1,000 parts on record, by Sparkplug, OPC UA and handshake; each is pulled."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing, contextmanager, nullcontext

import pytest
from broker import PASSWORD, USER
from cable import Cable
from daemons import make_site, started, wait_for
from gige import virtual_camera
from modbus_server import free_port
from test_sinks_sparkplug import line7, values
from test_triggers_modbus import Plc, options

from edgead.types import DECISIONS

asyncua = pytest.importorskip("asyncua", reason="PLANT NOT TESTED: pip install 'edgead-plant[opcua]'")
PARTS, PULLS = 1000, 10


async def opcua_counters(port):
    """A new connection each time, as of a client that comes and goes."""
    async with asyncua.Client(f"opc.tcp://127.0.0.1:{port}", timeout=30) as client:
        index = await client.get_namespace_index("urn:edgead:machine-vision")
        path = [f"{index}:{name}" for name in ("VisionSystems", "a", "Counters", "Judged")]
        return await (await client.nodes.objects.get_child(path)).read_value()


def pull_camera(camera, daemon):
    """Pull it while nobody asks, and put it back."""
    camera.kill()
    wait_for(lambda: daemon.api.get("/api/cameras").json()[0]["state"] == "lost", "the camera is lost")
    camera.start()
    wait_for(lambda: daemon.api.get("/api/cameras").json()[0]["state"] == "streaming", "the camera is back")


@contextmanager
def locked(database):
    """Another program holds the evidence."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.slow
def test_no_part_is_lost_doubled_or_mixed_up(trained_model, tmp_path):
    port = free_port()
    (tmp_path / "plant").mkdir()
    with virtual_camera() as camera, line7(tmp_path / "plant") as (broker, host), closing(Plc()) as plc:
        with closing(Cable(plc.port)) as to_plc, closing(Cable(broker.port)) as to_broker:
            to = {"kind": "sparkplug", "host": "127.0.0.1", "port": to_broker.port, "user": USER, "password": PASSWORD}
            site = make_site(
                trained_model,
                cameras={"gige": {"uri": f"{camera.uri}?fps=25", "retry_first_s": 0.1, "retry_most_s": 0.5}},
                sinks={
                    "sparkplug": {**to, "group": "plant", "node": "line7", "retry_most_s": 1},
                    "opcua": {"kind": "opcua", "port": port},
                },
            )
            trigger = options(to_plc.port, answer_within_s=60).model_dump()
            site["pipelines"]["a"] |= {"camera": "gige", "trigger": trigger, "sinks": ["sparkplug", "opcua"]}
            database = tmp_path / site["store"]["folder"] / "verdicts.sqlite"
            with started(tmp_path, site) as daemon:
                wait_for(lambda: plc.status().ready, "the trigger is ready")
                answers, begin_s = {}, time.monotonic()
                for number in range(1, PARTS + 1):
                    pull = number % (PARTS // PULLS) == 0
                    if pull:
                        pull_camera(camera, daemon)
                    with locked(database) if pull else nullcontext():
                        plc.ask(f"A{number}")
                        if pull:
                            to_plc.cut()
                            to_broker.cut()
                            wait_for(lambda n=number: asyncio.run(opcua_counters(port)) >= n - 1, "OPC UA")
                    answers[f"A{number}"] = DECISIONS[plc.answer().decision]
                rate = PARTS / (time.monotonic() - begin_s)
                wait_for(lambda: asyncio.run(opcua_counters(port)) == PARTS, "the last verdict by OPC UA")
                heard = lambda: [values(p) for message, _, p in host.heard if message == "DDATA"]  # noqa: E731
                wait_for(lambda: len({each["Verdict/Id"] for each in heard()}) == PARTS, "all verdicts by Sparkplug")
                status = plc.status()
                assert (status.judged, status.not_judged) == (PARTS, 0)
                daemon.stop()
    records = daemon.records()
    assert {record["serial"]: record["decision"] for record in records} == answers
    assert [record["serial"] for record in records] == list(answers)
    ids = [each["Verdict/Id"] for each in heard()]
    assert list(dict.fromkeys(ids)) == [record["id"] for record in records] and len(ids) - PARTS <= PULLS
    by_id = {record["id"]: record for record in records}
    assert all(each["Part/Serial"] == by_id[each["Verdict/Id"]]["serial"] for each in heard())
    print(f"{rate:.1f} parts a second")
