"""The OPC UA sink with asyncua's real client, as a plant's system would read it."""

from __future__ import annotations

import asyncio
import json
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
