"""A follower without a daemon, a clock or a network: what it does with each tag, and what it never does again."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest

pytest.importorskip("edgead.line.daemon.fleet.follower")
from registry import small_model

from edgead.artifact.folder import Artifact
from edgead.artifact.oci.client import RegistryError
from edgead.artifact.oci.package import PackageError
from edgead.artifact.signatures.keys import PublicKey, make_key, read_private_key
from edgead.artifact.signatures.signature import Signature, sign
from edgead.artifact.signatures.trust import check_signed
from edgead.errors import SettingsError
from edgead.line.daemon.active_model import SlotBusyError
from edgead.line.daemon.fleet.follower import MAX_STARTS, PROBATION_S, RECORD, Follower
from edgead.line.daemon.fleet.followers import TransferRate
from edgead.line.daemon.fleet.record import SignatureRecord, read_record
from edgead.line.daemon.self_test import SelfTestError
from edgead.line.evidence.database import StoreAwayError
from edgead.line.site.model_following import FollowSection

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
SECTION = {"from": "oci://registry.test/line/caps:stable", "every_s": 300, "jitter": 0.2}


class Tag:
    """A registry whose tag leads where the test says; a digest it has no model of is none that can be used."""

    def __init__(self, folder: Path):
        self.models = {digest: small_model(folder / digest[7], rows=5 + ord(digest[7])) for digest in (A, B)}
        self.leads_to, self.away, self.cut = A, False, False
        self.asked = 0
        self.pulled: list[str] = []

    def digest(self) -> str:
        self.asked += 1
        if self.away:
            raise RegistryError("the registry is away")
        return self.leads_to

    def pull(self, digest: str, destination: Path, reuse: list[Path]) -> None:
        if self.cut:
            raise RegistryError("the transfer ended before its end")
        if digest not in self.models:
            raise PackageError("this is no edgead model")
        self.pulled.append(digest)
        shutil.copytree(self.models[digest], destination)


class Line:
    """A pipeline whose self-test refuses what a test says."""

    name = "front"

    def __init__(self, own: Path):
        self.model_path = self.own = own
        self.failed_model: Path | None = None
        self.bad: set[str] = set()
        self.busy: Exception | None = None
        self.dies = False
        self.tried: list[str] = []
        self.before = own
        self.keys: list[PublicKey] = []  # that are demanded

    def signatures(self, model: Path) -> list[Signature]:
        return check_signed(Artifact.load(model), self.keys) if self.keys else []

    def swap(self, model: Path, *, by: str) -> None:
        assert by == "follows oci://registry.test/line/caps:stable"
        if self.busy:
            raise self.busy
        self.tried.append(f"sha256:{model.name}")
        if self.dies:
            raise MemoryError
        if self.tried[-1] in self.bad:
            raise SelfTestError("self-test failed: golden/0.png scores 3")
        Artifact.load(model)
        self.before, self.model_path = self.model_path, model

    def roll_back(self) -> None:
        self.before, self.model_path = self.model_path, self.before

    def fail(self) -> None:
        self.failed_model, self.model_path = self.model_path, self.before


class Bench:
    def __init__(self, folder: Path):
        self.folder, self.now_s = folder / "models", 1000.0
        self.tag, self.line = Tag(folder), Line(small_model(folder / "own"))
        self.restart()

    def restart(self) -> None:
        """As a daemon that starts: the model of the record, or that of the site file."""
        chance = random.Random(1)
        section = FollowSection.model_validate(SECTION)
        self.follower = Follower(section, self.folder, self.tag, lambda: self.now_s, chance)
        self.line.model_path = self.follower.begin() or self.line.own

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += max(0.01, self.follower.step(self.line))

    @property
    def state(self) -> tuple[str, str | None]:
        return self.follower.status.state, self.follower.status.digest


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_tag_is_followed_and_the_model_before_is_kept(bench):
    bench.run(100)
    assert bench.state == ("current", A) and bench.line.model_path == bench.folder / A[7:]
    bench.tag.leads_to = B
    bench.run(361)
    assert bench.state == ("current", B)
    assert {entry.name for entry in bench.folder.iterdir()} == {A[7:], B[7:], RECORD}
    bench.tag.leads_to = A  # which is here
    bench.run(361)
    assert bench.state == ("current", A) and bench.tag.pulled == [A, B]


def test_looks_are_spread_and_a_tag_that_stays_costs_one_request_each(bench):
    bench.run(100)
    asked = bench.tag.asked
    bench.run(30_000)
    assert 90 < bench.tag.asked - asked < 110 and bench.line.tried == [A]


def test_a_restart_goes_on_with_what_was_in_service(bench):
    bench.run(100 + PROBATION_S)
    bench.tag.away = True
    for _ in range(5):
        bench.restart()
        assert bench.line.model_path == bench.folder / A[7:]
        bench.run(400)
    assert bench.state == ("current", A) and bench.follower.status.problem == "the registry is away"
    assert bench.line.tried == [A]


def test_a_model_that_fails_its_self_test_is_never_tried_again(bench):
    bench.run(100)
    bench.line.bad, bench.tag.leads_to = {B}, B
    bench.run(5000)
    bench.restart()
    bench.run(5000)
    assert bench.state == ("refused", A) and "golden/0.png scores 3" in bench.follower.status.reason
    assert bench.line.tried == [A, B] and not (bench.folder / B[7:]).exists()
    bench.tag.leads_to = A
    bench.run(400)
    bench.tag.leads_to = B
    bench.run(400)
    assert bench.line.tried == [A, B] and bench.state == ("refused", A)
    bench.follower.follow_again()  # a person says so, as the device has been repaired
    bench.line.bad = set()
    bench.run(10)
    assert bench.state == ("current", B)


def test_what_is_no_model_is_refused(bench):
    bench.run(100)
    bench.tag.leads_to = C
    bench.run(1000)
    assert bench.state == ("refused", A) and bench.follower.status.reason == "this is no edgead model"


def test_a_registry_that_is_away_or_cuts_off_changes_nothing_and_is_tried_again(bench):
    bench.run(100)
    bench.tag.leads_to, bench.tag.cut = B, True
    bench.run(1000)
    assert bench.state == ("current", A) and "ended before its end" in bench.follower.status.problem
    bench.tag.cut = False
    bench.run(400)
    assert bench.state == ("current", B) and bench.follower.status.problem is None


@pytest.mark.parametrize("error", [SlotBusyError("busy"), StoreAwayError("the audit cannot be written")])
def test_a_pipeline_that_is_busy_is_asked_again_soon(bench, error):
    bench.line.busy = error
    bench.run(100)
    assert bench.state == ("waiting", None) and bench.line.tried == []
    bench.line.busy = None
    bench.run(10)
    assert bench.state == ("current", A)


def test_who_goes_back_is_left_alone_until_the_tag_moves(bench):
    bench.run(100)
    bench.line.roll_back()
    bench.run(2)
    bench.restart()
    bench.run(5000)
    assert bench.state == ("pinned", None) and bench.line.model_path == bench.line.own
    assert bench.line.tried == [A]
    bench.tag.leads_to = B
    bench.run(400)
    assert bench.state == ("current", B)
    bench.line.roll_back()
    bench.run(2)
    bench.follower.follow_again()
    bench.run(10)
    assert bench.state == ("current", B) and bench.line.model_path == bench.folder / B[7:]


def test_who_goes_back_and_forth_follows_again(bench):
    bench.run(100)
    bench.line.roll_back()
    bench.run(2)
    bench.line.roll_back()
    bench.run(2)
    assert bench.state == ("current", A)


def test_a_model_that_fails_in_service_is_never_tried_again(bench):
    bench.run(100)
    bench.tag.leads_to = B
    bench.run(400)
    bench.line.fail()
    bench.run(1000)
    bench.restart()
    bench.run(1000)
    assert bench.state == ("refused", A) and bench.line.model_path == bench.folder / A[7:]
    assert bench.line.tried == [A, B]


def test_a_model_that_takes_the_daemon_with_it_is_given_up(bench):
    """When it is loaded, or soon after: whoever starts the daemon again must not do that for ever."""
    bench.run(100 + PROBATION_S)
    bench.tag.leads_to, bench.line.dies = B, True
    for restarts in (True, False, True):  # or its thread alone has ended
        with pytest.raises(MemoryError):
            bench.run(400)
        if restarts:
            bench.restart()
    bench.run(1000)
    assert bench.state == ("refused", A) and bench.line.tried == [A, *[B] * MAX_STARTS]
    assert "it was started 3 times and did not last for 60 s" in bench.follower.status.reason


def test_a_model_that_judges_only_for_some_seconds_is_given_up(bench):
    bench.run(100 + PROBATION_S)
    bench.tag.leads_to = B
    while bench.state != ("current", B):
        bench.run(1)
    for _ in range(MAX_STARTS - 1):
        bench.restart()
        assert bench.line.model_path == bench.folder / B[7:]
        bench.run(PROBATION_S / 2)
    bench.restart()
    assert bench.line.model_path == bench.folder / A[7:] and bench.state == ("refused", A)


def test_a_record_or_a_model_that_is_damaged_begins_again(bench):
    bench.run(100)
    (bench.folder / RECORD).write_text("{")
    bench.restart()
    assert bench.line.model_path == bench.line.own
    bench.run(400)
    assert bench.state == ("current", A) and bench.tag.pulled == [A]
    shutil.rmtree(bench.folder / A[7:])
    bench.restart()
    bench.run(400)
    assert bench.state == ("current", A) and bench.tag.pulled == [A, A]


def test_a_model_that_is_damaged_on_this_disk_is_fetched_again(bench):
    bench.run(100)
    (bench.folder / A[7:] / "model.onnx").write_bytes(b"bad sector")
    bench.restart()
    bench.line.failed_model, bench.line.model_path = bench.line.model_path, bench.line.own  # as a pipeline that starts
    bench.run(400)
    assert bench.state == ("current", A) and bench.tag.pulled == [A, A]


def test_a_disk_that_is_full_ends_nothing(bench, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgead.line.daemon.fleet.follower.write_record", full)
    bench.run(1000)
    assert bench.state == ("current", A) and bench.line.tried == [A]


def test_another_tag_is_looked_at_and_keeps_what_is_in_service(bench, monkeypatch):
    bench.run(100)
    monkeypatch.setitem(SECTION, "from", "oci://registry.test/line/caps:canary")
    bench.restart()
    assert bench.state == ("waiting", A) and bench.line.model_path == bench.folder / A[7:]


def test_a_transfer_keeps_to_its_rate_and_ends_when_nobody_waits():
    waited: list[float] = []
    stop = threading.Event()
    stop.wait = lambda seconds: waited.append(seconds) or False
    pace = TransferRate(1000.0, stop, lambda: sum(waited))
    for _ in range(10):
        pace(500)
    assert sum(waited) == pytest.approx(5.0)
    stop.set()
    with pytest.raises(RegistryError, match="was stopped"):
        TransferRate(None, stop)(1)


@pytest.mark.parametrize("source", ["oci://registry.test/line/caps", "http://registry.test/caps:stable", "caps"])
def test_a_section_names_a_tag(source):
    with pytest.raises((SettingsError, ValueError), match="oci://registry.example.com/line/caps:stable"):
        FollowSection.model_validate({"from": source})


@pytest.fixture
def signer(bench, tmp_path):
    """Signs the models of the registry with the one key that the line demands."""
    pytest.importorskip("cryptography", reason="REPLAY NOT TESTED: pip install 'edgead[signatures]'")
    bench.line.keys = [make_key(tmp_path / "site.key")]
    private = read_private_key(tmp_path / "site.key")
    return lambda digest, **said: sign(bench.tag.models[digest], private, by="Anna", **said)


def test_an_older_signed_model_is_not_brought_back_by_whoever_moves_the_tag(bench, signer):
    signer(A, counter=7)
    signer(B, counter=6)
    bench.run(100)
    assert bench.state == ("current", A)
    bench.tag.leads_to = B
    bench.run(400)
    bench.restart()
    bench.run(400)
    assert bench.state == ("refused", A) and bench.line.tried == [A]
    assert "older than one that has judged here (its counter is 6, that one's 7)" in bench.follower.status.reason
    bench.follower.follow_again()  # no person at the page makes it newer
    bench.run(10)
    assert bench.state == ("refused", A)
    bench.tag.leads_to = C  # signed again, it has another digest
    bench.tag.models[C] = bench.tag.models[B]
    signer(C)
    bench.run(400)
    assert bench.state == ("current", C)


def test_a_signed_model_of_another_product_is_not_taken(bench, signer):
    signer(A, product="caps")
    signer(B, product="lids")
    bench.run(100)
    bench.tag.leads_to = B
    bench.run(400)
    assert bench.state == ("refused", A) and bench.line.tried == [A]
    assert "it is signed for 'lids', and this pipeline's models are of 'caps'" in bench.follower.status.reason
    signer(B)  # for nothing in particular
    bench.tag.leads_to, bench.tag.models[C] = C, bench.tag.models[B]
    bench.run(400)
    assert bench.state == ("refused", A) and "it is signed for no product" in bench.follower.status.reason
    signer(B, product="caps")
    bench.tag.leads_to = f"sha256:{'d' * 64}"
    bench.tag.models[bench.tag.leads_to] = bench.tag.models[B]
    bench.run(400)
    assert bench.state == ("current", bench.tag.leads_to)


def test_signatures_from_before_there_were_counters_are_taken_until_one_has_a_counter(bench, signer):
    signer(A, counter=0)
    bench.run(100)
    assert bench.state == ("current", A)
    signer(B, product="caps", counter=1)
    bench.tag.leads_to = B
    bench.run(400)
    assert bench.state == ("current", B)


def test_another_source_in_the_site_file_begins_with_what_it_has(bench, signer):
    signer(A, counter=7)
    bench.run(100)
    record = read_record(bench.folder / RECORD, SECTION["from"])
    assert record.signed == SignatureRecord(product="", counter=7)
    assert read_record(bench.folder / RECORD, "oci://registry.test/line/lids:stable").signed is None
