"""A reject gate on an output line, in a process of its own: pulses at given times, and the line low when that ends.

`python -m edgead_plant.gate SETTINGS` reads times from its input and says on its output what became of each. It waits
for no inference, and when its input ends, as it does when the program that started it crashes, it sets the line low.
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
"""When a pulse begins: `time.monotonic_ns()`."""
RESULT = struct.Struct("<qq?")
"""That time, by how much the gate was late in ns, and whether there was a pulse."""
READY = b"ready\n"
NO_GPIOD = "the package gpiod is missing"
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class GateSettings:
    """A line, and how it is pulsed."""

    chip: str
    line: int
    active_low: bool
    pulse_ns: int
    late_ns: int  # what would come later gets no pulse

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Output(Protocol):
    """A line that is low until it is set."""

    def set(self, high: bool) -> None: ...

    def release(self) -> None: ...


class Gate:
    """Pulses a line at the times that it is given; a pulse that begins within another one lengthens it."""

    def __init__(self, output: Output, settings: GateSettings):
        self._output, self._settings = output, settings
        self._due: deque[int] = deque()
        self._until_ns: int | None = None

    def add(self, due_ns: int) -> None:
        self._due.append(due_ns)

    def next_ns(self) -> int | None:
        """When there is something to do next; None where nothing is."""
        times = [time_ns for time_ns in (self._until_ns, self._due[0] if self._due else None) if time_ns is not None]
        return min(times, default=None)

    def step(self, now_ns: int) -> list[tuple[int, int, bool]]:
        """Do what is due; gives a result for each pulse that was, or would have been."""
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


def serve(gate: Gate, orders: int, results: int) -> None:
    """Take times from a file descriptor until it ends; the line is low after that, whatever happened."""
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


def open_output(settings: GateSettings) -> Output:
    """Take a line as an output that is low (libgpiod, version 2)."""
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
    # What ends the program around it ends this too, by its input; until then parts are on their way.
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
        serve(Gate(output, settings), orders, results)


if __name__ == "__main__":
    main()
