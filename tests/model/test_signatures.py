"""Signed models: what holds, what does not whatever was changed, and in which words it is refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
from datetime import datetime, timezone

import numpy as np
import pytest
from command_line import run_here
from fakes import edit_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="SIGNATURES NOT TESTED: pip install 'edgead[signatures]'")
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgead.adapt.teach.run import new_version, undo
from edgead.artifact.files import file_sha256
from edgead.artifact.folder import Artifact, ArtifactError, new_artifact, write_manifest
from edgead.artifact.manifest import Golden, GraphRecord, Manifest, Preprocessing
from edgead.artifact.signatures.file import SIGNATURES
from edgead.artifact.signatures.keys import (
    _SMALL_ORDER,
    PrivateKey,
    key_id,
    make_key,
    read_private_key,
    read_public_key,
)
from edgead.artifact.signatures.signature import message, read_signatures, sign
from edgead.artifact.signatures.trust import ModelTrust, UntrustedModelError, check_signed
from edgead.errors import EdgeadError, SettingsError
from edgead.heads.nearest import NearestHead

# RFC 8032, section 7.1, tests 1 and 2: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
# Of the message in the test below, by OpenSSL's `pkeyutl -sign -rawin` with the first of those keys.
KNOWN = (
    "1b986389e5a91bf94828c56bec1c3340072ffcf24806a54485b92532ff5d58be"
    "f3c47619393ac4d28b81d3c97920e34bcbeb372c0b14f9a9c046f6ef193a1a03"
)


def make_model(path, rows=4):
    """A small model with a file of every sort that is read, none of which runs."""
    golden = [Golden(image="golden/0.png", anomaly_map="golden/0.npy", image_score=1.0)]
    graphs = {"fp32": GraphRecord(golden=golden)}
    manifest = Manifest.draft("patchcore", Preprocessing(image_size=(32, 32)), NearestHead(), graphs=graphs)
    with new_artifact(path) as draft:
        (draft / "golden").mkdir()
        (draft / "model.onnx").write_bytes(b"no network")
        (draft / "golden" / "0.png").write_bytes(b"no image")
        (draft / "learnt_images.txt").write_text("0" * 64 + "\n")
        np.save(draft / "golden" / "0.npy", np.ones(2, np.float32))
        np.save(draft / "memory_bank.npy", np.ones((rows, 3), np.float32))
        write_manifest(draft, manifest)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """The folder of three keys: of the site, of a device, and of a stranger."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("site", "device", "stranger"):
        make_key(folder / f"{name}.key")
    return folder


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory, keys):
    model = make_model(tmp_path_factory.mktemp("signed") / "model")
    sign(model, read_private_key(keys / "site.key"), by="Anna")
    return model


@pytest.fixture
def model(signed_once, tmp_path):
    """A copy of a signed model."""
    return shutil.copytree(signed_once, tmp_path / "model")


@pytest.fixture(scope="module")
def site(keys):
    return [read_public_key(keys / "site.pub")]


def refused(model, keys):
    with pytest.raises(UntrustedModelError) as error:
        check_signed(Artifact.load(model), keys)
    return str(error.value)


# Keys


def test_the_library_signs_as_rfc_8032_says():
    for secret, public, text, signature in RFC_8032:
        key = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)), None)
        assert key.public.raw.hex() == public
        assert key.sign(bytes.fromhex(text)).hex() == signature
        assert key.public.verifies(bytes.fromhex(signature), bytes.fromhex(text))
        assert not key.public.verifies(bytes.fromhex(signature), bytes.fromhex(text) + b"x")


