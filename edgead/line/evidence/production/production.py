"""Production figures of a running store, cached, since the page, the API and Prometheus request them often.

Also the orders: a person starts an order, and it lasts until the next one starts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, islice, pairwise
from typing import Any

from sqlalchemy import select

from edgead.line.evidence.access import Access
from edgead.line.evidence.database import EvidenceError
from edgead.line.evidence.folder import ImageFolder
from edgead.line.evidence.production.counts import QueryBudget, Tally, Unit, decided, total, with_corrected
from edgead.line.evidence.production.export import (
    COLUMNS,
    VerdictImages,
    VerdictQuery,
    as_row,
    count,
    kept_images,
    pages,
    size_of,
    zip_images,
)
from edgead.line.evidence.production.formats import Columns, Format, encode
from edgead.line.evidence.production.periods import Period, hours_of
from edgead.line.evidence.production.report import COLUMNS as REPORT_COLUMNS
from edgead.line.evidence.production.report import Group, ReportQuery, report, report_table
from edgead.line.evidence.tables import orders

_MAX_ORDERS = 1000
_MAX_PIECES = 20_000
# Limits of requests by a browser, beside a running line.
_SHARE = 0.25
_WITHIN_S = 60.0
_MAX_ROWS = 200_000
_MAX_IMAGES_MIB = 1024
# A row may wait for a full disk, and a clock may be set back: a past hour may still get rows.
_AGAIN_AFTER = 0.5
_DAY = timedelta(days=1)
_NOT_BEFORE = timedelta(seconds=2)


class Orders:
    """The orders of an evidence store; safe from any thread."""

    def __init__(self, access: Access):
        self._access = access

    def start(self, *, name: str, batch: str, by: str) -> None:
        """Start an order, which ends the previous one; the audit records it.

        Raises EvidenceError: the order cannot be written.
        """
        after = {"name": name, "batch": batch}
        with self._access.writing() as connection:
            last = connection.execute(select(orders).order_by(orders.c.seq.desc()).limit(1)).first()
            before = None if last is None else {"name": last.name, "batch": last.batch}
            connection.execute(orders.insert().values(started_at=self._access.now(), by=by, **after))
            self._access.add_audit(connection, by=by, action="start_order", pipeline="", before=before, after=after)

    def newest(self, *, limit: int = 50) -> list[dict[str, Any]]:
        """List orders, the current one first."""
        query = select(orders).order_by(orders.c.seq.desc()).limit(max(0, min(limit, _MAX_ORDERS)))
        with self._access.reading() as connection:
            return [{**row._mapping, "started_at": row.started_at.isoformat()} for row in connection.execute(query)]

    def between(self, begin: datetime, end: datetime) -> list[Period]:
        """List the orders that overlap a time, the earliest first; among the newest thousand."""
        starts = [(datetime.fromisoformat(row["started_at"]), row["name"]) for row in self.newest(limit=_MAX_ORDERS)]
        starts.sort(key=lambda one: one[0])
        ends = [*(at for at, _ in starts[1:]), max(end, starts[-1][0])] if starts else []
        found = [Period(name, at, after) for (at, name), after in zip(starts, ends, strict=True)]
        return [period for period in found if max(begin, period.begin) < min(end, period.end)]


class Production:
    """Counts of an evidence store, cached; safe from any thread.

    A page that shows a shift requests its counts every few seconds. So a past hour, or a past day of a long order, is
    counted again only after half the time since its end; the current hour is counted at most every two seconds.

    `reading`: connections for counts, which cannot write.
    `writing`: connections for orders.
    `passed`: frames without a verdict in time, which pipelines count here.
    """

    def __init__(self, reading: Access, writing: Access, folder: ImageFolder):
        self.orders = Orders(writing)
        self._access, self._folder = reading, folder
        self.passed = reading.passed
        self._pieces: OrderedDict[tuple[Unit, datetime, datetime], tuple[datetime, Tally]] = OrderedDict()
        self._lock = threading.Lock()

    def by_hour(self, unit: Unit, period: Period) -> list[Tally]:
        """Count each hour of a period up to now; see `hours_of`.

        Raises EvidenceError: the database cannot be read.
        """
        return self._counted(unit, hours_of(period))

    def count(self, unit: Unit, period: Period) -> Tally:
        """Count a period up to now, from days and hours that are mostly cached."""
        days = max(0, (min(period.end, self._access.now()) - period.begin) // _DAY)
        begins = [period.begin + index * _DAY for index in range(days + 1)]
        pieces = [Period(period.name, *one) for one in pairwise(begins)]
        return total(self._counted(unit, [*pieces, *hours_of(period._replace(begin=begins[-1]))]))

    def report(self, asked: ReportQuery) -> list[Group]:
        """Count the parts by decision in each group of a report, such as a shift, order or recipe.

        Raises EvidenceError: the database cannot be read, it takes too long, or there are too many groups.
        """
        return report(self._access, asked, QueryBudget(_WITHIN_S, _SHARE))

    def marks(self, wanted: VerdictQuery, *, limit: int = 100) -> list[dict[str, Any]]:
        """List the marked verdicts of a period, one pipeline after the other."""
        rows = chain.from_iterable(pages(self._access, replace(wanted, marked=True), QueryBudget(_WITHIN_S, _SHARE)))
        return [as_row(row) for row in islice(rows, limit)]

    def report_file(self, asked: ReportQuery, kind: Format) -> bytes:
        """Encode a report as a table; return the bytes of the file.

        Raises EvidenceError: see `report`.
        Raises SettingsError: for Parquet without pyarrow.
        """
        return b"".join(encode(kind, REPORT_COLUMNS, [report_table(self.report(asked))]))

    def verdicts_file(self, wanted: VerdictQuery, kind: Format) -> Iterator[bytes]:
        """Encode verdicts as a table; yield the file piece by piece.

        Raises EvidenceError: the database cannot be read, it takes too long, or there are too many.
        Raises SettingsError: for Parquet without pyarrow.
        """
        found = count(self._access, wanted, QueryBudget(_WITHIN_S, _SHARE))
        if found > _MAX_ROWS:
            raise EvidenceError(
                f"these are {found} verdicts, at most {_MAX_ROWS} are sent: choose a shorter time, or "
                "`edgead evidence export`"
            )
        columns: Columns = COLUMNS
        return encode(
            kind, columns, ([as_row(row) for row in page] for page in pages(self._access, wanted, QueryBudget()))
        )

    def images_size(self, wanted: VerdictQuery) -> tuple[int, int]:
        """Return the number of verdicts with kept images, and the bytes of these images.

        Raises EvidenceError: see `images_file`.
        """
        return self._measured(wanted)[1:]

    def images_file(self, wanted: VerdictQuery) -> Iterator[bytes]:
        """Make a ZIP file of the images of verdicts, piece by piece.

        Raises EvidenceError: the database cannot be read, it takes too long, there are too many, or none.
        """
        return zip_images(self._folder, self._measured(wanted)[0])

    def _measured(self, wanted: VerdictQuery) -> tuple[list[VerdictImages], int, int]:
        kept = list(kept_images(self._access, wanted, QueryBudget(_WITHIN_S, _SHARE)))
        size = size_of(self._folder, kept)
        if size > _MAX_IMAGES_MIB * 2**20:
            raise EvidenceError(
                f"these images take {size / 2**20:.0f} MiB, at most {_MAX_IMAGES_MIB} are sent: choose a shorter "
                "time, or `edgead evidence export --images`"
            )
        if not size:
            raise EvidenceError("the store keeps no image of these verdicts: see `evidence` in the section `store`")
        return kept, len(kept), size

    def _counted(self, unit: Unit, pieces: list[Period]) -> list[Tally]:
        now = self._access.now()
        begun = [piece for piece in pieces if piece.begin < now]
        return with_corrected(self._access, unit, begun, [self._piece(unit, piece, now) for piece in begun])

    def _piece(self, unit: Unit, piece: Period, now: datetime) -> Tally:
        key = (unit, piece.begin, piece.end)
        with self._lock:
            until, tally = self._pieces.get(key, (now, Tally()))
        if now < until:
            return tally
        tally = decided(self._access, unit, piece.begin, piece.end)
        until = now + max(_NOT_BEFORE, _AGAIN_AFTER * (now - piece.end))
        with self._lock:
            self._pieces[key] = until, tally
            while len(self._pieces) > _MAX_PIECES:
                self._pieces.popitem(last=False)
        return tally
