"""A sink: one line for each verdict of a file, such as `tally:out/tally.txt?mark=x`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edgead.sinks import BaseSink, SinkError, SinkOptions, read_path, register
from edgead.types import Frame, Verdict


class TallyOptions(SinkOptions):
    """A mark for each verdict, in a file."""

    kind: Literal["tally"]
    path: Path
    mark: Annotated[str, Field(min_length=1, max_length=8, description="What is written.")] = "|"


class TallySink(BaseSink):
    needs_image = False

    def __init__(self, name: str, options: TallyOptions):
        self.uri = f"tally:{options.path}"
        self._options = options

    def write(self, frame: Frame, verdict: Verdict) -> None:
        try:
            with self._options.path.open("a") as file:
                file.write(f"{self._options.mark} {verdict.decision}\n")
        except OSError as error:
            raise SinkError(f"{self.uri}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        pass


register(
    "tally",
    TallyOptions,
    TallySink,
    schemes={"tally": "tally:PATH?mark=x"},
    read_uri=lambda uri: read_path(uri, ("mark",)),
)
