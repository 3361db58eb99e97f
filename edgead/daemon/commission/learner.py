"""The process that learns from a draft: how far it is, how it ended, and its end when it is cancelled."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REAP_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The step that is under way, and how much of it is done."""

    stage: str = "begin"
    done: int = 0
    total: int = 0


logger = logging.getLogger(__name__)


class Learner:
    """Runs `edgead.adapt.commission.worker` until it ends or is cancelled.

    Parameters
    ----------
    order : dict
        See `edgead.adapt.commission.worker.learn_order`.
    log : Path
        Gets what the process says of a failure that nobody foresaw.
    ended : callable
        Called once, from another thread, with the problem, or with None where all went well; not after `cancel`.

    Raises
    ------
    OSError
        The process cannot be started, or the log not written.
    """

    def __init__(self, order: dict[str, Any], log: Path, ended: Callable[[str | None], None]):
        self.progress = Progress()
        self._ended, self._log = ended, log
        self._cancelled = threading.Event()
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from edgead.adapt.commission.worker import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
            )
        # A daemon: its end must not wait for a process that learns.
        self._thread = threading.Thread(target=self._follow, args=(order,), name="commission", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """End the process; what it had begun to write is left for `Draft.tidy`."""
        self._cancelled.set()
        self._process.kill()
        self._process.wait(_REAP_S)
        self._thread.join(_REAP_S)

    def _follow(self, order: dict[str, Any]) -> None:
        try:
            problem = self._hear(order)
        except Exception:  # noqa: BLE001  the edge of a thread: it ended early, or said what nobody foresaw
            logger.exception("what the process that learns says is not understood")
            self._process.kill()
            problem = ""
        code = self._process.wait()
        if not self._cancelled.is_set():
            self._ended(self._why(code) if problem == "" else problem)

    def _hear(self, order: dict[str, Any]) -> str | None:
        """Follow what the process says; gives its problem, None for none, or "" where it ended without a word."""
        problem: str | None = ""
        assert self._process.stdin is not None and self._process.stdout is not None
        # Its input stays open as long as it works: it ends when this process does.
        with self._process.stdin as orders, self._process.stdout as lines:
            orders.write(json.dumps(order).encode() + b"\n")
            orders.flush()
            for line in lines:
                said = json.loads(line)
                if "stage" in said:
                    self.progress = Progress(said["stage"], said["done"], said["total"])
                else:
                    problem = said.get("problem")
        return problem

    def _why(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "the system ended the process that learns, as it does where memory is short: learn from fewer parts"
        return f"the process that learns failed (exit code {code}): {self._log} says why"