def test_what_is_signed_is_laid_out_as_the_documentation_says():
    secret, public, *_ = RFC_8032[0]
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)), None)
    assert key.public.id == key_id(bytes.fromhex(public)) == "21fe31dfa154a261626bf854046fd227"
    content = message("ab" * 32, key=key.public.id, by="Jörg", at="2026-11-28T06:00:00+00:00")
    assert content == (
        b'edgead model signature 2\n{"algorithm":"ed25519","at":"2026-11-28T06:00:00+00:00","by":"J\\u00f6rg",'
        b'"counter":0,"key":"21fe31dfa154a261626bf854046fd227","manifest_sha256":"' + b"ab" * 32 + b'","product":""}'
    )
    assert key.sign(content).hex() == KNOWN


def test_a_product_and_a_counter_are_signed_too(keys, tmp_path):
    model = make_model(tmp_path / "model")
    key = read_private_key(keys / "site.key")
    signature = sign(model, key, by="Anna", product="caps", counter=7)
    assert signature.message.startswith(b"edgead model signature 2\n")
    assert signature.message.endswith(b'"product":"caps"}') and b'"counter":7,' in signature.message
    (held,) = check_signed(Artifact.load(model), [key.public])
    assert (held.product, held.counter) == ("caps", 7)
    written = (model / SIGNATURES).read_text()
    for edited in (("caps", "lids"), ('"counter": 7', '"counter": 8')):
        (model / SIGNATURES).write_text(written.replace(*edited))
        with pytest.raises(UntrustedModelError, match="its key has not made"):
            check_signed(Artifact.load(model), [key.public])
    assert sign(model, key, by="Anna").counter > 1_700_000_000
    for wrong in ({"product": "a\nb"}, {"counter": -1}, {"counter": 2**53}):
        with pytest.raises(SettingsError, match=f"--{next(iter(wrong))}: "):
            sign(model, key, by="Anna", **wrong)


def test_a_private_key_is_for_its_owner_alone(keys, tmp_path):
    file = keys / "site.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((keys / "site.pub").stat().st_mode) == 0o644
    loose = shutil.copy(file, tmp_path / "loose.key")
    loose.chmod(0o644)
    with pytest.raises(SettingsError, match=r"may be read or written by others \(mode 644\): whoever has it signs in"):
        read_private_key(loose)
    with pytest.raises(SettingsError, match="site.key is there already"):
        make_key(file)
    (tmp_path / "other.pub").touch()
    with pytest.raises(SettingsError, match="other.pub is there already"):
        make_key(tmp_path / "other.key")
    assert not (tmp_path / "other.key").exists()


def test_a_key_with_a_passphrase_opens_with_that_alone(tmp_path):
    made = make_key(tmp_path / "line", "horse")
    assert made.file.name == "line.pub"
    assert read_private_key(tmp_path / "line", lambda: "horse").public.raw == made.raw
    with pytest.raises(SettingsError, match="the passphrase is wrong"):
        read_private_key(tmp_path / "line", lambda: "donkey")
    with pytest.raises(SettingsError, match="has a passphrase: give it"):
        read_private_key(tmp_path / "line")
    make_key(tmp_path / "open")
    read_private_key(tmp_path / "open", lambda: pytest.fail("asked for a passphrase that it has not"))


def test_what_is_no_key_is_refused_in_words(keys, tmp_path):
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pub").write_bytes(
        curve.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "huge.pub").write_bytes(b"-" * 20_000)
    (tmp_path / "cut.pub").write_bytes((keys / "site.pub").read_bytes()[:60])
    for name, what in (
        ("ec.pub", "is no public Ed25519 key"),
        ("huge.pub", "has 20000 bytes, at most 16384"),
        ("cut.pub", "is no public Ed25519 key"),
        ("no.pub", "is missing"),
    ):
        with pytest.raises(SettingsError, match=what):
            read_public_key(tmp_path / name)
    with pytest.raises(SettingsError, match="is a private key: name the public one"):
        read_public_key(keys / "site.key")
    for raw in _SMALL_ORDER:
        of_nobody = Ed25519PublicKey.from_public_bytes(raw)
        written = of_nobody.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / "small.pub").write_bytes(written)
        with pytest.raises(SettingsError, match="anybody can sign for it"):
            read_public_key(tmp_path / "small.pub")
    public = shutil.copyfile(keys / "site.pub", tmp_path / "site.pub")
    public.chmod(0o600)
    with pytest.raises(SettingsError, match="is no private Ed25519 key"):
        read_private_key(public)


