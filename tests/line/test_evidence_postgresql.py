"""The evidence store in a real PostgreSQL, which is stopped and started again."""

from __future__ import annotations

import logging
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from patience import wait_until
from sqlalchemy import delete, event
from system_packages import require
from test_evidence import keep
from test_evidence_versions import check_that_all_is_kept, killer_after
from verdicts import Line, ids

from edgead.line.evidence import EvidenceError, EvidenceStore
from edgead.line.evidence.database import open_engine
from edgead.line.evidence.production.counts import Tally, Unit
from edgead.line.evidence.production.export import VerdictQuery
from edgead.line.evidence.production.periods import Period
from edgead.line.evidence.production.report import ReportQuery
from edgead.line.evidence.settings import StoreSection
from edgead.line.evidence.tables import orders
from edgead.line.evidence.versions import prepare_tables
from edgead.types import Part

PASSWORD = "hunter2-is-secret"


class Server:
    """A PostgreSQL of its own, with a password, in a folder of its own."""

    def __init__(self, binaries: Path, folder: Path):
        self._binaries = binaries
        self._data = folder / "data"
        # It refuses to run as root.
        self._user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "--auth=scram-sha-256", "--username=edgead", f"--pwfile={password}", "--no-sync")
        self.url = f"postgresql://edgead:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._data} -c fsync=off"
        self._run("pg_ctl", "start", "--wait", f"--log={self._data}/log", f"--options={options}")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--mode=immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), f"--pgdata={self._data}", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60, **self._user)


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="POSTGRESQL NOT TESTED: pip install 'edgead[postgresql]'")
    binaries = Path(require("postgresql")).parent
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("POSTGRESQL NOT TESTED: it refuses to run as root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="edgead-postgresql-") as folder:
        server = Server(binaries, Path(folder))
        server.start()
        yield server
        server.stop()


def open_store(folder, server, **settings):
    return EvidenceStore(StoreSection(folder=folder, url=server.url, free_mib=0, **settings))


def test_records_images_marks_and_changes_are_as_with_sqlite(tmp_path, server):
    line = Line()
    with closing(open_store(tmp_path, server)) as store:
        parts = line.parts(30)
        assert all(store.add(*part) for part in parts)
        assert store.add(*parts[3])
        bad = keep(store, line, 0.9)
        wait_until(lambda: store.status()["images_written"] == 2)
        newest = [bad.id, *(frame.id for frame, _ in reversed(parts))]
        assert ids(store.verdicts()) == newest
        assert ids(store.verdicts(before_id=newest[9], decision="ok", limit=5)) == newest[10:15]
        record = store.verdict(bad.id)
        assert record["images"] == ["frame.jpg", "heat.jpg"]
        assert record["captured_at"] == bad.captured_at.isoformat() and record["boxes"][0]["peak"] == 0.9
        store.mark_false_reject(bad.id, by="anna", note="dust")
        assert store.verdict(bad.id)["false_reject"]["note"] == "dust"
        assert store.audit()[0]["action"] == "mark_false_reject"
        assert store.counts() == {"ok": 30, "review": 0, "reject": 1}
        assert (store.status()["rows_doubled"], store.problems()) == (1, ())
    future = datetime.now(timezone.utc) + timedelta(days=91)
    section = StoreSection(folder=tmp_path, url=server.url)
    with closing(EvidenceStore(section, now=lambda: future)) as store:
        assert store.remove_old() == 31
        assert store.verdicts() == [] and not list(tmp_path.rglob("*.jpg"))


def test_kinds_are_counted_named_and_corrected_as_with_sqlite(tmp_path, server):
    line, since = Line("kinds"), datetime.now(timezone.utc)
    with closing(open_store(tmp_path, server)) as store:
        parts = [line.part(0.9, kind) for kind in ("kind 1", "kind 2", "kind 1", None)]
        assert all(store.add(*part) for part in parts)
        first = parts[0][0].id
        store.kinds.rename("kinds", "kind 1", "scratch", by="anna")
        store.kinds.merge("kinds", "kind 2", "scratch", by="anna")
        store.kinds.correct(first, "dent", by="anna")
        found = store.kinds.counts("kinds", since=since, until=datetime.now(timezone.utc) + timedelta(minutes=1))
        assert [(each["kind"], each["count"]) for each in found["kinds"]] == [("scratch", 2), ("dent", 1)]
        assert found["unsorted"] == 1
        assert ids(store.verdicts(kind="scratch", limit=1)) == [parts[2][0].id]
        assert store.verdict(first)["shown_kind"] == "dent"
        assert len(store.kinds.boxes("kinds", since=since, kind="scratch")) == 2
        with pytest.raises(EvidenceError, match="has a kind 'dent' already"):
            store.kinds.split("kinds", "scratch", "kind 2", "dent", by="anna")
    future = datetime.now(timezone.utc) + timedelta(days=91)
    with closing(EvidenceStore(StoreSection(folder=tmp_path, url=server.url), now=lambda: future)) as store:
        store.remove_old()
        assert store.verdict(first) is None and list(store.kinds.known("kinds")) == ["scratch"]


def test_writers_of_two_daemons_keep_one_chain(tmp_path, server):
    def write(store, name):
        for index in range(15):
            change = {"before": {"reject": index / 3}, "after": {"note": "Grüße"}}
            store.add_audit(by=name, action="thresholds", pipeline="caps", **change)

    with closing(open_store(tmp_path / "one", server)) as one, closing(open_store(tmp_path / "other", server)) as other:
        before = one.audit_chain.check().rows
        stores = [one, other, one, other]
        threads = [threading.Thread(target=write, args=(store, f"{n}")) for n, store in enumerate(stores)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = other.audit_chain.check()
        assert (found.rows, found.problem) == (before + 60, None)
        assert {one.audit_chain.head.hash, other.audit_chain.head.hash} >= {found.head.hash}


FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def earlier(server):
    """The address of a database of version 4: tables as that edgead had them, with the rows of the other fixture."""
    import psycopg

    tables = (FIXTURES / "evidence_4_postgresql.sql").read_text()
    rows = re.findall(r'^INSERT INTO "(?!sqlite).*$', (FIXTURES / "evidence_4.sql").read_text(), re.MULTILINE)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS earlier")
        connection.execute("CREATE DATABASE earlier")
    url = server.url.replace("/postgres", "/earlier")
    with psycopg.connect(url) as connection:
        connection.execute(tables)
        for row in rows:
            connection.execute(row)
        for table in ("verdicts", "audit"):
            connection.execute(f"SELECT setval('{table}_seq_seq', (SELECT max(seq) FROM {table}))")
    return url


def test_production_is_counted_and_exported_as_with_sqlite(tmp_path, server):
    line, now = Line("made"), datetime.now(timezone.utc)
    unit, hour = Unit("made"), Period("", now - timedelta(hours=1), now + timedelta(hours=1))
    with closing(open_store(tmp_path, server)) as store:
        parts = [line.part(score) for score in (0.1, 0.1, 0.45, 0.9)]
        assert all(store.add(replace(frame, part=Part(batch="b")), verdict) for frame, verdict in parts)
        store.mark_false_reject(parts[-1][0].id, by="anna")
        store.production.orders.start(name="A-17", batch="b", by="anna")
        expected = Tally(2, 1, 1, false_rejects=1)
        assert store.production.count(unit, hour) == expected
        found = {by: store.production.report(ReportQuery(by, (hour,), (unit,))) for by in ("day", "batch")}
        assert [group.units["made"] for groups in found.values() for group in groups] == [expected, expected]
        table = b"".join(store.production.verdicts_file(VerdictQuery(hour.begin, hour.end, "made"), "csv"))
        assert len(table.splitlines()) == 5
        assert [period.name for period in store.production.orders.between(*hour[1:])] == ["A-17"]
        with pytest.raises(EvidenceError, match="cannot execute DELETE in a read-only transaction"):
            with store.production._access.writing() as connection:
                connection.execute(delete(orders))
    future = now + timedelta(days=91)
    with closing(EvidenceStore(StoreSection(folder=tmp_path, url=server.url), now=lambda: future)) as store:
        store.remove_old()


def test_a_database_of_version_4_opens_with_all_it_holds(tmp_path, earlier):
    section = StoreSection(folder=tmp_path, url=earlier, keep_days=36_500)
    with closing(EvidenceStore(section)) as store:
        check_that_all_is_kept(store)
        frame, verdict = Line().part(0.9, "scratch")
        assert store.add(replace(frame, part=Part("A-18")), verdict)
        assert [record["kind"] for record in store.verdicts(part=Part("A-18"))] == ["scratch"]


@pytest.mark.parametrize("after", [1, 6])
def test_a_change_that_ends_under_way_leaves_a_database_that_opens(tmp_path, earlier, after):
    """PostgreSQL takes a transaction back when its client goes, however it went."""
    section = StoreSection(folder=tmp_path, url=earlier, keep_days=36_500)
    pid = os.fork()
    if pid == 0:
        engine = open_engine(section)
        event.listen(engine, "after_cursor_execute", killer_after(after))
        try:
            prepare_tables(engine)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    with closing(EvidenceStore(section)) as store:
        check_that_all_is_kept(store)


def test_whoever_may_not_change_the_tables_is_given_what_to_do(tmp_path, earlier):
    import psycopg

    with psycopg.connect(earlier, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    section = StoreSection(folder=tmp_path, url=earlier.replace("edgead:", "guest:"), keep_days=36_500)
    with pytest.raises(EvidenceError, match="of version 4 and cannot be brought to version 9: must be owner of table"):
        EvidenceStore(section)


def test_a_server_that_goes_away_delays_no_verdict_and_loses_no_record(tmp_path, server, caplog):
    caplog.set_level(logging.DEBUG)
    line = Line()
    with closing(open_store(tmp_path, server)) as store:
        added = []
        for part in line.parts(10):
            store.add(*part)
            added.append(part[0].id)
        wait_until(lambda: store.status()["rows_waiting"] == 0)
        server.stop()
        slowest = 0.0
        for part in line.parts(50):
            begin = time.perf_counter()
            store.add(*part)
            slowest = max(slowest, time.perf_counter() - begin)
            added.append(part[0].id)
        assert slowest < 5  # of the 10 that it may take
        wait_until(lambda: store.problems())
        with pytest.raises(EvidenceError, match="cannot be read") as error:
            store.verdicts()
        server.start()
        wait_until(lambda: store.problems() == ())
        assert ids(store.verdicts(limit=100)) == added[::-1]
        assert store.status()["rows_lost"] == 0
        reported = caplog.text + str(error.value) + repr(store) + str(store.status())
        assert PASSWORD not in reported
        left = open_store(tmp_path, server)
        left.close()


def test_a_wrong_password_is_reported_without_it(tmp_path, server):
    url = server.url.replace(PASSWORD, f"not-{PASSWORD}")
    with closing(EvidenceStore(StoreSection(folder=tmp_path, url=url))) as store:
        assert not store.add(*Line().part())
        wait_until(lambda: store.problems())
        assert "password authentication failed" in store.problems()[0] and PASSWORD not in store.problems()[0]
