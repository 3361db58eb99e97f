"""A PLC that answers with garbage fails its verdicts, and gets the next one as soon as it answers rightly."""

from __future__ import annotations

from contextlib import closing

import pytest
from patience import wait_until
from verdicts import Line

pytest.importorskip("pymodbus", reason="MODBUS NOT TESTED: pip install 'edgead[daemon]'")
from hostile.plc import KINDS, HostilePlc, right

from edgead.sinks import open_queued
from edgead.sinks.modbus import ModbusOptions

# Not refused: no harm comes of the second answer, and an echo of a write has the beginning of its answer.
MAY_BE_TAKEN = {"twice", "echo"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_plc_that_answers_with_garbage(kind, caplog):
    line = Line()
    with closing(HostilePlc(KINDS[kind])) as plc:
        section = {"kind": "modbus", "host": "127.0.0.1", "port": plc.port, "unit": 7, "timeout_s": 0.3}
        queued = open_queued("plc", ModbusOptions.model_validate(section))
        try:
            for count in range(1, 4):
                queued.write(*line.part(0.9))
                wait_until(lambda count=count: queued.status().failed + queued.status().written == count)
            status = queued.status()
            assert plc.requests >= 3 or kind in MAY_BE_TAKEN
            if kind not in MAY_BE_TAKEN:
                assert status.failed == 3
                assert status.problem.startswith(f"modbus://127.0.0.1:{plc.port}?unit=7: ")
            assert "see the log" not in (status.problem or "") and not caplog.records
            plc.answer = right
            wait_until(lambda: (queued.write(*line.part(0.9)), queued.status().written > status.written)[1])
            assert queued.status().problem is None
        finally:
            queued.close(0.5)
