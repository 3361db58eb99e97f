"""Access to the database for reading and writing: errors that explain, and the audit of changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from edgead.line.evidence import chain
from edgead.line.evidence.database import unreachable
from edgead.line.evidence.passed_frames import PassedFrames

logger = logging.getLogger(__name__)

# A text may hold half of a surrogate pair, which no database takes.
_REFUSED = (SQLAlchemyError, UnicodeError)


class Access:
    """Connections to one database; safe from any thread."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]):
        self._engine = engine
        self.now = now
        self.audit_head: chain.ChainHead | None = None  # the last row read or written here
        self.audit_is_cut = False  # the last row known was gone when the next was written
        self.passed = PassedFrames(now)  # that are not written yet
        self._heads: dict[Connection, chain.ChainHead] = {}
        self._advancing = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except _REFUSED as error:
            raise unreachable(self._engine, "cannot be read", error) from None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open one transaction: the block's changes are all written, or none."""
        try:
            with self._engine.begin() as connection:
                try:
                    yield connection
                finally:
                    head = self._heads.pop(connection, None)
            if head is not None:
                self._advance(head)
                # Where logs are collected, this copy of the head is out of reach for anybody who changes the database.
                logger.info("audit row %d: %s", head.seq, head.hash, extra={"audit_seq": head.seq, "audit": head.hash})
        except _REFUSED as error:
            raise unreachable(self._engine, "cannot be written", error) from None

    def _advance(self, head: chain.ChainHead) -> None:
        """Keep the newer head of the audit: threads may call this in another order than they wrote rows in."""
        with self._advancing:
            if self.audit_head is None or head.seq > self.audit_head.seq:
                self.audit_head = head

    def add_audit(self, connection: Connection, **change: Any) -> None:
        """Record a change in the caller's transaction; call it last, since other changes wait for its end."""
        head, whole = chain.append(connection, {"at": self.now(), **change}, self.audit_head)
        self._heads[connection] = head
        self.audit_is_cut |= not whole
