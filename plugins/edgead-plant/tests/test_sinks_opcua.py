"""The OPC UA sink with asyncua's real client, as a plant's system would read it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from patience import MAX_S, wait_until
from pydantic import ValidationError
from verdicts import Line

from edgead.errors import SettingsError
from edgead.serialization import verdict_record
from edgead.sinks import open_queued
from edgead.sinks.contract import SinkError
from edgead.types import Part
from edgead_plant.sinks.opcua import OpcUaSinkOptions

asyncua = pytest.importorskip("asyncua", reason="OPC UA NOT TESTED: pip install 'edgead-plant[opcua]'")
USER, PASSWORD = "line7", "hunter2-is-secret"


def options(**settings):
    return OpcUaSinkOptions.model_validate({"kind": "opcua", "port": 0, **settings})


@pytest.fixture(scope="module")
def queued():
    with closing(open_queued("plant", options())) as queued:
        yield queued


def write(queued, frame, verdict):
    before = queued.status().written
    queued.write(frame, verdict)
    wait_until(lambda: queued.status().written == before + 1)


class Client:
    """Reads variables by their paths below VisionSystems, and collects events."""

    def __init__(self, client):
        self._client = client
        self.events = []

    async def node(self, path):
        index = await self._client.get_namespace_index("urn:edgead:machine-vision")
        names = [f"{index}:{name}" for name in ("VisionSystems", *path.split("/"))]
        return await self._client.nodes.objects.get_child(names)

    async def read(self, path):
        return await (await self.node(path)).read_value()

    async def subscribe(self, pipeline):
        index = await self._client.get_namespace_index("urn:edgead:machine-vision")
        event_type = await self._client.nodes.base_event_type.get_child(f"{index}:ResultReadyEventType")
        subscription = await self._client.create_subscription(10, self)
        await subscription.subscribe_events(await self.node(pipeline), event_type)

    def event_notification(self, event):
        self.events.append(event)


@asynccontextmanager
async def connected(queued, user=None, password=None):
    client = asyncua.Client(f"opc.tcp://127.0.0.1:{queued._sink.port}", timeout=MAX_S)
    if user:
        client.set_user(user)
        client.set_password(password)
    async with client:
        yield Client(client)


async def until(condition):
    for _ in range(int(MAX_S / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about in time")


@pytest.mark.slow
def test_a_client_reads_the_last_result_by_the_names_of_machine_vision(queued):
    frame, verdict = Line("caps").part(0.9, "scratch")
    frame = replace(frame, part=Part("A1", "B7", "red cap"))
    write(queued, frame, verdict)

    async def read():
        async with connected(queued) as client:
            latest = "caps/ResultManagement/Results/LatestResult"
            names = "ResultId PartId JobId ExternalRecipeId Decision ImageScore Kind IsPartial ResultState CreationTime"
            values = [await client.read(f"{latest}/{name}") for name in names.split()]
            content = await client.read(f"{latest}/ResultContent")
            counters = [await client.read(f"caps/Counters/{name}") for name in ("Judged", "Ok", "Reject", "Dropped")]
            return values, content, counters, await client.read("caps/VisionStateMachine/CurrentState")

    values, content, counters, state = asyncio.run(read())
    assert values[:-1] == [frame.id, "A1", "B7", "red cap", "reject", 0.9, "scratch", False, 1]
    assert abs((values[-1].replace(tzinfo=frame.captured_at.tzinfo) - frame.captured_at).total_seconds()) < 1e-3
    assert json.loads(content) == json.loads(json.dumps(verdict_record(frame, verdict)))
    assert counters == [1, 0, 1, 0] and state == "Operational"


@pytest.mark.slow
def test_a_client_that_comes_and_goes_gets_each_event_while_it_is_there(queued):
    line = Line("front")
    write(queued, *line.part())

    async def watch(parts):
        async with connected(queued) as client:
            await client.subscribe("front")
            for part in parts:
                await asyncio.to_thread(write, queued, *part)
            await until(lambda: len(client.events) == len(parts))
            return [event.ResultId for event in client.events], await client.read("front/Counters/Judged")

    judged = 1
    for _ in range(10):
        parts = line.parts(3)
        judged += 4
        found = asyncio.run(watch(parts))
        write(queued, *line.part())  # while it is away
        assert found == ([frame.id for frame, _ in parts], judged - 1)


def rows_of_the_table():
    """What the page says of OPC 40100-1: the names of a row, and what edgead has of them."""
    page = (Path(__file__).parents[3] / "docs/how-to/plc-and-plant.md").read_text()
    table = page.partition("### What there is of OPC 40100-1")[2].partition("|---|---|---|\n")[2].partition("\n\n")[0]
    for row in table.splitlines():
        names, _, here = (cell.strip() for cell in row.strip("|").split(" | "))
        yield re.findall("`([A-Za-z]+)`", names), here


@pytest.mark.slow
def test_the_page_says_what_there_is_of_the_specification(queued):
    """Every name of the specification that the page has as there is found by a client, and no other."""
    write(queued, *Line("side").part(0.9))

    async def walk(node):
        yield node
        for child in await node.get_children():
            async for found in walk(child):
                yield found

    async def browse():
        async with connected(queued) as client:
            nodes = [node async for node in walk(await client.node("side"))]
            names = [(await node.read_browse_name()).Name for node in nodes]
            classes = {await node.read_node_class() for node in nodes}
            types = {await node.read_type_definition() for node in nodes}
            index = await client._client.get_namespace_index("urn:edgead:machine-vision")
            event = await client._client.nodes.base_event_type.get_child(f"{index}:ResultReadyEventType")
            fields = [(await field.read_browse_name()).Name for field in await event.get_properties()]
            paths = [here.split("`")[1] for _, here in rows_of_the_table() if here.startswith("`")]
            for path in paths:
                await client.node(f"side/{path}")
            return names, classes, types, fields, await client._client.get_namespace_array()

    names, classes, types, fields, namespaces = asyncio.run(browse())
    rows = list(rows_of_the_table())
    absent = {name for row, here in rows if here.startswith("not there") for name in row}
    assert len(rows) > 10 and len(absent) > 35 and not absent & {*names, *fields}
    (event,) = (row for row, here in rows if here.startswith("of each verdict"))
    assert set(event[1:]) <= set(fields)
    ids, of_type = asyncua.ua.NodeClass, asyncua.ua.ObjectIds
    assert classes == {ids.Object, ids.Variable}  # no methods
    assert {kind.Identifier for kind in types} == {of_type.BaseObjectType, of_type.BaseDataVariableType}
    assert "http://opcfoundation.org/UA/MachineVision" not in namespaces


@pytest.mark.slow
def test_nobody_can_write(queued):
    write(queued, *Line("top").part())

    async def change():
        async with connected(queued) as client:
            await (await client.node("top/Counters/Ok")).write_value(7, asyncua.ua.VariantType.UInt32)

    with pytest.raises(asyncua.ua.UaStatusCodeError, match="(?i)denied|writ"):
        asyncio.run(change())


@pytest.mark.slow
def test_who_knows_no_password_is_refused():
    with closing(open_queued("plant", options(user=USER, password=PASSWORD))) as queued:
        write(queued, *Line("caps").part(0.9))

        async def read(user, password):
            async with connected(queued, user, password) as client:
                return await client.read("caps/Counters/Reject")

        assert asyncio.run(read(USER, PASSWORD)) == 1
        for wrong in ((USER, "wrong-password"), ("admin", PASSWORD), (None, None)):
            with pytest.raises(asyncua.ua.UaError):
                asyncio.run(read(*wrong))


@pytest.mark.slow
def test_with_a_certificate_clients_must_sign_and_encrypt(tmp_path):
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
    from cryptography.x509.oid import ExtendedKeyUsageOID

    async def certify(name, usage):
        files = tmp_path / f"{name}.pem", tmp_path / f"{name}.der"
        subject = {"commonName": name}
        await setup_self_signed_certificate(*files, f"urn:{name}", "127.0.0.1", [usage], subject)
        return files

    async def read(queued, client_files=None, server_file=None):
        client = asyncua.Client(f"opc.tcp://127.0.0.1:{queued._sink.port}", timeout=MAX_S)
        client.application_uri = "urn:client"
        if client_files:
            key, certificate = client_files
            await client.set_security(SecurityPolicyBasic256Sha256, certificate, key, server_certificate=server_file)
        async with client:
            return await Client(client).read("caps/Counters/Review")

    setup_self_signed_certificate = pytest.importorskip("asyncua.crypto.cert_gen").setup_self_signed_certificate
    key, certificate = asyncio.run(certify("server", ExtendedKeyUsageOID.SERVER_AUTH))
    client_files = asyncio.run(certify("client", ExtendedKeyUsageOID.CLIENT_AUTH))
    with closing(open_queued("plant", options(certificate_file=certificate, key_file=key))) as queued:
        write(queued, *Line("caps").part(0.45))
        assert asyncio.run(read(queued, client_files, certificate)) == 1
        with pytest.raises((asyncua.ua.UaError, ConnectionError)):
            asyncio.run(read(queued))


@pytest.mark.slow
def test_a_server_that_starts_again_is_found_on_its_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for _ in range(2):
        with closing(open_queued("plant", options(port=port))) as queued:
            write(queued, *Line("caps").part())

            async def read(queued=queued):
                async with connected(queued) as client:
                    return await client.read("caps/Counters/Judged")

            assert asyncio.run(read()) == 1


@pytest.mark.slow
def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SinkError, match="cannot listen: .*choose another port"):
            open_queued("plant", options(port=taken.getsockname()[1]))


@pytest.mark.slow
def test_a_certificate_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match="certificate_file or key_file cannot be used: .*nothing.pem"):
        open_queued("plant", options(certificate_file=Path("nothing.pem"), key_file=Path("nothing.key")))


@pytest.mark.parametrize(
    "wrong, why",
    [
        ({"host": "0.0.0.0"}, "can be reached from elsewhere: give user and password"),
        ({"host": "0.0.0.0", "user": USER, "password": "short"}, "shorter than 12"),
        ({"user": USER}, "belong together"),
        ({"certificate_file": "a.pem"}, "belong together"),
    ],
)
def test_it_listens_to_nobody_unguarded(wrong, why):
    with pytest.raises(ValidationError, match=why):
        options(**wrong)