# What holds


def test_a_signed_model_is_let_in_and_says_by_whom(model, site, keys):
    before = datetime.now(timezone.utc)
    (held,) = check_signed(Artifact.load(model), site)
    assert held.by == "Anna" and held.key == site[0].id
    assert abs((datetime.fromisoformat(held.at) - before).total_seconds()) < 600
    ModelTrust(required=True, keys=[keys / "site.pub"]).check(Artifact.load(model))


def test_several_may_sign_and_each_signs_once(model, site, keys):
    sign(model, read_private_key(keys / "device.key"), by="line 3")
    sign(model, read_private_key(keys / "site.key"), by="Ben")
    names = [each.by for each in read_signatures(Artifact.load(model).signatures)]
    assert names == ["line 3", "Ben"]
    both = [*site, read_public_key(keys / "device.pub")]
    assert [each.by for each in check_signed(Artifact.load(model), both)] == names
    assert [each.by for each in check_signed(Artifact.load(model), site)] == ["Ben"]


def test_sixteen_may_sign_and_whoever_has_may_again(model, tmp_path):
    signers = []
    for number in range(17):
        make_key(tmp_path / f"{number}.key")
        signers.append(read_private_key(tmp_path / f"{number}.key"))
    (model / SIGNATURES).unlink()
    for number, key in enumerate(signers[:16]):
        sign(model, key, by=str(number))
    with pytest.raises(SettingsError, match="has 16 signatures, more are not kept"):
        sign(model, signers[16], by="16")
    sign(model, signers[3], by="again")
    names = [each.by for each in read_signatures(Artifact.load(model).signatures)]
    assert names == [str(number) for number in range(16) if number != 3] + ["again"]
    content = json.loads((model / SIGNATURES).read_text())
    content["signatures"].append(content["signatures"][0])
    (model / SIGNATURES).write_text(json.dumps(content))
    assert "is damaged or was edited" in refused(model, [signers[0].public])


def test_a_signature_covers_every_file_but_engines(model):
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert files - {"manifest.json", SIGNATURES} == set(Artifact.load(model).manifest.files)
    (model / "engines").mkdir()
    (model / "engines" / "fp32.trt.sm86.engine").write_bytes(b"built here")
    with new_version(model) as draft:
        assert not any("engines" in name for name in write_manifest(draft, Artifact.load(model).manifest).files)


# What does not


def test_an_unsigned_model_a_strange_key_and_no_key_are_refused(model, site, keys, tmp_path):
    assert "is not signed: sign it with `edgead sign" in refused(make_model(tmp_path / "unsigned"), site)
    stranger = [read_public_key(keys / "stranger.pub")]
    found = refused(model, stranger)
    assert f"is signed by Anna with the key {site[0].id}" in found
    assert f"none of the keys that are trusted ({stranger[0].id})" in found
    assert "trusted (none)" in refused(model, [])


def test_a_model_that_was_changed_since_is_refused_as_that(model, site):
    artifact = Artifact.load(model)
    write_manifest(model, artifact.manifest.model_copy(update={"versions": {"edgead": "2"}}))
    assert "was changed since it was signed by Anna" in refused(model, site)


def test_the_signature_of_another_model_is_refused(model, site, tmp_path):
    other = make_model(tmp_path / "other", rows=5)
    shutil.copy(model / SIGNATURES, other / SIGNATURES)
    assert "or that is the signature of another model" in refused(other, site)
    edit = json.loads((other / SIGNATURES).read_text())
    edit["signatures"][0]["manifest_sha256"] = Artifact.load(other).manifest.manifest_sha256
    (other / SIGNATURES).write_text(json.dumps(edit))
    assert "a signature that its key has not made: it was forged or damaged" in refused(other, site)


