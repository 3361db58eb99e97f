"""Typer application: options that several commands share, and help that lists the registered components."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from edgead.adapt.training.options import text_of
from edgead.cli.choices import filled
from edgead.cli.verbs import VerbGroup
from edgead.errors import SettingsError

_EMPTY = re.compile(r"(--[\w-]+=)?")
HELP = (
    "Visual anomaly detection on the edge: good images in, a calibrated detector in milliseconds out. Exit codes: 0 "
    "ok; 1 a check failed, or some of the images could not be judged; 2 wrong usage or unusable input."
)


RARE = "Rarely needed"
"""Panel of options that `--help` leaves out and `--help-all` shows."""


class ListingCommand(TyperCommand):
    """Command in whose help {detectors}, {sinks} and similar words become lists of registered components.

    An empty word among its arguments is refused.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:  # typer has click within it, or beside it, by its version
        rare = [parameter for parameter in self.params if getattr(parameter, "rich_help_panel", None) == RARE]
        for parameter in self.params:
            if isinstance(parameter, (TyperArgument, TyperOption)) and parameter.help:
                parameter.help = filled(parameter.help)
        if not rare or ctx.meta.get(RARE):
            super().format_help(ctx, formatter)
            return
        params, epilog = self.params, self.epilog
        more = f"`edgead {ctx.info_name} --help-all` has {len(rare)} more options, which are rarely needed."
        self.params = [parameter for parameter in params if parameter not in rare]
        self.epilog = "\n\n".join(filter(None, (epilog, more)))
        super().format_help(ctx, formatter)
        self.params, self.epilog = params, epilog

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--help-all" in args:
            ctx.meta[RARE] = True
            args = ["--help"]
        for number, word in enumerate(args, 1):
            if _EMPTY.fullmatch(word):  # as a path it would be the working directory
                found = f"{word} has no value" if word else f"argument {number} is empty"
                raise SettingsError(f"{ctx.command_path}: {found}: is a variable of the shell unset?")
        return super().parse_args(ctx, args)


class ListingApp(typer.Typer):
    """Typer application whose commands are `ListingCommand`s."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        return super().command(name, **{"cls": ListingCommand, **settings})


app = ListingApp(cls=VerbGroup, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)


def _model(path: Path) -> Path:
    from edgead.artifact.files import refuse_missing

    refuse_missing(path)  # before the imports that a verb needs
    return path


def _data(path: Path) -> Path:
    if not path.exists():
        raise SettingsError(f"{path}: no such folder")
    if path.is_file():
        from edgead.dataset.layouts.place import is_data_set  # which loads OpenCV

        if not is_data_set(path):
            raise SettingsError(f"{path} is a file: put it into a folder, and name that")
    return path


def of_training(option: str, *flags: str, **settings: Any) -> Any:
    """Declare an option with the text that `edgead.TrainOptions` has for it."""
    return typer.Option(*flags, help=text_of(option), **settings)


Model = Annotated[Path, typer.Argument(help="Directory of a trained model.", callback=_model)]
TrainingData = Annotated[
    Path,
    typer.Argument(
        help="Folder of good images, or a data set in MVTec layout (train/good) or another, or a file that lists its "
        "images; `edgead data show` says what it is.",
        metavar="DATA",
        callback=_data,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="Number of threads; by default the number of cores that edgead may use."),
]
Region = Annotated[str | None, of_training("roi", "--roi", metavar="X,Y,WIDTH,HEIGHT")]
FalseRejectRate = Annotated[float | None, of_training("false_reject_rate")]
ReviewRate = Annotated[float | None, of_training("review_rate")]
Group = Annotated[str, of_training("group", "--group")]
NormalDir = Annotated[str | None, of_training("normal_dir")]
StoreUrl = Annotated[
    str | None,
    typer.Option(help="SQLAlchemy URL of the store's database, if the database is not in the store's folder."),
]
Ignore = Annotated[list[str] | None, of_training("ignore")]
Align = Annotated[Path | None, of_training("align", exists=True)]
Seed = Annotated[int, of_training("seed", min=0)]


def _print_version(wanted: bool) -> None:
    if wanted:
        from edgead.version import __version__

        print(__version__)
        raise typer.Exit()


@app.callback()
def _settings(
    threads: Threads = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    if threads is not None:
        import cv2

        from edgead import kernels

        kernels.set_threads(threads)
        cv2.setNumThreads(threads)


def print_report(report: dict[str, Any], as_json: bool, table: Any) -> None:
    from edgead.cli.console import print_json, stdout

    if as_json:
        print_json(report)
    else:
        stdout.print(table(), crop=False)  # a path is never cut


def find_images(paths: list[Path], *, below: bool = True) -> list[Path]:
    """List files as they are, slices of volumes, and the images in folders and all folders below.

    Use `below=False` for images that count as good: their subfolders may hold defects. It searches no subfolders.

    Raises SettingsError: a wildcard that matches no file.
    """
    from edgead.images.files import is_image_path, list_images
    from edgead.images.pairs import belongs_to_colours, colour_folder
    from edgead.images.volume_readers import NIFTI_SUFFIXES
    from edgead.images.volumes import is_volume, slices_of, volume_of

    found: list[Path] = []
    for path in paths:
        if is_volume(path):
            found += slices_of(path)
            continue
        named = is_image_path(path) or volume_of(path) or path.name.lower().endswith(NIFTI_SUFFIXES)
        if any(sign in str(path) for sign in "*?[") and not path.exists():
            raise SettingsError(f"{path}: no file matches")
        is_file = path.is_file() or (named and not path.is_dir())
        if is_file:
            found.append(path)
        elif below:
            found += [image for image in list_images(path, below=True) if not belongs_to_colours(image)]
        else:
            found += list_images(colour_folder(path))
    return found


def read_setting(text: str) -> tuple[str, Any]:
    """Parse the NAME=VALUE of an option --set."""
    import yaml

    name, equals, value = text.partition("=")
    try:
        if name and equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise SettingsError(f"--set {text!r}: expected NAME=VALUE, such as window=3 or layers=[stride8,stride16]")


# Examples by the count of numbers that an option takes: one side, two sides, a region.
_NUMBERS = {1: "640", 2: "640x480", 4: "100,80,400,300"}


def read_numbers(option: str, text: str, counts: tuple[int, ...], *, repeat: int = 0) -> tuple[int, ...]:
    """Parse whole numbers from the text of an option; their count must be one of `counts`."""
    parts = text.replace("x", ",").split(",")
    if len(parts) not in counts or not all(part.strip().isdigit() for part in parts):
        raise SettingsError(
            f"{option} {text!r}: expected {' or '.join(map(str, counts))} whole numbers, "
            f"such as {' or '.join(_NUMBERS[count] for count in counts)}"
        )
    numbers = tuple(int(part) for part in parts)
    if min(numbers[-2:]) == 0:
        raise SettingsError(f"{option} {text!r}: height and width must be at least 1")
    return numbers * repeat if len(numbers) == 1 and repeat else numbers
