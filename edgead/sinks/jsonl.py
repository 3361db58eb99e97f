"""JSON lines: one line for each verdict, written as a whole or not at all."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgead.serialization import record_json
from edgead.sinks.contract import BaseSink, SinkError, write_error
from edgead.sinks.options import SinkOptions, read_path
from edgead.sinks.registry import register
from edgead.types import Frame, Verdict


class JsonlOptions(SinkOptions):
    """One line of JSON for each verdict, appended to a file; `-` is standard output."""

    kind: Literal["jsonl"]
    path: Annotated[Literal["-"] | Path, Field(description="File to append to; - is standard output.")]


class JsonlSink(BaseSink):
    """Sink that appends one line for each verdict to a file, or writes to standard output (`jsonl:-`).

    Every line is written in one call without a buffer, so that neither a reader nor a kill meets half a line.
    """

    needs_image = False

    def __init__(self, path: str):
        self.uri = f"jsonl:{path}"
        self._path = path
        self._file: io.FileIO | None = None
        if path == "-":
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)
            # A line that an earlier process left unfinished, when the power failed, is ended first.
            if not _ends_a_line(path):
                self._write(b"\n")
        except OSError as error:
            raise write_error(path, error) from error

    def write(self, frame: Frame, verdict: Verdict) -> None:
        line = record_json(frame, verdict) + "\n"
        try:
            if self._path == "-":
                sys.stdout.write(line)
                sys.stdout.flush()
            else:
                self._write(line.encode())
        except OSError as error:
            raise write_error("standard output" if self._path == "-" else self._path, error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, line: bytes) -> None:
        if self._file is None or self._file.closed:
            raise SinkError(f"{self.uri}: is closed")
        before = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError:
            # A full disk takes the first part of a line; a device has no length to go back to.
            if os.path.isfile(self._path):
                os.ftruncate(self._file.fileno(), before)
            raise


def _ends_a_line(path: str) -> bool:
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        return True
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


register(
    "jsonl",
    JsonlOptions,
    lambda name, options: JsonlSink(str(options.path)),
    schemes={"jsonl": "jsonl:PATH"},
    read_uri=lambda uri: read_path(uri, ()),
)
