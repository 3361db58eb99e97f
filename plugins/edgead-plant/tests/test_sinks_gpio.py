"""The reject gate: its pulses against a clock, and its process with a line that is a file."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import wait_until
from verdicts import Line

from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead.sinks import open_queued, open_sink
from edgead.sinks.contract import SinkError
from edgead_plant.gate_process import GateSettings, PulseGenerator
from edgead_plant.sinks.gpio import GateOptions

MS = 10**6
# The line is a file that each change of it is appended to, with its time.
FILE_LINE = """
import os, time
from edgead_plant import gate_process as gate
class FileOutput:
    def __init__(self, settings):
        self._file = os.open(settings.chip, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    def set(self, high):
        os.write(self._file, f"{int(high)} {time.monotonic_ns()}\\n".encode())
    def release(self):
        os.close(self._file)
gate.open_output = FileOutput
gate.main()
"""


class Output:
    def __init__(self):
        self.changes, self.released = [], False

    def set(self, high):
        self.changes.append(high)

    def release(self):
        self.released = True


def gate_of(output, pulse_ms=10, late_ms=5):
    return PulseGenerator(output, GateSettings("chip", 1, False, pulse_ms * MS, late_ms * MS))


def test_a_pulse_begins_when_it_is_due_and_ends():
    output = Output()
    gate = gate_of(output)
    gate.add(100 * MS)
    assert gate.next_ns() == 100 * MS and gate.step(99 * MS) == [] and output.changes == []
    assert gate.step(101 * MS) == [(100 * MS, MS, True)] and output.changes == [True]
    assert gate.next_ns() == 111 * MS
    gate.step(111 * MS)
    assert output.changes == [True, False] and gate.next_ns() is None


def test_pulses_that_overlap_are_one_that_is_longer():
    output = Output()
    gate = gate_of(output)
    gate.add(100 * MS)
    gate.add(105 * MS)
    for now_ns in (100 * MS, 105 * MS, 110 * MS):
        gate.step(now_ns)
    assert output.changes == [True] and gate.next_ns() == 115 * MS
    gate.step(115 * MS)
    assert output.changes == [True, False]


def test_what_would_be_too_late_gets_no_pulse():
    output = Output()
    gate = gate_of(output)
    gate.add(100 * MS)
    assert gate.step(106 * MS) == [(100 * MS, 6 * MS, False)] and output.changes == []


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 30))
def test_the_line_is_high_at_every_due_time_and_low_at_the_end(gaps, pulse):
    output = Output()
    gate = gate_of(output, pulse)
    due = [sum(gaps[: index + 1]) * MS for index in range(len(gaps))]
    for each in due:
        gate.add(each)
    high_at = []
    while (now_ns := gate.next_ns()) is not None:
        gate.step(now_ns)
        high_at += [now_ns] if output.changes[-1] else []
    assert set(due) <= set(high_at)
    assert output.changes == [True, False] * (len(output.changes) // 2)


@pytest.fixture
def file_line(monkeypatch, tmp_path):
    monkeypatch.setattr("edgead_plant.sinks.gpio._PROGRAM", ("-c", FILE_LINE))
    return tmp_path / "line"


def options(line, **settings):
    values = {"kind": "gpio", "chip": str(line), "line": 4, "delay_ms": 100, "pulse_ms": 20, "late_ms": 1000}
    return GateOptions.model_validate({**values, **settings})


def changes(line):
    return [tuple(map(int, row.split())) for row in line.read_text().splitlines()] if line.exists() else []


def captured_now(line, score=0.9):
    frame, verdict = line.part(score)
    return replace(frame, captured_ns=time.perf_counter_ns()), verdict


def test_rejects_on_their_way_are_ejected_in_time(file_line):
    line, captured = Line(), []
    queued = open_queued("gate", options(file_line))
    with closing(queued):
        for score in (0.9, 0.1, 0.9, 0.45, 0.9):
            frame, verdict = captured_now(line, score)
            captured += [frame.captured_ns] if score == 0.9 else []
            queued.write(frame, verdict)
            time.sleep(0.03)
        wait_until(lambda: len(changes(file_line)) == 6)
        status = queued.status()
        assert (status.written, status.failed, status.problem) == (3, 0, None)
    found = changes(file_line)
    assert [high for high, _ in found] == [1, 0, 1, 0, 1, 0, 0]
    begun = [at for high, at in found if high]
    # Never early; how late it is the machine decides, which other work shares.
    assert all(at - (was + 100 * MS) >= 0 for at, was in zip(begun, captured, strict=True))


def test_a_verdict_after_its_part_has_passed_is_reported_and_counted(file_line):
    with closing(open_queued("gate", options(file_line, late_ms=5))) as queued:
        frame, verdict = captured_now(Line())
        queued.write(replace(frame, captured_ns=frame.captured_ns - 300 * MS), verdict)
        wait_until(lambda: queued.status().failed == 1)
        assert re.search("of frame 0 came [0-9.]+ ms too late for the gate.*not ejected", queued.status().problem)
    assert [high for high, _ in changes(file_line)] == [0]


def test_parts_on_their_way_at_the_end_are_reported(file_line, monkeypatch):
    monkeypatch.setattr("edgead_plant.sinks.gpio._LEAVE_S", 0.2)
    sink = open_sink(f"gpio:4?chip={file_line}&delay_ms=60000")
    sink.write(*captured_now(Line()))
    with pytest.raises(SinkError, match="1 parts were still on their way to the gate and were not ejected"):
        sink.close()
    sink.close()
    assert [high for high, _ in changes(file_line)] == [0]


def test_a_gate_whose_process_was_killed_is_started_again(file_line):
    line = Line()
    with closing(open_queued("gate", options(file_line, delay_ms=60_000, late_ms=1))) as queued:
        queued.write(*captured_now(line))
        wait_until(lambda: queued.status().written == 1)
        queued._sink._process.kill()
        wait_until(lambda: "process has ended: 1 parts were not ejected" in (queued.status().problem or ""))
        before = queued._sink._process.pid
        queued.write(*captured_now(line))
        wait_until(lambda: queued.status().written == 2)
        assert queued._sink._process.pid != before


def test_the_line_is_low_after_a_crash(file_line):
    code = f"""
import os, time
import edgead_plant.sinks.gpio as gpio
from edgead.types import Frame
gpio._PROGRAM = ("-c", {FILE_LINE!r})
times = dict(delay_ms=0, pulse_ms=60000, late_ms=10000)
sink = gpio.GateSink(gpio.GateOptions(kind="gpio", chip={str(file_line)!r}, line=4, **times))
sink.write(Frame(None, 0, time.perf_counter_ns(), None, ""), None)
print("written", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"written\n"
            wait_until(lambda: [high for high, _ in changes(file_line)] == [1])
        finally:
            process.kill()
    wait_until(lambda: [high for high, _ in changes(file_line)] == [1, 0])


def test_a_line_that_is_not_there_says_so():
    install = re.escape(plugin_command("edgead-plant[gpio]"))
    with pytest.raises(SettingsError, match=f"gpio:4.*chip=/dev/nothing: .*(gpioinfo|{install})"):
        open_queued("gate", options("/dev/nothing"))