def test_a_signature_file_that_is_cut_huge_or_none_is_refused_and_no_matter_where_none_is_demanded(model, site):
    whole = (model / SIGNATURES).read_bytes()
    trust = ModelTrust(required=False)
    for content, what in (
        (whole[:-20], "is damaged or was edited"),
        (b"", "is damaged or was edited"),
        (b"[" * 60_000, "is damaged or was edited"),
        (whole + b" " * 70_000, "manifest.sig has .* bytes, at most 65536 are read"),
        (b'{"schema_version": 2, "signatures": []}', "schema_version: must be 1"),
        (b'{"schema_version": 1, "signatures": []}', "is not signed"),
    ):
        (model / SIGNATURES).write_bytes(content)
        with pytest.raises(UntrustedModelError, match=what):
            check_signed(Artifact.load(model), site)
        trust.check(Artifact.load(model))
    (model / SIGNATURES).unlink()
    os.mkfifo(model / SIGNATURES)
    assert "is no regular file" in refused(model, site)


def test_every_bit_of_the_signature_file_counts(model, site):
    """Whatever is flipped, it is refused: nothing in the file is without meaning."""
    whole, artifact = (model / SIGNATURES).read_bytes(), Artifact.load(model)
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytes([whole[place] ^ 1 << bit])
            artifact.signatures = artifact.signatures._replace(content=whole[:place] + flipped + whole[place + 1 :])
            with pytest.raises(UntrustedModelError):
                check_signed(artifact, site)


def test_every_bit_of_every_file_counts(model, site):
    """Also where whoever flips it makes the manifest fit again."""
    manifest = Artifact.load(model).manifest
    for name in [*manifest.files, "manifest.json"]:
        file = model / name
        whole = file.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 9)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            with pytest.raises(ArtifactError):
                Artifact.load(model)
            if name != "manifest.json" and place % 2 == 0:
                write_manifest(model, manifest)
                assert "was changed since" in refused(model, site)
                write_manifest(model, manifest.model_copy(update={"files": {}}))
            file.write_bytes(whole)
            write_manifest(model, manifest)
    assert check_signed(Artifact.load(model), site)


