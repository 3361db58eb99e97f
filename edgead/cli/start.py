"""Verb `start`: from images or a camera to a model in service, question by question."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.app import app
from edgead.cli.console import stderr, stdout
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import install_command

_BUILT_IN = "built-in line"
_SITE = Path("site.yaml")
# Of the extra `train`: without one of them no verb trains.
_TRAINS = ("torch", "onnx")


@app.command()
def start(
    source: Annotated[
        str | None, typer.Argument(help="A folder of good images, or a camera; it is asked for by default.")
    ] = None,
) -> None:
    """Begin here: a few questions, from images or a camera to a model in service.

    `edgead` alone on a terminal does the same. Each question shows what Enter takes. Ctrl-C ends it.
    """
    if not sys.stdin.isatty():
        raise SettingsError("nobody can be asked here: `edgead --help` lists the verbs")
    if problem := _cannot_train():
        stderr.print(problem, style="yellow", soft_wrap=True)
    chosen = _look(source) if source else _ask_source()
    if chosen == _BUILT_IN:
        _run("demo", "-o", str(_free("demo")))
        return
    model = _ask_model()
    if isinstance(chosen, Path):
        _run("train", str(chosen), "-o", str(model))
        _judge(model, chosen)
    else:
        _run("commission", chosen, "-o", str(model))
    _serve(model, chosen if isinstance(chosen, str) else None)


def _cannot_train() -> str | None:
    """Why nothing is trained here, and what learns all the same; None where the workstation's packages are there."""
    missing = [name for name in _TRAINS if find_spec(name) is None]
    if not missing:
        return None
    return (
        f"{', '.join(missing)}: missing, so nothing is trained from a folder here; the workstation's packages: "
        f"{install_command('train')}. Without them, `edgead studio` learns from a folder on its page, and `edgead "
        "commission camera:0 -o model` from good parts before a camera; the latter can be had here: name a camera."
    )


def _ask_source() -> Path | str:
    camera = "camera (camera:0, rtsp://...)"
    question, usual = (
        (f"A {camera}", None) if _cannot_train() else (f"A folder of good images, or a {camera}", _BUILT_IN)
    )
    while True:
        said = typer.prompt(question, default=usual).strip()
        try:
            return _look(said)
        except EdgeadError as error:
            stderr.print(str(error), style="yellow", soft_wrap=True)


def _look(said: str) -> Path | str:
    """A folder with good images in it, the address of a camera that is there, or the built-in line.

    Raises
    ------
    EdgeadError
        It is none of them.
    """
    from edgead.dataset.folders import find_good_images
    from edgead.sources import check_there

    folder = Path(said).expanduser()
    if ":" in said and not folder.exists():
        check_there(said)
        return said
    if problem := _cannot_train():
        raise SettingsError(problem)
    if said == _BUILT_IN:
        return said
    stdout.print(f"{len(find_good_images(folder))} good images")
    return folder


def _ask_model() -> Path:
    while True:
        model = Path(typer.prompt("Folder for the model", default=str(_free("model")))).expanduser()
        if not model.exists():
            return model
        stderr.print(f"{model} is there already: choose another name", style="yellow", soft_wrap=True)


def _judge(model: Path, data: Path) -> None:
    """Known defects are measured where the folder has them, else other images are judged that somebody names."""
    if (data / "test").is_dir():
        _run("eval", str(model), str(data), "--sheet", str(_free("mistakes.jpg")))
        return
    others = typer.prompt("A folder of other images to judge, good and bad", default="none").strip()
    if others != "none":
        _run("predict", str(model), str(Path(others).expanduser()), "--heat-maps", str(_free("heat_maps")))


def _serve(model: Path, camera: str | None) -> None:
    import yaml

    from edgead.files.atomic import write_whole

    camera = camera or typer.prompt("The camera of the line (camera:0, rtsp://...)", default="none").strip()
    if camera == "none":
        stdout.print(
            f"The model is {model}. To judge images: {shlex.join(['edgead', 'predict', str(model), 'IMAGES'])}"
        )
        return
    site = _free(str(_SITE))
    content = {
        "cameras": {"line": {"uri": camera}},
        "pipelines": {"line": {"camera": "line", "model": str(model)}},
        "store": {"folder": "evidence"},
        "http": {"port": 8080},
    }
    write_whole(site, yaml.safe_dump(content, sort_keys=False).encode())
    command = ("daemon", "-c", str(site))
    stdout.print(
        f"{site} says what runs. In service: {shlex.join(['edgead', *command])}, its page: http://127.0.0.1:8080"
    )
    if typer.confirm("Begin now?", default=False):
        _run(*command)


def _run(*words: str) -> None:
    """Run a verb in this process, as the line says that is shown for it."""
    stdout.print(f"\n$ {shlex.join(['edgead', *words])}", style="bold", soft_wrap=True)
    code = typer.main.get_command(app).main(list(words), prog_name="edgead", standalone_mode=False)
    if code:
        raise typer.Exit(code)


def _free(name: str) -> Path:
    """The name itself, or with the first number that is free."""
    path, number = Path(name), 2
    while path.exists():
        path = Path(name).with_name(f"{Path(name).stem}-{number}{Path(name).suffix}")
        number += 1
    return path
