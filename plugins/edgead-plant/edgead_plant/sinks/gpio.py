"""Sink that operates a reject gate: a pulse on a GPIO line, a given time after the capture (libgpiod, version 2)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Annotated, Any, Literal

from pydantic import Field

from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead.process.log_rate import limited_log
from edgead.sinks import BaseSink, SinkError, SinkOptions, read_path, register
from edgead.sinks.contract import CHOICES
from edgead.sinks.options import Only
from edgead.types import Frame, Verdict
from edgead_plant.gate_process import NO_GPIOD, ORDER, READY, RESULT, GateSettings

_PROGRAM = ("-m", "edgead_plant.gate_process")
_LEAVE_S = 1.0


class GateOptions(SinkOptions):
    """A pulse on a GPIO output for each reject, a given time after its capture (`pip install 'edgead-plant[gpio]'`)."""

    kind: Literal["gpio"]
    chip: Annotated[str, Field(min_length=1, description="Device of the GPIO chip.")] = "/dev/gpiochip0"
    line: Annotated[int, Field(ge=0, le=65_535, description="Number of the line.")]
    active_low: Annotated[bool, Field(description="The gate opens at 0 V.")] = False
    delay_ms: Annotated[
        float, Field(ge=0, le=600_000, description="From the capture to the pulse: a part's way to the gate.")
    ]
    pulse_ms: Annotated[float, Field(ge=1, le=60_000, description="Length of a pulse.")] = 50.0
    late_ms: Annotated[
        float, Field(ge=0, le=10_000, description="A pulse that would be later than this is left out, and is a fault.")
    ] = 5.0
    only: Annotated[Only, Field(description="Decision that ejects a part; review means reject too.")] = "reject"


class GateSink(BaseSink):
    """Sink that opens a gate for each part to be ejected, when the part is before the gate.

    Several parts may be on their way at once. A separate process holds the line, so that no inference delays a pulse,
    and the line goes low when this program ends for whatever reason.

    Raises SettingsError: the package `gpiod` is missing, or the line cannot be requested.
    """

    needs_image = False

    def __init__(self, options: GateOptions):
        self.uri = f"gpio:{options.line}?chip={options.chip}"
        self.decisions = CHOICES[options.only]
        self._options = options
        self._delay_ns, self._late_ns = round(options.delay_ms * 1e6), round(options.late_ms * 1e6)
        self._log = limited_log(__name__, 20, 60.0)
        self._changed = threading.Condition()
        self._under_way = self._late = 0
        self._problem: str | None = None
        self._closed = False
        self._start()

    @property
    def problem(self) -> str | None:
        return self._problem

    def write(self, frame: Frame, verdict: Verdict) -> None:
        """Schedule the opening of the gate for a part that is to be ejected.

        Raises SinkError: the part has passed the gate already, or the gate's process has ended; the next part restarts
            it.
        """
        due_ns = frame.captured_ns + self._delay_ns
        late_ns = time.perf_counter_ns() - due_ns
        if late_ns > self._late_ns:
            raise SinkError(
                f"{self.uri}: the verdict of frame {frame.number} came {late_ns / 1e6:.1f} ms too late for the gate, "
                f"which opens {self._options.delay_ms:g} ms after the capture: the part was not ejected"
            )
        if self._ended:
            self._start_again()
        with self._changed:
            self._under_way += 1
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(ORDER.pack(due_ns))
        except OSError:
            raise SinkError(f"{self.uri}: the gate's process has ended: the part was not ejected") from None

    def close(self) -> None:
        """Wait a short time for parts on their way, then set the line low.

        Raises SinkError: some parts were still on their way, and are not ejected.
        """
        if self._closed:
            return
        self._closed = True
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, _LEAVE_S)
            left = self._under_way
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_LEAVE_S)
        if left:
            raise SinkError(f"{self.uri}: {left} parts were still on their way to the gate and were not ejected")

    def _start(self) -> None:
        options = self._options
        pulse_ns = round(options.pulse_ms * 1e6)
        settings = GateSettings(options.chip, options.line, options.active_low, pulse_ns, self._late_ns)
        self._process = subprocess.Popen(
            [sys.executable, *_PROGRAM, settings.to_json()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if answer != READY:
            with self._process:  # waits for its end, and closes its pipes
                raise SettingsError(f"{self.uri}: {_refused(answer.decode().strip())}")
        self._under_way, self._ended = 0, False
        self._reader = threading.Thread(
            target=self._read, args=(self._process,), name=f"gate {options.line}", daemon=True
        )
        self._reader.start()

    def _start_again(self) -> None:
        with self._process:  # waits for its end, and closes its pipes
            pass
        try:
            self._start()
        except SettingsError as error:
            raise SinkError(f"{error}: the part was not ejected") from None

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Read the result of each pulse until the gate's process ends."""
        assert process.stdout is not None
        rest = b""
        while data := process.stdout.read(4096):
            rest += data
            whole = len(rest) - len(rest) % RESULT.size
            for _, late_ns, fired in RESULT.iter_unpack(rest[:whole]):
                self._count(late_ns, fired)
            rest = rest[whole:]
        process.stdout.close()
        with self._changed:
            self._ended = True  # its pipe ends sooner than its exit status is known
            if not self._closed and self._under_way:
                self._report(f"the gate's process has ended: {self._under_way} parts were not ejected")
            self._changed.notify_all()

    def _count(self, late_ns: int, fired: bool) -> None:
        with self._changed:
            self._under_way -= 1
            if fired:
                self._problem = None
            else:
                self._late += 1
                self._report(
                    f"the computer was busy, a pulse would have come {late_ns / 1e6:.1f} ms too late: the part was not "
                    f"ejected ({self._late} so far)"
                )
            self._changed.notify_all()

    def _report(self, what: str) -> None:
        self._problem = f"{self.uri}: {what}"
        self._log.error("%s", self._problem)


def _refused(reason: str) -> str:
    if reason == NO_GPIOD:
        return f"install libgpiod for Python with `{plugin_command('edgead-plant[gpio]')}`"
    why = reason or "its process has ended"
    return f"cannot be had ({why}); `gpioinfo` lists the lines; the user must be in the chip's group"


def _read_uri(uri: str) -> dict[str, Any]:
    return dict(read_path(uri, ("chip", "active_low", "delay_ms", "pulse_ms", "late_ms", "only"), "line"))


register(
    "gpio",
    GateOptions,
    lambda name, options: GateSink(options),
    schemes={"gpio": "gpio:17?delay_ms=250&pulse_ms=40"},
    read_uri=_read_uri,
)
