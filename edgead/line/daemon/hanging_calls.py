"""Calls with a time limit; a call that hangs is left behind."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

logger = logging.getLogger(__name__)


def all_within(seconds: float, calls: Iterable[Callable[[], Any]]) -> None:
    """Make calls in parallel; return after `seconds` at the latest, even if some calls still run."""
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=_logged, args=(call,), name="closing", daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _logged(call: Callable[[], Any]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001  one part that does not close keeps no other from it
        logger.exception("a part could not be closed")
