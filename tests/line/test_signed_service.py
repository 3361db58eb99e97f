"""A site that demands signatures: whatever opens a model refuses one without, and the one in service goes on."""

from __future__ import annotations

import shutil
import signal

import pytest
from fakes import edit_manifest
from patience import wait_for

pytest.importorskip("edgead.line.daemon.active_model")
pytest.importorskip("cryptography", reason="SIGNATURES NOT TESTED: pip install 'edgead[signatures]'")
from daemons import check_records, make_site, started, write_site

from edgead.adapt.recalibrate import thresholds_by_hand, write_thresholds
from edgead.artifact.folder import Artifact
from edgead.artifact.signatures.file import SIGNATURES
from edgead.artifact.signatures.keys import make_key, read_private_key
from edgead.artifact.signatures.signature import sign
from edgead.artifact.signatures.trust import ModelTrust, UntrustedModelError
from edgead.errors import SettingsError
from edgead.line.daemon.active_model import ActiveModel, Recipes
from edgead.line.daemon.thresholds import KeptThresholds
from edgead.line.site.check import find_missing
from edgead.line.site.load import read_site
from edgead.line.site.schema import PipelineSection


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("site", "other"):
        make_key(folder / f"{name}.key")
    return folder


@pytest.fixture
def signed(trained_model, tmp_path, keys):
    """Two models that the site's key has signed, of one network and two manifests."""
    for name in ("first", "second"):
        model = shutil.copytree(trained_model, tmp_path / name)
        edit_manifest(model, lambda content, name=name: content["training"].update(note=name))
        sign(model, read_private_key(keys / "site.key"), by="Anna")
    return tmp_path


class Slot:
    """The model of one pipeline, and the keys that are trusted at a time."""

    def __init__(self, folder, keys):
        self.keys = keys
        self.trust("site")
        section = PipelineSection(camera="top", model=folder / "first")
        kept = KeptThresholds(folder / "thresholds.json")
        self.active = ActiveModel("line", section, kept, threads=1, accept=lambda artifact: self._trust.check(artifact))

    def trust(self, *names):
        self._trust = ModelTrust(required=True, keys=[self.keys / f"{name}.pub" for name in names])


@pytest.fixture
def slot(signed, keys):
    slot = Slot(signed, keys)
    yield slot
    slot.active.close()


def test_what_is_not_signed_never_comes_into_service(slot, signed):
    file = signed / "first" / SIGNATURES
    text = file.read_bytes()
    file.unlink()
    with pytest.raises(UntrustedModelError, match="first is not signed"):
        slot.active.load()
    assert slot.active.model == ""
    file.write_bytes(text)
    slot.active.load()
    assert slot.active.model == Artifact.load(signed / "first").manifest.manifest_sha256


def test_a_model_that_is_refused_leaves_the_one_in_service(slot, signed, keys):
    slot.active.load()
    before = slot.active.model
    second = signed / "second"
    shutil.copy(signed / "first" / SIGNATURES, second / SIGNATURES)
    with pytest.raises(UntrustedModelError, match="or that is the signature of another model"):
        slot.active.swap(second)
    sign(second, read_private_key(keys / "other.key"), by="Mallory")
    with pytest.raises(UntrustedModelError, match="is signed by Mallory .* none of the keys that are trusted"):
        slot.active.swap(second)
    assert (slot.active.model, slot.active.earlier) == (before, ("", "", None))
    sign(second, read_private_key(keys / "site.key"), by="Anna")
    slot.active.swap(second)
    assert slot.active.model != before


def test_a_roll_back_asks_whether_the_earlier_model_is_let_in_still(slot, signed, keys):
    slot.active.load()
    first = slot.active.model
    slot.active.swap(signed / "second")
    second = slot.active.model
    sign(signed / "second", read_private_key(keys / "other.key"), by="Ben")
    slot.trust("other")  # as a reload does it
    with pytest.raises(UntrustedModelError):
        slot.active.check_accepted()
    slot.active.check_accepted(Artifact.load(signed / "second"))
    with pytest.raises(UntrustedModelError, match="is signed by Anna"):
        slot.active.roll_back()
    assert slot.active.model == second
    slot.trust("other", "site")
    shutil.rmtree(signed / "first")  # what is in memory was verified, whatever lies on the disk
    slot.active.roll_back()
    assert slot.active.model == first
    slot.trust("other")
    slot.active.roll_back()
    assert slot.active.model == second


