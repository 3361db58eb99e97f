"""Trigger by a PLC that names the part and waits for the verdict, independent of the protocol."""

from __future__ import annotations

import logging
import threading
import time
from typing import Annotated, Protocol

from pydantic import Field

from edgead.components.options import Seconds, Section
from edgead.errors import EdgeadError
from edgead.line.triggers.handshake import Command, Handshake
from edgead.plant.plc import Plc
from edgead.process.log_rate import limited_log
from edgead.types import Frame, Part, Verdict

_AGAIN_S = 0.5
_LEAVE_S = 1.0


class HandshakeOptions(Section):
    """Options of triggers by a PLC, whatever the protocol."""

    recipes: Annotated[
        dict[Annotated[int, Field(ge=1, le=65_535)], str],
        Field(description="Names of recipes by the PLC's numbers; a number that is not listed is refused."),
    ] = {}
    poll_ms: Annotated[float, Field(ge=1, le=10_000, description="Interval at which the PLC is read.")] = 10.0
    beat_s: Annotated[Seconds, Field(description="Longest interval between two counts of edgead's heartbeat.")] = 0.5
    silent_s: Annotated[
        Seconds | None, Field(description="Time in which the PLC's heartbeat must change; by default it need not.")
    ] = None
    answer_within_s: Annotated[
        Seconds, Field(description="Time after which a part without a verdict is answered as not judged.")
    ] = 5.0


class PlcError(EdgeadError):
    """PLC that does not answer, refuses, or sends an answer of another form."""


class PlcLink(Protocol):
    """Access to command and status in a PLC, for one thread, within `plc.connected`; all methods may raise PlcError.

    `kind`: kind of the trigger.
    `timeout_s`: time limit of one request.
    """

    kind: str
    timeout_s: float

    @property
    def plc(self) -> Plc: ...

    def read_command(self) -> Command: ...

    def read_status(self) -> tuple[int, ...]:
        """Read back from the PLC the registers that `write_status` writes."""
        ...

    def write_status(self, registers: tuple[int, ...]) -> None:
        """Write `Status.registers()` in one request."""
        ...


class PlcTrigger:
    """Trigger that accepts the first frame captured after a PLC's request, and answers with its verdict.

    The PLC is the server, as for the sink: most PLCs have a server, the PLC needs no address of the device, and nothing
    on the device is open to the PLC's network. If the PLC does not answer, the trigger tries to connect until it does.
    """

    def __init__(self, link: PlcLink, options: HandshakeOptions):
        self._link, self._plc, self._options = link, link.plc, options
        self._handshake = Handshake(options.recipes, round(options.answer_within_s * 1e9))
        self._problem: str | None = f"{self._plc.uri}: not connected yet"
        self._before: str | None = self._problem  # what the last look found
        self._has_looked = False
        self._connection = 0
        self._beat_s = float("-inf")
        self._heartbeat: tuple[int, float] | None = None  # of the PLC, and when it changed
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._log = limited_log(__name__, 20, 60.0)
        self._thread = threading.Thread(target=self._watch, name=f"plc trigger {link.kind}", daemon=True)
        self._thread.start()

    @property
    def part(self) -> Part:
        return self._handshake.part

    @property
    def problem(self) -> str | None:
        """Reason why the PLC cannot request parts; None if it can."""
        return self._problem

    def accepts(self, frame: Frame) -> bool:
        with self._lock:
            return self._handshake.accepts(frame.captured_ns)

    def answer(self, verdict: Verdict | None) -> None:
        """Answer the request for the last accepted frame; `verdict` is None if it has none."""
        with self._lock:
            if verdict is None:
                self._handshake.answer(None)
            else:
                self._handshake.answer(verdict.decision, float(verdict.image_score))
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        # A PLC that does not answer is left behind: the thread ends with its request.
        self._thread.join(_LEAVE_S + self._link.timeout_s)

    def _watch(self) -> None:
        while not self._closing:
            self._report(self._step())
            pause_s = self._options.poll_ms / 1e3 if self._plc.is_connected else _AGAIN_S
            if self._wake.wait(pause_s):
                self._wake.clear()
        with self._lock:
            self._handshake.leave()
        self._step()
        self._plc.close()

    def _step(self) -> str | None:
        """Read the PLC's command and write the answer; return an error text, or None."""
        plc = self._plc
        try:
            with plc.connected():
                if self._connection != plc.connections:
                    registers = self._link.read_status()
                    with self._lock:
                        self._handshake.meet(registers)
                    self._connection = plc.connections
                if not self._closing:
                    self._read()
                self._write()
        except PlcError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  a trigger that ends silently lets every part pass
            self._log.error("%s: the trigger failed", plc.uri, exc_info=error)
            return f"{plc.uri}: the trigger failed by {type(error).__name__}, see the log"
        return self._complaint()

    def _read(self) -> None:
        command = self._link.read_command()
        now_s = time.monotonic()
        if self._heartbeat is None or self._heartbeat[0] != command.heartbeat:
            self._heartbeat = (command.heartbeat, now_s)
        with self._lock:
            self._handshake.read(command, time.perf_counter_ns())

    def _write(self) -> None:
        now_s = time.monotonic()
        beat = self._closing or now_s - self._beat_s >= self._options.beat_s
        with self._lock:
            registers = self._handshake.shown(time.perf_counter_ns(), beat=beat)
        if registers is not None:
            self._link.write_status(registers)
            with self._lock:
                self._handshake.confirm()
            self._beat_s = now_s

    def _complaint(self) -> str | None:
        uri, silent_s = self._plc.uri, self._options.silent_s
        if (unknown := self._handshake.unknown_recipe) is not None:
            known = ", ".join(map(str, self._options.recipes))
            return f"{uri}: the PLC asks for recipe {unknown}, known are {known}: add it to recipes"
        if silent_s is not None and self._heartbeat is not None and time.monotonic() - self._heartbeat[1] > silent_s:
            return f"{uri}: the PLC's heartbeat has stood still for more than {silent_s:g} s: is it in stop?"
        return None

    def _report(self, problem: str | None) -> None:
        # A PLC that sends noise has another problem each time: a standing problem is replaced by one that comes twice.
        passing = problem is not None and problem != self._before and self._before is not None and self._has_looked
        self._before, self._has_looked = problem, True
        if problem != self._problem and not passing:
            self._log.log(logging.WARNING if problem else logging.INFO, "%s", problem or f"{self._plc.uri}: connected")
            self._problem = problem


def text_of(data: bytes) -> str:
    """Decode ASCII up to the first NUL; a character that cannot be printed becomes a question mark."""
    text = data.partition(b"\0")[0].decode("ascii", "replace")
    return "".join(character if " " <= character <= "~" else "?" for character in text).strip()
