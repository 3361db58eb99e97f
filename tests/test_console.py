"""What others name is shown on a terminal, and moves nothing there."""

from __future__ import annotations

from rich.table import Table

from edgead.cli.console import stderr, stdout


def test_commands_for_the_terminal_are_shown_and_not_followed():
    name = "a\x1b]0;pwned\x07\x1b[2J\x9b1m\u202egnp.b ü　名.png"
    shown = "a\\x1b]0;pwned\\x07\\x1b[2J\\x9b1m\\u202egnp.b ü　名.png"
    table = Table("device")
    table.add_row(name)
    for console in (stdout, stderr):
        for printed in (name, table):
            with console.capture() as capture:
                console.print(printed, soft_wrap=True)
            assert shown in capture.get()