def leaves(content, place=()):
    """Places of all values of a JSON document that hold no others."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = [leaf for name, value in inner for leaf in leaves(value, (*place, name))]
    return found or [place]


def test_every_value_of_the_manifest_counts_also_with_its_hash_made_again(model, site):
    text = (model / "manifest.json").read_text()
    for place in leaves(json.loads(text)):
        if place == ("manifest_sha256",):
            continue

        def change(content, place=place):
            *way, last = place
            for name in way:
                content = content[name]
            value = content[last]
            content[last] = value + 1 if isinstance(value, (int, float)) and not isinstance(value, bool) else "other"

        edit_manifest(model, change)
        with pytest.raises(EdgeadError):
            check_signed(Artifact.load(model), site)
        (model / "manifest.json").write_text(text)
    assert check_signed(Artifact.load(model), site)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_content_of_the_file_is_a_fault_of_ours(model, site, content):
    artifact = Artifact.load(model)
    artifact.signatures = artifact.signatures._replace(content=content)
    with pytest.raises(UntrustedModelError):
        check_signed(artifact, site)


def test_an_added_file_is_not_read_and_a_link_to_elsewhere_is_refused(model, site, tmp_path):
    (model / "usual_scores.npy").write_bytes(b"added")
    (model / "weights.safetensors").symlink_to("/etc/hostname")
    artifact = Artifact.load(model)
    assert check_signed(artifact, site) and "usual_scores.npy" not in artifact.manifest.files
    with pytest.raises(ArtifactError, match="has no array 'usual_scores'"):
        artifact.array("usual_scores")
    outside = shutil.move(model / "memory_bank.npy", tmp_path / "bank.npy")
    (model / "memory_bank.npy").symlink_to(outside)
    with pytest.raises(ArtifactError, match="is a link to what is outside the model"):
        Artifact.load(model)


def test_what_was_checked_is_what_is_read_whatever_lies_there_by_then(model, site, tmp_path):
    artifact = Artifact.load(model)
    check_signed(artifact, site)
    shutil.rmtree(model)
    make_model(model, rows=9)
    with pytest.raises(ArtifactError, match="sha256 differs"):
        artifact.array("memory_bank")
    assert check_signed(artifact, site)  # of what it was opened as, and of nothing that lies there now
    assert "is not signed" in refused(model, site)


# What changes a model


def test_an_earlier_version_comes_back_with_its_signature(model, site):
    with new_version(model) as draft:
        write_manifest(draft, Artifact.load(draft).manifest.model_copy(update={"versions": {"edgead": "2"}}))
    assert "was changed since it was signed by Anna" in refused(model, site)
    undo(model)
    assert check_signed(Artifact.load(model), site)


def test_what_a_device_learns_is_signed_by_its_own_key(keys, tmp_path):
    site_alone = ModelTrust(required=True, keys=[keys / "site.pub"])
    trust = ModelTrust(required=True, keys=[keys / "site.pub"], device_key=keys / "device.key")
    made = make_model(tmp_path / "made")
    site_alone.sign_own(made, by="Anna")  # has no key to do it with
    with pytest.raises(UntrustedModelError, match="is not signed"):
        trust.check(Artifact.load(made))
    trust.sign_own(made, by="Anna")
    trust.check(Artifact.load(made))
    with pytest.raises(UntrustedModelError, match="none of the keys that are trusted"):
        site_alone.check(Artifact.load(made))


def test_nobody_signs_what_is_damaged_or_what_an_earlier_edgead_mixed_up(model, keys):
    key = read_private_key(keys / "site.key")
    with pytest.raises(SettingsError, match="--by: holds a control character"):
        sign(model, key, by="a\nb")
    manifest = Artifact.load(model).manifest
    edit_manifest(model, lambda content: content["files"].update({SIGNATURES: file_sha256(model / SIGNATURES)}))
    with pytest.raises(ArtifactError, match="has taken manifest.sig for a file of the model: calibrate it again"):
        sign(model, key)
    write_manifest(model, manifest)  # as a calibration does
    assert sign(model, key, by="Anna")
    (model / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="sha256 differs"):
        sign(model, key)


# The command


def edgead(*arguments, expect=0):
    ended = run_here(*arguments)
    assert ended.returncode == expect, ended
    return ended


def test_the_command_makes_keys_signs_and_verifies(tmp_path, monkeypatch):
    model, key, public = make_model(tmp_path / "model"), tmp_path / "site.key", tmp_path / "site.pub"
    monkeypatch.setenv("EDGEAD_KEY_PASSPHRASE", "horse")
    made = json.loads(edgead("key", "new", "-o", key, "--passphrase", "--json").stdout)
    assert made["public"] == str(public) and b"ENCRYPTED" in key.read_bytes()
    assert made["key"] in edgead("key", "show", public).stdout
    assert "is not signed" in edgead("verify-signature", model, "--key", public, expect=1).stderr
    signed = json.loads(edgead("sign", model, "--key", key, "--by", "Anna", "--product", "caps", "--json").stdout)
    assert (signed["by"], signed["key"], signed["product"]) == ("Anna", made["key"], "caps")
    report = json.loads(edgead("verify-signature", model, "--key", public, "--json").stdout)
    assert report["signatures"] == [{name: signed[name] for name in ("key", "by", "at", "product", "counter")}]
    assert "signed by Anna" in edgead("verify-signature", model, "--key", public).stdout
    monkeypatch.setenv("EDGEAD_KEY_PASSPHRASE", "donkey")
    assert "the passphrase is wrong" in edgead("sign", model, "--key", key, expect=2).stderr
    assert "--output is missing" in edgead("key", "new", expect=2).stderr
    assert "name the public key alone" in edgead("key", "show", expect=2).stderr
