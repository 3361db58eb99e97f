"""Trigger on a GPIO input line, such as a light barrier's (libgpiod, version 2)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from edgead.errors import SettingsError
from edgead.line.triggers import TriggerOptions, register
from edgead.line.triggers.timing import SoftwareTrigger
from edgead.process.installation import plugin_command
from edgead.types import Frame

logger = logging.getLogger(__name__)

_POLL_S = 0.1


class GpioOptions(TriggerOptions):
    """Judge the next frame after an edge on a GPIO input (`pip install 'edgead-plant[gpio]'`)."""

    kind: Literal["gpio"]
    chip: Annotated[str, Field(description="Device of the GPIO chip.")] = "/dev/gpiochip0"
    line: Annotated[int, Field(ge=0, le=65_535, description="Number of the line.")]
    edge: Annotated[Literal["rising", "falling"], Field(description="Edge that asks for a frame.")] = "rising"
    debounce_ms: Annotated[
        float, Field(ge=0, le=60_000, description="Edges within this time after another edge are left out.")
    ] = 5.0


class InputLine(Protocol):
    """Input line as the trigger uses it, such as `gpiod.LineRequest`."""

    def wait_edge_events(self, timeout: float | None = None) -> bool: ...
    def read_edge_events(self) -> list[Any]: ...
    def release(self) -> None: ...


class GpioTrigger:
    """Trigger that accepts the first frame captured after an edge, by the kernel's time of that edge.

    Raises SettingsError: the package `gpiod` is missing, or the line cannot be requested. `accepts` raises it if the
        line was lost: otherwise no part would be judged and nobody would notice.
    """

    def __init__(self, section: GpioOptions, request: Callable[[GpioOptions], InputLine] | None = None):
        self._section = section
        self._lost: str | None = None
        self._line = (request or _request)(section)
        self._trigger = SoftwareTrigger()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"gpio {section.chip} {section.line}", daemon=True)
        self._thread.start()

    def accepts(self, frame: Frame) -> bool:
        if self._lost is not None:
            raise SettingsError(f"trigger on line {self._section.line} of {self._section.chip}: lost: {self._lost}")
        return self._trigger.accepts(frame)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._line.release()

    def _watch(self) -> None:
        try:
            while not self._closing.is_set():
                if self._line.wait_edge_events(_POLL_S):
                    for event in self._line.read_edge_events():
                        # The same clock as perf_counter_ns on Linux, CLOCK_MONOTONIC: both times are comparable.
                        self._trigger.fire(event.timestamp_ns)
        except OSError as error:
            self._lost = error.strerror or str(error)
        except Exception as error:  # noqa: BLE001  a trigger that ends in silence lets every part pass
            logger.exception("trigger on line %d of %s failed", self._section.line, self._section.chip)
            self._lost = f"the program failed ({type(error).__name__}), see the log"


def _request(section: GpioOptions) -> InputLine:
    with _explained(section):
        import gpiod
        from gpiod.line import Bias, Clock, Edge

        settings = gpiod.LineSettings(
            edge_detection=Edge.RISING if section.edge == "rising" else Edge.FALLING,
            bias=Bias.AS_IS,
            debounce_period=timedelta(milliseconds=section.debounce_ms),
            event_clock=Clock.MONOTONIC,
        )
        return gpiod.request_lines(section.chip, consumer="edgead", config={section.line: settings})


@contextmanager
def _explained(section: GpioOptions) -> Iterator[None]:
    where = f"trigger on line {section.line} of {section.chip}"
    try:
        yield
    except ImportError:
        install = plugin_command("edgead-plant[gpio]")
        raise SettingsError(f"{where}: install libgpiod for Python with `{install}`") from None
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{where}: cannot be had ({error}); `gpioinfo` lists the lines; the user must be in the chip's group"
        ) from error


register("gpio", GpioOptions, GpioTrigger)
