"""Models through a registry: a real one, and made ones that lie."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import shutil
from pathlib import Path

import pytest

pytest.importorskip("httpx")
import httpx
from command_line import run_here
from registry import PASSWORD, USER, RealRegistry, small_model

from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.folder import ENGINES, Artifact, ArtifactError
from edgead.artifact.oci.client import RegistryError
from edgead.artifact.oci.package import Package, PackageError, digest_of
from edgead.artifact.oci.pull import pull
from edgead.artifact.oci.push import packed, push
from edgead.artifact.oci.reference import Reference
from edgead.artifact.oci.registry import Repository
from edgead.errors import EdgeadError, SettingsError

AT_HOME = Reference.read("oci://registry.test/line/caps:stable")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    registry = RealRegistry(tmp_path_factory.mktemp("registry") / "of")
    registry.start()
    yield registry
    registry.stop()


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No credentials of whoever runs the tests."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("USER", "PASSWORD", "HOST", "TOKEN_HOSTS"):
        monkeypatch.delenv(f"EDGEAD_REGISTRY_{name}", raising=False)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# A real registry


def test_a_model_goes_there_and_comes_back_as_it_was(real, tmp_path):
    model = small_model(tmp_path / "m")
    (model / "manifest.sig").write_bytes(b"whatever lies in the folder")
    (model / ENGINES).mkdir()
    (model / ENGINES / "of_this_device").write_bytes(b"engine")
    pushed = push(model, real.reference())
    again = push(model, real.reference("also"))
    assert again.digest == pushed.digest and again.sent_bytes == 0 and pushed.sent_bytes == pushed.bytes
    pulled = pull(real.reference(), tmp_path / "line" / "model")
    assert pulled.digest == pushed.digest and pulled.fetched_bytes == pushed.bytes
    expected = {name: content for name, content in files_of(model).items() if not name.startswith(ENGINES)}
    assert files_of(tmp_path / "line" / "model") == expected
    assert [entry.name for entry in (tmp_path / "line").iterdir()] == ["model"]
    assert pulled.annotations["org.edgead.manifest-sha256"] == Artifact.load(model).manifest.manifest_sha256


def test_only_what_has_changed_is_sent_and_fetched(real, tmp_path):
    push(small_model(tmp_path / "m"), real.reference("moving"))
    pull(real.reference("moving"), tmp_path / "here")
    before = Artifact.load(tmp_path / "here").manifest.manifest_sha256
    pushed = push(small_model(tmp_path / "m", rows=7), real.reference("moving"))
    pulled = pull(real.reference("moving"), tmp_path / "here")
    network = (tmp_path / "m" / "model.onnx").stat().st_size
    assert pushed.sent_bytes == pulled.fetched_bytes == pushed.bytes - network
    assert [Artifact.load(old).manifest.manifest_sha256 for old in earlier_versions(tmp_path / "here")] == [before]


def test_one_that_is_damaged_here_is_fetched_again(real, tmp_path):
    pushed = push(small_model(tmp_path / "m"), real.reference("whole"))
    pull(real.reference("whole"), tmp_path / "here")
    (tmp_path / "here" / "model.onnx").write_bytes(b"damaged")
    assert pull(real.reference("whole"), tmp_path / "here").fetched_bytes > 20_000
    Artifact.load(tmp_path / "here")
    assert pull(real.reference("whole").at(pushed.digest), tmp_path / "other").digest == pushed.digest


def test_a_tag_that_there_is_not(real, tmp_path):
    with pytest.raises(RegistryError, match=r"line/caps:nowhere: the registry has none"):
        pull(real.reference("nowhere"), tmp_path / "here")
    with Repository(real.reference("nowhere")) as registry, pytest.raises(RegistryError, match="has none"):
        registry.digest()
    assert not (tmp_path / "here").exists()


def test_a_registry_with_a_password(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    registry = RealRegistry(tmp_path / "guarded", guarded=True)
    registry.start()
    try:
        model = small_model(tmp_path / "m")
        with pytest.raises(RegistryError, match="wants a user and a password: `docker login`, or EDGEAD_REGISTRY_USER"):
            push(model, registry.reference())
        (tmp_path / "docker").mkdir()
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = {"auths": {f"127.0.0.1:{registry.port}": {"auth": auth}}}
        (tmp_path / "docker" / "config.json").write_text(json.dumps(known))
        pushed = push(model, registry.reference())
        monkeypatch.setenv("EDGEAD_REGISTRY_USER", USER)
        monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", PASSWORD)
        monkeypatch.setenv("EDGEAD_REGISTRY_HOST", f"127.0.0.1:{registry.port}")
        assert pull(registry.reference(), tmp_path / "here").digest == pushed.digest
        monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", "wrong")
        with pytest.raises(RegistryError, match="refuses user and password"):
            pull(registry.reference(), tmp_path / "here")
    finally:
        registry.stop()
    assert PASSWORD not in caplog.text and auth not in caplog.text


def test_a_registry_with_a_certificate_of_the_plant(tmp_path, monkeypatch):
    monkeypatch.setattr("edgead.artifact.oci.reference.is_loopback", lambda host: False)
    registry = RealRegistry(tmp_path / "encrypted", tls=True)
    registry.start()
    try:
        small_model(tmp_path / "m")
        with pytest.raises(RegistryError, match="https://127.0.0.1:.* cannot be reached .*CERTIFICATE_VERIFY_FAILED"):
            push(tmp_path / "m", registry.reference())
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "encrypted" / "ca.pem"))
        pushed = push(tmp_path / "m", registry.reference())
        assert pull(registry.reference(), tmp_path / "here").digest == pushed.digest
    finally:
        registry.stop()


# One that lies


class Liar:
    """Answers as a registry does that has one model, but for what a test has replaced."""

    def __init__(self, model: Path):
        package = packed(model)
        self.blobs = {blob.digest: (model / name).read_bytes() for name, blob in package.files.items()}
        self.manifest = package.dump()
        self.asked: list[httpx.Request] = []
        self.instead = lambda request: None

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        other = self.instead(request)
        if other is not None:
            return other
        name = request.url.path.rpartition("/")[2]
        if "/manifests/" in request.url.path:
            return sent(self.manifest)
        content = self.blobs[name]
        begin = int(request.headers.get("range", "bytes=0-").partition("=")[2].rstrip("-"))
        if begin:
            return sent(content[begin:], 206, **{"content-range": f"bytes {begin}-{len(content) - 1}/{len(content)}"})
        return sent(content)


@pytest.fixture
def liar(tmp_path):
    return Liar(small_model(tmp_path / "theirs"))


def sent(content, status: int = 200, **headers: str) -> httpx.Response:
    """An answer whose body comes bit by bit, as those of servers do."""
    return httpx.Response(status, headers=headers, content=iter([content]) if isinstance(content, bytes) else content)


def endless():
    while True:
        yield b"x" * 65536


def cut(content: bytes):
    yield content
    raise httpx.ReadError("gone")


def on_blobs(answer):
    return lambda request: answer(request) if "/blobs/" in request.url.path else None


LIES = {
    "another manifest": (lambda r: sent(b"{}"), "sends another manifest than was asked for"),
    "html": (lambda r: sent(b"<h1>sign in</h1>"), "something else than a manifest"),
    "endless manifest": (lambda r: sent(endless()), "more than 4194304 bytes"),
    "away": (lambda r: sent(b"", 503), "answers 503, expected was 200"),
    "redirect": (lambda r: sent(b"", 302, location="https://evil.test/"), "answers 302"),
    "wrong bytes": (on_blobs(lambda r: sent(b"x")), "ended before its end|other bytes come"),
    "endless blob": (on_blobs(lambda r: sent(endless())), "more than the .* bytes come"),
    "cut": (on_blobs(lambda r: sent(cut(b""))), "cannot be reached .ReadError."),
    "metadata service": (
        on_blobs(lambda r: httpx.Response(307, headers={"location": "http://169.254.169.254/latest"})),
        "leads to a place without HTTPS: it is not followed",
    ),
    "round and round": (
        on_blobs(lambda r: httpx.Response(307, headers={"location": "https://cdn.test/blobs/again"})), "leads on and on"
    ),
    "token without https": (
        lambda r: httpx.Response(401, headers={"www-authenticate": 'Bearer realm="http://evil.test/token"'}),
        "server of tokens without HTTPS",
    ),
    "strange challenge": (lambda r: httpx.Response(401, headers={"www-authenticate": "Negotiate"}), "does not know"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_what_a_lying_registry_sends_is_not_used(liar, tmp_path, lie):
    small_model(tmp_path / "place" / "here", rows=9, network=b"ours")
    before = files_of(tmp_path / "place")
    liar.instead, message = LIES[lie]
    by_digest = AT_HOME.at(digest_of(liar.manifest))
    with pytest.raises(RegistryError, match=message):
        pull(by_digest, tmp_path / "place" / "here", transport=liar.transport)
    left = files_of(tmp_path / "place")
    assert {name: content for name, content in left.items() if ".parts/" not in name} == before
    assert sum(len(content) for name, content in left.items() if ".parts/" in name) < 100_000


def test_the_page_of_a_sign_in_is_no_model_that_a_tag_leads_to(liar, tmp_path):
    liar.instead, message = LIES["html"]
    with pytest.raises(RegistryError, match=message):  # and not PackageError, after which it would not be asked again
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)


def test_a_transfer_that_was_cut_goes_on_where_it_ended(liar, tmp_path):
    network = next(content for content in liar.blobs.values() if len(content) > 10_000)
    cuts = iter([15_000])

    def once(request):
        at = next(cuts, None) if request.url.path.endswith(hashlib.sha256(network).hexdigest()) else None
        return sent(cut(network[:at])) if at else None

    liar.instead = once
    assert pull(AT_HOME, tmp_path / "here", transport=liar.transport).fetched_bytes == sum(
        map(len, liar.blobs.values())
    )
    assert [request.headers["range"] for request in liar.asked if "range" in request.headers] == ["bytes=15000-"]


def test_a_pull_that_was_killed_goes_on_with_the_next(liar, tmp_path):
    network = next(content for content in liar.blobs.values() if len(content) > 10_000)
    parts = tmp_path / ".here.parts"
    parts.mkdir()
    (parts / hashlib.sha256(network).hexdigest()).write_bytes(network[:19_000])
    (parts / ("0" * 64)).write_bytes(b"of another model")
    pulled = pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    assert pulled.fetched_bytes == pulled.bytes - 19_000
    assert not parts.exists()
    Artifact.load(tmp_path / "here")


def test_a_part_that_was_damaged_is_not_used(liar, tmp_path):
    network = next(content for content in liar.blobs.values() if len(content) > 10_000)
    parts = tmp_path / ".here.parts"
    parts.mkdir()
    (parts / hashlib.sha256(network).hexdigest()).write_bytes(b"x" * 19_000)
    with pytest.raises(RegistryError, match="other bytes come"):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    pull(AT_HOME, tmp_path / "here", transport=liar.transport)


def test_who_asks_is_known_to_the_registry_alone(liar, tmp_path, monkeypatch):
    """A CDN gets no credentials, nor does a server that names itself as the place of an upload."""
    monkeypatch.setenv("EDGEAD_REGISTRY_USER", USER)
    monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setenv("EDGEAD_REGISTRY_HOST", "registry.test")
    monkeypatch.setenv("EDGEAD_REGISTRY_TOKEN_HOSTS", "other.test, auth.test")

    def guarded(request):
        if request.url.host == "auth.test":
            assert request.url.params["scope"] == "repository:line/caps:pull"
            return sent(b'{"token": "t0ken"}')
        if request.url.host == "cdn.test":
            return sent(liar.blobs[request.url.path.rpartition("/")[2]])
        if "authorization" not in request.headers:
            realm = 'Bearer realm="https://auth.test/token",service="r",scope="repository:line/caps:pull"'
            return httpx.Response(401, headers={"www-authenticate": realm})
        if request.method == "POST":
            return sent(b"", 202, location="https://evil.test/upload")
        if request.method == "HEAD":
            return httpx.Response(404)
        if "/blobs/" in request.url.path:
            name = request.url.path.rpartition("/")[2]
            return httpx.Response(307, headers={"location": f"https://cdn.test/{name}"})
        return None

    liar.instead = guarded
    pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    asked = {request.url.host: request.headers.get("authorization", "") for request in liar.asked}
    assert asked["registry.test"] == "Bearer t0ken" and asked["auth.test"].startswith("Basic ")
    assert not asked["cdn.test"]
    with pytest.raises(RegistryError, match="wants uploads at another place: nothing is sent there"):
        push(tmp_path / "theirs", AT_HOME, transport=liar.transport)
    assert "evil.test" not in {request.url.host for request in liar.asked}


def test_blobs_that_a_registry_keeps_elsewhere_are_there(liar, tmp_path):
    def elsewhere(request):
        if request.method == "HEAD":
            return sent(b"", 307, location="https://cdn.test/blob")
        return sent(b"", 201) if request.method == "PUT" else None

    liar.instead = elsewhere
    pushed = push(tmp_path / "theirs", AT_HOME, transport=liar.transport)
    assert pushed.sent_bytes == 0 and pushed.digest == digest_of(liar.manifest)


def renamed(manifest: bytes, name: str) -> bytes:
    content = json.loads(manifest)
    content["layers"][-1]["annotations"]["org.opencontainers.image.title"] = name
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "/etc/passwd", "a/../../b", "a//b", "./a", "a/", "", ".", "..", ".hidden", "a/.b", "C:evil"),
        *("a\\b", "a\x00b", "a\nb", "engines/x", "MANIFEST.json", "manifest.json/x", "x" * 300, "a*"),
    ],
)
def test_a_name_that_has_no_place_in_a_model(liar, tmp_path, name):
    (tmp_path / "place").mkdir()
    liar.manifest = renamed(liar.manifest, name)
    with pytest.raises(PackageError):
        pull(AT_HOME, tmp_path / "place" / "here", transport=liar.transport)
    assert list((tmp_path / "place").iterdir()) == [] and len(liar.asked) == 1


def large_layers(like, count):
    """As many layers of the largest size that one may have, with names of their own."""
    titles = [{"org.opencontainers.image.title": f"large{number}"} for number in range(count)]
    return [{**like, "size": 2 << 30, "annotations": title} for title in titles]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(artifactType="application/vnd.oci.image"), "this is no edgead model"),
        (lambda m: m["layers"][0].update(size=3 << 30), "layers.0.size: must be at most"),
        (lambda m: m["layers"].extend(large_layers(m["layers"][0], 5)), "a model has 8589934592 at most"),
        (lambda m: m["layers"][0].update(digest="sha256:../../x"), "layers.0.digest"),
        (lambda m: m.update(layers=[]), "layers: needs at least 1"),
        (lambda m: m.update(layers=m["layers"] * 2), "holds two files"),
        (lambda m: m["layers"].pop(0), "it is no model that can be used here|holds no manifest.json"),
    ],
)
def test_a_manifest_that_is_none_of_a_model(liar, tmp_path, change, message):
    content = json.loads(liar.manifest)
    change(content)
    liar.manifest = json.dumps(content).encode()
    with pytest.raises(PackageError, match=message):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    assert not (tmp_path / "here").exists()


def test_a_disk_without_space_is_said_before_anything_is_fetched(liar, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 20))
    with pytest.raises(SettingsError, match="1 MiB free, the model needs"):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    assert len(liar.asked) == 1


def test_what_is_no_model_is_not_pushed(liar, tmp_path):
    (tmp_path / "theirs" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match="is no regular file: a package holds nothing else"):
        push(tmp_path / "theirs", AT_HOME, transport=liar.transport)
    assert liar.asked == []


def test_equal_models_have_one_digest(tmp_path):
    first, second = packed(small_model(tmp_path / "a" / "m")), packed(small_model(tmp_path / "b" / "m"))
    assert first.dump() == second.dump()
    assert Package.read(first.dump()) == first


# Where a model lies


def test_references():
    found = Reference.read("oci://registry.example.com:5000/line/caps_a:v1.2@sha256:" + "a" * 64)
    assert (found.host, found.name, found.tag) == ("registry.example.com:5000", "line/caps_a", "v1.2")
    assert found.origin == "https://registry.example.com:5000" and found.wanted.startswith("sha256:")
    origins = {
        "oci://localhost:5000/a:b": "http://localhost:5000",
        "oci://[::1]:5000/a:b": "http://[::1]:5000",
        "oci://10.0.0.7:5000/a:b": "https://10.0.0.7:5000",
        "oci://10.0.0.7:5000/a:b?insecure": "http://10.0.0.7:5000",
    }
    assert {text: Reference.read(text).origin for text in origins} == origins
    assert all(str(Reference.read(text)) == text for text in origins)


@pytest.mark.parametrize(
    "text",
    [
        *("caps:stable", "http://a/b:c", "oci://a", "oci://a/B:c", "oci://a/b:c/d", "oci://a/../b:c"),
        *("oci://a/b:" + "x" * 129, "oci://a/b@sha256:zz", "oci://a:99999/b:c", "oci://a/b:c?other"),
        *("oci://a/b:c\n", "oci://" + "a" * 600),
    ],
)  # fmt: skip
def test_what_is_no_reference(text):
    with pytest.raises(SettingsError, match="oci://registry.example.com/line/caps:stable"):
        Reference.read(text)


def test_a_password_in_a_reference_is_refused_and_not_shown():
    with pytest.raises(SettingsError, match="belong into `docker login`") as caught:
        Reference.read("oci://anna:hunter2@registry.example.com/line/caps:stable")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", ["no json", "[]", '{"auths": []}', '{"auths": {"registry.test": {"auth": "%"}}}'])
def test_a_file_of_docker_that_is_damaged(liar, tmp_path, content):
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(content)
    with pytest.raises(EdgeadError, match="is not as `docker login` writes it: log in again"):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)


def test_the_verbs(real, tmp_path):
    small_model(tmp_path / "m")
    ended = run_here("push", tmp_path / "m", real.reference("verbs"), "--json")
    pushed = json.loads(ended.stdout)
    ended = run_here("pull", real.reference("verbs"), "-o", tmp_path / "here", "--json")
    pulled = json.loads(ended.stdout)
    assert pulled["digest"] == pushed["digest"] and pulled["fetched_bytes"] == pushed["bytes"]
    Artifact.load(tmp_path / "here")
    ended = run_here("pull", real.reference("nowhere"), "-o", tmp_path / "new")
    assert ended.returncode == 2 and "line/caps:nowhere: the registry has none" in ended.stderr


def test_a_password_of_the_environment_is_that_of_one_registry(liar, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAD_REGISTRY_USER", USER)
    monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", PASSWORD)
    with pytest.raises(
        SettingsError, match="EDGEAD_REGISTRY_HOST is missing: name the registry .* such as registry.test"
    ):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    monkeypatch.setenv("EDGEAD_REGISTRY_HOST", "registry.plant:5000")
    liar.instead = lambda request: httpx.Response(401, headers={"www-authenticate": 'Basic realm="r"'})
    with pytest.raises(RegistryError, match="wants a user and a password"):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    assert all("authorization" not in request.headers for request in liar.asked)


@pytest.mark.parametrize("realm", ["https://stranger.test/token", "https://registry.test.stranger.test/token"])
def test_a_registry_sends_the_password_to_no_other_host(liar, tmp_path, monkeypatch, realm):
    monkeypatch.setenv("EDGEAD_REGISTRY_USER", USER)
    monkeypatch.setenv("EDGEAD_REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setenv("EDGEAD_REGISTRY_HOST", "registry.test")
    challenge = {"www-authenticate": f'Bearer realm="{realm}",service="r"'}
    liar.instead = lambda request: httpx.Response(401, headers=challenge)
    with pytest.raises(RegistryError, match="stranger.test, another host: .* EDGEAD_REGISTRY_TOKEN_HOSTS"):
        pull(AT_HOME, tmp_path / "here", transport=liar.transport)
    assert {request.url.host for request in liar.asked} == {"registry.test"}
