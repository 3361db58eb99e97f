"""How many records pass, and that those left out are counted."""

from __future__ import annotations

import logging

from edgead.process.log_rate import LogRate, limited_log


def test_so_many_pass_within_a_time_and_the_next_says_what_was_left_out(caplog):
    now_s = [0.0]
    log = logging.Logger("noisy")
    log.addFilter(LogRate(2, 60, clock=lambda: now_s[0]))
    log.addHandler(caplog.handler)
    for number in range(5):
        log.warning("broken %d", number)
    now_s[0] = 60.0
    log.warning("broken %d", 5)
    log.warning("broken %d", 6)
    assert caplog.messages == ["broken 0", "broken 1", "broken 5 (3 records before it were left out)", "broken 6"]


def test_two_parts_do_not_share_their_limit(caplog):
    for _ in range(2):
        log = limited_log("edgead.part", 1, 60)
        log.warning("broken")
        log.warning("broken")
    assert caplog.messages == ["broken", "broken"]
    assert {record.name for record in caplog.records} == {"edgead.part"}