def test_a_recipe_without_a_signature_is_named(signed, keys, trained_model, tmp_path):
    unsigned = shutil.copytree(trained_model, tmp_path / "unsigned")
    content = {"camera": "top", "model": signed / "first", "recipes": {"lid": {"model": unsigned}}}
    trust = ModelTrust(required=True, keys=[keys / "site.pub"])
    section, kept = PipelineSection.model_validate(content), KeptThresholds(tmp_path / "thresholds.json")
    own = ActiveModel("line", section, kept, threads=1, accept=trust.check)
    recipes = Recipes(own)
    with pytest.raises(SettingsError, match="recipe lid: .*unsigned is not signed"):
        recipes.load()
    recipes.close()


def test_who_changes_a_signed_model_is_warned_and_a_restart_refuses_it(slot, signed, caplog):
    slot.active.load()
    artifact = Artifact.load(signed / "first")
    write_thresholds(artifact, *thresholds_by_hand(artifact, None, reject=9.0), reason="as asked")
    assert "the model was signed before this change: sign it again with `edgead sign`" in caplog.text
    with pytest.raises(UntrustedModelError, match="was changed since it was signed by Anna"):
        slot.active.load()


def test_the_site_file_names_keys_beside_it_and_its_check_reports_what_is_refused(signed, keys, trained_model):
    models = {"require_signed": True, "keys": ["keys/site.pub"]}
    path = write_site(signed, make_site(signed / "first", models=models))
    site, file = read_site(path)
    assert site.models.keys == (keys / "site.pub",)
    assert [*find_missing(site, file)] == []
    (signed / "first" / SIGNATURES).unlink()
    (report,) = find_missing(site, file)
    assert "pipelines.a.model: " in report and "first is not signed: sign it with `edgead sign" in report
    with pytest.raises(SettingsError, match="models: require_signed needs keys"):
        read_site(write_site(signed, make_site(trained_model, models={"require_signed": True})))
    site, file = read_site(write_site(signed, make_site(trained_model, models=models | {"keys": ["no.pub"]})))
    (report,) = find_missing(site, file)
    assert "models: the key " in report and "no.pub is missing" in report


@pytest.mark.slow
def test_a_daemon_refuses_at_start_reload_and_swap_and_goes_on(signed, keys, trained_model):
    shutil.copytree(trained_model, signed / "unsigned")
    site = make_site(signed / "first", models={"require_signed": True, "keys": ["keys/site.pub"]})
    with started(signed, site) as daemon:
        first = daemon.wait_state("running")
        refused = daemon.api.post("/api/pipelines/a/model", json={"model": "unsigned", "by": "kim"})
        assert refused.status_code == 409 and "unsigned is not signed" in refused.text
        # A reload: another model, which is not signed.
        site["pipelines"]["a"]["model"] = str(signed / "unsigned")
        write_site(signed, site)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said("a: keeps its model"), "the refusal")
        assert "unsigned is not signed" in daemon.said("a: keeps its model")[-1]["message"]
        # A reload with keys that the model in service is not signed by, and one whose key is not there.
        site["pipelines"]["a"]["model"] = str(signed / "first")
        for key, said, count in (("other", "none of the keys that are trusted", 2), ("gone", "is missing", 0)):
            site["models"]["keys"] = [f"keys/{key}.pub"]
            write_site(signed, site)
            daemon.process.send_signal(signal.SIGHUP)
            wait_for(lambda said=said: daemon.said(said), said)
            if count:
                assert len(daemon.said("a: keeps its model")) == count
        reported = daemon.wait_judged(3)
        assert reported["model_sha256"] == first["model_sha256"] and reported["state"] == "running"
        assert daemon.api.get("/api/audit").json() == []
        # The keys of the last reload that could be read are in force.
        assert daemon.api.post("/api/pipelines/a/model", json={"model": "second", "by": "kim"}).status_code == 409
        daemon.stop()
    check_records(daemon)
    site["models"]["keys"] = ["keys/other.pub"]
    with started(signed, site) as daemon:
        daemon.wait_state("fault", reason="none of the keys that are trusted")
        assert daemon.pipeline()["judged"] == 0
        sign(signed / "first", read_private_key(keys / "other.key"), by="Ben")
        assert daemon.api.post("/api/pipelines/a/self-test").json()["result"]["passed"] is True
        daemon.wait_judged(3)
        daemon.stop()
