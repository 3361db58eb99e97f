"""Reject gate on an output line, run in its own process: pulses at given times, and sets the line low when it ends.

`python -m edgead_plant.gate_process SETTINGS` reads times from its input and writes the result of each to its output.
No inference delays the process. When its input ends, also by a crash of the parent program, it sets the line low.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Protocol

ORDER = struct.Struct("<q")
"""Order of a pulse: the time at which it begins, on the clock of `time.monotonic_ns()`."""
RESULT = struct.Struct("<qq?")
"""Result of an order: the ordered time, the gate's delay in ns, and whether it pulsed."""
READY = b"ready\n"
NO_GPIOD = "the package gpiod is missing"
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Output line and the pulses on it."""

    chip: str
    line: int
    active_low: bool
    pulse_ns: int
    late_ns: int  # largest delay of a pulse; a later one is left out

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class OutputLine(Protocol):
    """Output line that is low until it is set."""

    def set(self, high: bool) -> None: ...
    def release(self) -> None: ...


class PulseGenerator:
    """Generator of pulses on a line at the times added; a pulse that begins within another pulse lengthens it."""

    def __init__(self, output: OutputLine, settings: GateSettings):
        self._output, self._settings = output, settings
        self._due: deque[int] = deque()
        self._until_ns: int | None = None

    def add(self, due_ns: int) -> None:
        self._due.append(due_ns)

    def next_ns(self) -> int | None:
        """Return the time at which `step` has to be called next, or None if nothing is due."""
        times = [time_ns for time_ns in (self._until_ns, self._due[0] if self._due else None) if time_ns is not None]
        return min(times, default=None)

    def step(self, now_ns: int) -> list[tuple[int, int, bool]]:
        """Start and end pulses that are due at `now_ns`; return the values of a `RESULT` for each pulse."""
        results = []
        while self._due and self._due[0] <= now_ns:
            due_ns = self._due.popleft()
            late_ns = now_ns - due_ns
            fires = late_ns <= self._settings.late_ns
            if fires:
                if self._until_ns is None:
                    self._output.set(True)
                self._until_ns = now_ns + self._settings.pulse_ns
            results.append((due_ns, late_ns, fires))
        if self._until_ns is not None and self._until_ns <= now_ns:
            self._output.set(False)
            self._until_ns = None
        return results

    def close(self) -> None:
        self._output.set(False)
        self._output.release()


def serve(gate: PulseGenerator, orders: int, results: int) -> None:
    """Read orders from a file descriptor until it ends; then, or after any error, set the line low."""
    rest = b""
    try:
        while True:
            next_ns = gate.next_ns()
            wait_s = None if next_ns is None else max(0, next_ns - time.monotonic_ns()) / 1e9
            if select.select([orders], [], [], wait_s)[0]:
                data = os.read(orders, _MAX_BYTES)
                if not data:
                    return
                rest += data
                whole = len(rest) - len(rest) % ORDER.size
                for (due_ns,) in ORDER.iter_unpack(rest[:whole]):
                    gate.add(due_ns)
                rest = rest[whole:]
            for result in gate.step(time.monotonic_ns()):
                os.write(results, RESULT.pack(*result))
    except BrokenPipeError:
        return
    finally:
        gate.close()


def open_output(settings: GateSettings) -> OutputLine:
    """Request a line as an output and set it low (libgpiod, version 2)."""
    import gpiod
    from gpiod.line import Direction, Value

    values = {False: Value.INACTIVE, True: Value.ACTIVE}
    line = gpiod.LineSettings(direction=Direction.OUTPUT, active_low=settings.active_low, output_value=Value.INACTIVE)
    request = gpiod.request_lines(settings.chip, consumer="edgead gate", config={settings.line: line})

    class GpioOutput:
        def set(self, high: bool) -> None:
            request.set_value(settings.line, values[high])

        def release(self) -> None:
            request.release()

    return GpioOutput()


def main() -> None:
    # Signals that end the program around this one are ignored: its input ends then, and parts are on their way so long.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = GateSettings(**json.loads(sys.argv[1]))
    orders, results = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        output = open_output(settings)
    except ImportError:
        os.write(results, f"{NO_GPIOD}\n".encode())
    except (OSError, ValueError) as error:
        os.write(results, f"{error}\n".encode())
    else:
        os.write(results, READY)
        serve(PulseGenerator(output, settings), orders, results)


if __name__ == "__main__":
    main()
