"""Tracker `tensorboard:FOLDER`: losses, the seconds of each stage and the figures as scalars, settings as text."""

from __future__ import annotations

import json

from edgead.adapt.training.log import Record
from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead_tracking.figures import split

# Seconds between writes, so that an open page is kept up to date.
_FLUSH_S = 5


class TensorBoard:
    """Tracker that writes an event file into a folder; TensorBoard shows the folder's name as the run's name."""

    def __init__(self, where: str):
        if not where:
            raise SettingsError("tensorboard: names no folder: write tensorboard:runs/first")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            raise SettingsError(f"TensorBoard needs `{plugin_command('edgead-tracking[tensorboard]')}`") from None
        try:
            self._writer = SummaryWriter(where, flush_secs=_FLUSH_S)
        except OSError as error:
            raise SettingsError(f"tensorboard:{where}: cannot be written: {error.strerror}") from None

    def write(self, record: Record) -> None:
        writer = self._writer
        if record["event"] == "loss":
            writer.add_scalar(f"loss/{record['stage']}", record["loss"], record["step"])
        elif record["event"] == "stage":
            writer.add_scalar(f"took_seconds/{record['stage']}", record["took_seconds"])
        else:  # as a Markdown code block, which keeps line breaks
            writer.add_text(record["event"], "".join(f"    {line}\n" for line in _lines(record)))
            for name, value in split(record)[0].items() if record["event"] == "end" else ():
                writer.add_scalar(f"end/{name}", value)

    def close(self) -> None:
        self._writer.close()


def _lines(record: Record) -> list[str]:
    return json.dumps(record, indent=1, default=str).splitlines()
