"""`edgead evidence export -o s3://…` against a server of S3 that refuses, loses its bucket and goes away."""

from __future__ import annotations

import json
import logging
import sys
import threading
import urllib.request
from contextlib import closing, contextmanager

import pytest
from command_line import run_here
from test_evidence import open_store
from verdicts import Line

from edgead.dataset.survey import survey
from edgead.line.evidence.production.bucket import Bucket

pytest.importorskip("moto.server", reason="S3 IS NOT TESTED: pip install '.[s3]' 'moto[s3]' flask flask-cors")
import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from patience import wait_until
from werkzeug.serving import make_server

SECRET = "a-secret-of-which-nobody-hears"
INDEX = "annotations/instances_default.json"


class ObjectStore:
    """A server of S3 that closes its port after so many PUT requests; what it holds stays."""

    def __init__(self):
        self.puts_left = None
        self.put = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = None

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT":
            if self.puts_left == 0:
                self._server.server_close()
                raise ConnectionAbortedError
            self.puts_left = None if self.puts_left is None else self.puts_left - 1
            self.put.append(environ["PATH_INFO"].partition("/lines/")[2])
        return self._app(environ, start_response)

    @contextmanager
    def serving(self, puts=None):
        self.puts_left, self.put = puts, []
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{self._server.port}"
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The folder of a store: an ok, a review and two rejects, all but the first with images."""
    folder = tmp_path_factory.mktemp("evidence")
    with closing(open_store(folder, before=0, after=0)) as store:
        line = Line("caps")
        for score in (0.1, 0.45, 0.9, 0.9):
            frame, verdict = line.part(score)
            assert store.add(frame, verdict)
            store.keep(frame, verdict)
        wait_until(lambda: store.status()["images_written"] == 6)
        yield folder


@pytest.fixture
def objects(monkeypatch, tmp_path):
    """A server's objects, with a bucket `lines`; the environment has keys for it and nobody's files."""
    monkeypatch.setattr(logging.getLogger("werkzeug"), "disabled", True)
    for name in ("CONFIG_FILE", "SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(f"AWS_{name}", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "line7")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    objects = ObjectStore()
    with objects.serving() as url:
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="lines")
    yield objects
    with objects.serving() as url:
        ask(f"{url}/moto-api/reset")


def ask(url, body=b""):
    urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "text/plain"})).close()


def export(store, url, place="s3://lines/week", *more):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", url)
        said = run_here("evidence", "export", store, "-o", place, *more)
    assert SECRET not in said.stdout + said.stderr
    return said


def download(url, folder):
    client = boto3.client("s3", endpoint_url=url)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="lines").get("Contents", ())]
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket="lines", Key=key)["Body"].read())
    return keys


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bucket_gets_what_a_folder_gets_and_the_index_last(store, objects, tmp_path):
    with objects.serving() as url:
        said = export(store, url, "s3://lines/week", "--format", "coco", "--json")
        assert json.loads(said.stdout) == {
            "verdicts": 4,
            "with_images": 3,
            "sent": 4,
            "there_already": 0,
            "output": "s3://lines/week",
        }
        assert objects.put[-1] == f"week/{INDEX}" and len(objects.put) == 4
        download(url, tmp_path / "bucket")
    assert run_here("evidence", "export", store, "-o", tmp_path / "out", "--format", "coco").returncode == 0
    assert files_below(tmp_path / "bucket/week") == files_below(tmp_path / "out")
    found = survey(tmp_path / "bucket/week")
    assert (found.found.layout, found.problems) == ("COCO", [])


def test_a_table_and_its_images_go_out_as_well(store, objects, tmp_path):
    with objects.serving() as url:
        said = export(store, url, "s3://lines/", "--images", "--decision", "reject")
        assert said.stdout == "2 verdicts, 2 with images: s3://lines/ (5 files sent, 0 there already)\n"
        download(url, tmp_path / "bucket")
    run_here("evidence", "export", store, "-o", tmp_path / "out", "--images", "--decision", "reject")
    assert files_below(tmp_path / "bucket") == files_below(tmp_path / "out") and objects.put[-1] == "verdicts.csv"


def test_a_second_run_sends_what_is_missing_or_changed(store, objects):
    with objects.serving() as url:
        assert export(store, url, "s3://lines/week", "--format", "coco").returncode == 0
        missing, changed, *_ = objects.put
        client = boto3.client("s3", endpoint_url=url)
        client.delete_object(Bucket="lines", Key=missing)
        client.put_object(Bucket="lines", Key=changed, Body=b"half an image")
        objects.put.clear()
        said = export(store, url, "s3://lines/week", "--format", "coco")
        assert said.stdout.endswith("(2 files sent, 2 there already)\n") and objects.put == [missing, changed]


def test_a_server_that_goes_away_leaves_no_index_and_the_next_run_ends_the_work(store, objects, tmp_path):
    with objects.serving(puts=2) as url:
        said = export(store, url, "s3://lines/week", "--format", "coco")
        assert said.returncode == 2 and f"{url} cannot be reached" in said.stderr and "sent twice" in said.stderr
    with objects.serving() as url:
        assert len(keys := download(url, tmp_path / "half")) == 2 and f"week/{INDEX}" not in keys
        objects.put.clear()
        said = export(store, url, "s3://lines/week", "--format", "coco")
        assert said.stdout.endswith("(2 files sent, 2 there already)\n") and objects.put[-1] == f"week/{INDEX}"


def test_a_file_that_changes_on_its_way_is_refused_by_the_store(objects):
    """The sum that goes with a file is of what was read: the store compares, so that no half file is taken."""
    with objects.serving() as url, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", url)
        asked = []
        bucket = Bucket("s3://lines/week")
        bucket._client.meta.events.register("before-send.s3.PutObject", lambda request, **_: asked.append(request))
        bucket.write("a.txt", [b"he", b"llo"])
        bucket.write("large", [bytes(1 << 20)] * 9)  # waits on the disk
        assert asked[0].headers["Content-MD5"] == b"XUFAKrxLKna5cZ2REBfFkg=="
        assert "x-amz-sdk-checksum-algorithm" not in asked[0].headers


def test_a_bucket_that_is_not_there_is_named(store, objects):
    with objects.serving() as url:
        said = export(store, url, "s3://liens/week")
    assert said.returncode == 2
    assert said.stderr.endswith(f"error: {url}: bucket liens is not there: create it, or see AWS_ENDPOINT_URL\n")


def test_keys_that_may_not_are_refused_in_words(store, objects):
    with objects.serving() as url:
        ask(f"{url}/moto-api/reset-auth", b"0")
        try:
            said = export(store, url)
        finally:
            ask(f"{url}/moto-api/reset-auth", b"inf")
    assert said.returncode == 2 and "bucket lines refuses (InvalidAccessKeyId): the keys must be right" in said.stderr
    assert objects.put == []


def test_a_server_that_is_away_is_named_without_its_password(store, objects):
    with objects.serving() as url:
        pass
    said = export(store, url.replace("//", f"//line7:{SECRET}@"))
    assert said.returncode == 2 and f"{url} cannot be reached" in said.stderr


def test_keys_that_are_missing_are_asked_for(store, objects, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with objects.serving() as url:
        said = export(store, url)
        assert said.returncode == 2 and "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in said.stderr
        monkeypatch.setenv("AWS_PROFILE", "line8")
        said = export(store, url)
        assert said.returncode == 2 and "refuses the settings (ProfileNotFound): see AWS_PROFILE" in said.stderr


@pytest.mark.parametrize(
    "place", ["s3://", "s3://l", f"s3://line7:{SECRET}@lines/week", "s3://lines//week", "S3://lines"]
)
def test_what_is_no_bucket_is_refused_and_not_repeated(store, objects, place):
    said = export(store, "http://127.0.0.1:9", place)
    assert said.returncode == 2 and "names a bucket and a prefix alone" in said.stderr


def test_without_boto3_the_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    said = export(store, "http://127.0.0.1:9")
    assert said.returncode == 2 and "s3: needs `" in said.stderr and "[s3]'`" in said.stderr
