"""A real daemon follows a real registry and reports to a real broker, on the built-in line."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

pytest.importorskip("edgead.line.daemon.fleet.member")
from broker import PASSWORD, USER, Broker
from daemons import check_records, conveyor, make_site, started
from fakes import edit_manifest
from patience import wait_for
from registry import RealRegistry

from edgead.artifact.folder import Artifact
from edgead.artifact.oci.push import push
from edgead.artifact.signatures.keys import make_key, read_private_key
from edgead.artifact.signatures.signature import sign
from edgead.line.daemon.fleet.devices import Devices
from edgead.plant.mqtt.options import BrokerOptions

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def registry(tmp_path):
    registry = RealRegistry(tmp_path / "registry")
    registry.start()
    yield registry
    registry.stop()


def follows(daemon, state: str, digest: str | None) -> dict:
    def reached() -> dict | None:
        found = daemon.api.get("/api/pipelines/a/follow").json()
        return found if (found["state"], found["digest"]) == (state, digest) else None

    return wait_for(reached, f"{state} {digest}")


def noted(trained_model, path, *, golden: float = 1.0):
    """The same detector with another manifest, and scores of its golden images that may be wrong."""

    def change(content):
        content["training"].update(note=path.name)
        for graph in content["graphs"].values():
            for image in graph["golden"]:
                image["image_score"] *= golden

    shutil.copytree(trained_model, path)
    edit_manifest(path, change)
    return path


def test_a_device_follows_its_tag_and_verdicts_go_on_whatever_comes(trained_model, tmp_path, registry, broker):
    own = noted(trained_model, tmp_path / "model")
    good = noted(trained_model, tmp_path / "good")
    first = push(good, registry.reference()).digest
    to = {"host": "127.0.0.1", "port": broker.port, "user": USER, "password": PASSWORD}
    site = make_site(own, cameras={"conveyor": conveyor(10)}, fleet={**to, "device": "line7", "every_s": 5})
    site["pipelines"]["a"]["follow"] = {"from": str(registry.reference()), "every_s": 1}
    with Devices(BrokerOptions.model_validate(to), "edgead/fleet") as devices:
        with started(tmp_path, site) as daemon:
            daemon.wait_state("running")
            follows(daemon, "current", first)
            sha256 = Artifact.load(good).manifest.manifest_sha256
            assert daemon.wait_judged(3)["model_sha256"] == sha256

            bad = push(noted(trained_model, tmp_path / "bad", golden=2.0), registry.reference()).digest
            found = follows(daemon, "refused", first)
            assert found["tag_digest"] == bad and "self-test" in found["reason"]

            registry.stop()
            wait_for(lambda: daemon.api.get("/api/pipelines/a/follow").json()["problem"], "a problem")
            assert daemon.wait_judged(5)["model_sha256"] == sha256
            registry.start()
            second = push(noted(trained_model, tmp_path / "second"), registry.reference()).digest
            follows(daemon, "current", second)
            assert daemon.api.post("/api/pipelines/a/roll-back", json={"by": "kim"}).status_code == 200
            follows(daemon, "pinned", first)

            def reported(**wanted) -> bool:
                known = [one for one in devices.all() if one.there(time.monotonic())]
                one = known[0].report.pipelines["a"] if known else None
                return one is not None and wanted.items() <= one.model_dump().items()

            wait_for(lambda: reported(following="pinned", digest=first, tag_digest=second), "its report")
            assert daemon.pipeline()["skipped"] == 0
            daemon.stop()
        check_records(daemon)
        wait_for(lambda: not devices.all()[0].online, "that it is off")

        with started(tmp_path, site) as daemon:  # what a person has chosen outlives it, also without the registry
            assert daemon.wait_judged(2)["model_sha256"] == sha256
            follows(daemon, "pinned", first)
            assert daemon.api.post("/api/pipelines/a/follow", json={"by": "kim"}).status_code == 200
            follows(daemon, "current", second)
            wait_for(lambda: reported(self_test="passed", digest=second, state="running"), "its report")
            actions = [entry["action"] for entry in daemon.api.get("/api/audit").json()]
            assert actions == ["swap model", "follow again", "roll back model", "swap model", "swap model"]
            daemon.process.send_signal(signal.SIGKILL)
            wait_for(lambda: not devices.all()[0].online, "its last will")


def test_a_model_that_is_damaged_after_a_restart_is_fetched_again(trained_model, tmp_path, registry):
    own = noted(trained_model, tmp_path / "model")
    digest = push(noted(trained_model, tmp_path / "good"), registry.reference()).digest
    site = make_site(own, cameras={"conveyor": conveyor(10)})
    site["pipelines"]["a"]["follow"] = {"from": str(registry.reference()), "every_s": 1}
    with started(tmp_path, site) as daemon:
        follows(daemon, "current", digest)
        daemon.stop()
    check_records(daemon)
    before = len(daemon.records())
    bank = tmp_path / "evidence" / "models" / "a" / digest[7:] / "memory_bank.npy"
    bank.write_bytes(b"bad sector" + bank.read_bytes()[10:])
    with started(tmp_path, site) as daemon:
        follows(daemon, "current", digest)  # fetched again
        actions = [entry["action"] for entry in daemon.api.get("/api/audit").json()]
        assert actions == ["swap model", "roll back on fault", "swap model"]
        daemon.stop()
    assert len(daemon.records()) - before == daemon.counts()["a"]["judged"]


def test_an_unsigned_model_is_not_let_in_and_a_signed_one_is(trained_model, tmp_path, registry):
    make_key(tmp_path / "site.key")
    key = read_private_key(tmp_path / "site.key")
    own, good = noted(trained_model, tmp_path / "model"), noted(trained_model, tmp_path / "good")
    sign(own, key)
    site = make_site(own, cameras={"conveyor": conveyor(10)})
    site["models"] = {"require_signed": True, "keys": [str(tmp_path / "site.pub")]}
    site["pipelines"]["a"]["follow"] = {"from": str(registry.reference()), "every_s": 1}
    unsigned = push(good, registry.reference()).digest
    with started(tmp_path, site) as daemon:
        found = follows(daemon, "refused", None)
        assert found["tag_digest"] == unsigned and "sign" in found["reason"]
        sign(good, key)
        pushed = push(good, registry.reference())
        assert pushed.sent_bytes < 64 << 10  # the signature alone
        follows(daemon, "current", pushed.digest)
        daemon.stop()
    check_records(daemon)
