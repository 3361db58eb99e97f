"""Writer of verdicts' rows, in its own thread, so that a stalled disk does not delay a line."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Engine, Table, Text, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from edgead.line.evidence.database import EvidenceError, problem_of
from edgead.line.evidence.tables import orders, verdicts
from edgead.process.restarting_thread import RestartingThread

INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MAX_AT_ONCE = 500
_RETRY_FIRST_S = 0.25
_MAX_RETRY_S = 10.0
# SQLAlchemy wraps a driver's errors of the database, but not all of its errors about values.
_VALUES = (OverflowError, TypeError, ValueError)
_FAILURES = (SQLAlchemyError, EvidenceError, *_VALUES)


# A part without a batch of its own has that of the order under which it was judged.
_BEGUN = select(orders.c.batch).where(orders.c.started_at <= bindparam("order_at", type_=orders.c.started_at.type))
_OF_ORDER = _BEGUN.order_by(orders.c.seq.desc()).limit(1).scalar_subquery()
_BATCH = func.coalesce(func.nullif(bindparam("own_batch", type_=Text), ""), _OF_ORDER, "")


class Ticket:
    """Row to write, with its state: waiting, committed or given up."""

    def __init__(self, row: dict[str, Any], committed: Callable[[], None] | None):
        self.row, self.on_commit = row, committed
        self.committed = self.given_up = False


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Counts of rows: committed, skipped as duplicates, waiting, and lost."""

    written: int
    doubled: int
    waiting: int
    lost: int


class RowWriter:
    """Writer that commits rows in order of arrival.

    Rows that cannot be written stay in memory, at most `most` of them, and are tried again; beyond that the oldest are
    dropped, and counted as lost.

    `prepare`: makes the tables; called before the first row, and again until it succeeds.
    `table`: table to write: verdicts or parts.
    """

    def __init__(self, engine: Engine, prepare: Callable[[], None], *, table: Table = verdicts, most: int = 10_000):
        self.failing = False
        self._problem: str | None = None
        self._engine = engine
        self._prepare: Callable[[], None] | None = prepare
        key = ["id", "pipeline"] if table is verdicts else ["id", "part"]
        insert = INSERTS[engine.dialect.name](table).on_conflict_do_nothing(index_elements=key)
        self._insert = insert.values(batch=_BATCH).returning(table.c.seq)  # returns nothing for an existing row
        self._most = most
        self._tickets: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._written = self._doubled = self._lost = 0
        self._closing = False
        self._thread = RestartingThread("evidence rows", self._run)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        return self._problem or self._thread.problem

    def commit(self, row: dict[str, Any], within_s: float, committed: Callable[[], None] | None = None) -> bool:
        """Queue a row, and wait for its commit for at most `within_s`, or not at all while the database fails.

        Returns whether the row is committed. `committed` is called in another thread at the commit, however late.
        """
        ticket = Ticket({**row, "own_batch": row.get("batch"), "order_at": row.get("judged_at")}, committed)
        with self._changed:
            if self._closing:
                self._give_up(ticket)
                return False
            self._tickets.append(ticket)
            while len(self._tickets) > self._most:
                self._give_up(self._tickets.popleft())
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.failing or ticket.committed or ticket.given_up, within_s)
            if not (self.failing or ticket.committed or ticket.given_up):
                self._problem, self.failing = self._problem or "the database does not answer", True
            return ticket.committed

    @property
    def counts(self) -> RowCounts:
        with self._changed:
            return RowCounts(self._written, self._doubled, len(self._tickets), self._lost)

    def close(self, within_s: float) -> None:
        """Write the queued rows; a row not written in time is lost, and counted."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(within_s)
        with self._changed:
            while self._tickets:
                self._give_up(self._tickets.popleft())

    def _give_up(self, ticket: Ticket) -> None:
        self._lost += 1
        ticket.given_up = True
        self._changed.notify_all()

    def _run(self) -> None:
        retry_s = _RETRY_FIRST_S
        while batch := self._next():
            try:
                self._write(batch)
            except _FAILURES as error:
                if _is_of_one_row(error) and self._write_singly(batch):
                    continue
                self._fail(problem_of(error))
                if not self._wait(retry_s):
                    return
                retry_s = min(2 * retry_s, _MAX_RETRY_S)
            else:
                retry_s = _RETRY_FIRST_S

    def _fail(self, problem: str) -> None:
        with self._changed:
            self._problem, self.failing = problem, True
            self._changed.notify_all()

    def _next(self) -> list[Ticket]:
        with self._changed:
            self._changed.wait_for(lambda: self._tickets or self._closing)
            return list(islice(self._tickets, _MAX_AT_ONCE))

    def _write_singly(self, batch: list[Ticket]) -> bool:
        """Write rows one by one, and drop rows that the database refuses; return False if the database itself fails."""
        for ticket in batch:
            try:
                self._write([ticket])
            except _FAILURES as error:
                if not _is_of_one_row(error):
                    return False
                self._problem = f"a record was refused: {problem_of(error)}"
                with self._changed:
                    self._tickets = deque(other for other in self._tickets if other is not ticket)
                    self._give_up(ticket)
        return True

    def _wait(self, for_s: float) -> bool:
        """Wait before the next try; return False if the writer is being closed: then it tries no more."""
        deadline = time.monotonic() + for_s
        with self._changed:
            while not self._closing and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return not self._closing

    def _write(self, batch: list[Ticket]) -> None:
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        with self._engine.begin() as connection:
            new = sum(connection.execute(self._insert, ticket.row).first() is not None for ticket in batch)
        written = set(map(id, batch))
        with self._changed:
            self._problem, self.failing = None, False
            self._written += new
            self._doubled += len(batch) - new
            self._lost -= sum(ticket.given_up for ticket in batch)  # given up while they were being written
            self._tickets = deque(ticket for ticket in self._tickets if id(ticket) not in written)
            for ticket in batch:
                ticket.committed = True
            self._changed.notify_all()
        for ticket in batch:
            if ticket.on_commit is not None:
                ticket.on_commit()


def _is_of_one_row(error: Exception) -> bool:
    """Return whether the error is about a value of one row, while the database itself works."""
    if isinstance(error, _VALUES) and not isinstance(error, EvidenceError):
        return True
    return isinstance(error, DataError | IntegrityError) or type(error) is StatementError
