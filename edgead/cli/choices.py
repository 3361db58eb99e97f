"""Options whose value is one of a list of words: fixed lists, and lists that other packages extend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import typer

PrecisionName = Literal["fp32", "fp16", "int8", "int8_symmetric"]
TrainedPrecision = Literal["auto", "fp32", "int8"]
DeviceName = Literal["auto", "cpu", "cuda"]
InputName = Literal["rgb", "grey16", "relief", "rgb_relief"]
ColourOrder = Literal["rgb", "bgr"]
LayoutName = Literal["nchw", "nhwc"]
PaletteName = Literal["warm", "blue"]


def _listed(what: str) -> Iterable[str]:
    """List registered names for help and completion; only their own registry is imported."""
    match what:
        case "detectors":
            from edgead.adapt.methods.registry import METHODS

            return METHODS
        case "runtimes":
            from edgead.runtime import RUNTIMES

            return RUNTIMES.all()
        case "makers":
            from edgead.synthetic.makers import MAKERS, OWN

            return *OWN, *MAKERS
        case "sorters":
            from edgead.unlabelled.sorting.sort import SORTERS

            return SORTERS
        case "screeners":
            from edgead.unlabelled.screening.screeners import SCREENERS

            return SCREENERS
        case "sources":
            from edgead.sources import SOURCES

            return (SOURCES.examples(),)
        case "sinks":
            from edgead.sinks import SINKS

            return (SINKS.examples(),)
        case "languages":
            from edgead.serialization import language_names

            return (f"{code} ({name})" for code, name in language_names().items())
    raise KeyError(what)


def filled(help_text: str) -> str:
    """Replace {detectors}, {sinks} and similar words by the registered names; import only the registries needed."""
    return re.sub(r"\{(\w+)\}", lambda place: ", ".join(_listed(place[1])), help_text)


def _known_language(context: typer.Context, code: str) -> str:
    if not context.resilient_parsing:
        from edgead.serialization import checked_language

        return checked_language(code)
    return code


def _completing(what: str, *more: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        names = (*more, *(name.partition(" ")[0] for name in _listed(what)))
        return [name for name in names if name.startswith(incomplete)]

    return complete


def _known_runtime(context: typer.Context, name: str) -> str:
    if name != "auto" and not context.resilient_parsing:  # for "auto" the registry is not loaded
        from edgead.runtime import checked_runtime

        return checked_runtime(name)
    return name


Runtime = Annotated[
    str,
    typer.Option(
        help="Runtime of the network: auto, or one of {runtimes}; options of a runtime follow a question mark.",
        callback=_known_runtime,
        autocompletion=_completing("runtimes", "auto"),
    ),
]
Precision = Annotated[
    PrecisionName | None,
    typer.Option(help="Precision of the graph to use; by default that of the model's default graph."),
]
Detector = Annotated[str, typer.Option(help="Method: one of {detectors}.", autocompletion=_completing("detectors"))]
MakingMethod = Annotated[
    str,
    typer.Option(
        help="One of {makers}: drawn needs no rejects; plug-ins add others, which learn from rejects.",
        autocompletion=_completing("makers"),
    ),
]
SortMethod = Annotated[
    str,
    typer.Option(
        help="One of {sorters}: residuals compares how rejects differ from good parts; plug-ins add others.",
        autocompletion=_completing("sorters"),
    ),
]
ScreenMethod = Annotated[
    str,
    typer.Option(
        help="One of {screeners}: mutual is edgead's own; plug-ins add others.",
        autocompletion=_completing("screeners"),
    ),
]
PluginSettings = Annotated[
    list[str] | None, typer.Option("--set", help="Setting of a plug-in's method, as NAME=VALUE; repeatable.")
]
Device = Annotated[DeviceName, typer.Option(help="Device to train on.")]
Language = Annotated[
    str,
    typer.Option(
        help="Language of the sentence that describes a reject or a review: one of {languages}.",
        callback=_known_language,
        autocompletion=_completing("languages"),
    ),
]
