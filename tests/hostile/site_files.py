"""Site files that someone careless or hostile may leave for a reload, each made from one that is well.

`SITE_FILES` maps a name to a function of the file, the site that it held, and a good model; those in `REFUSED` must be
refused where they are read, the others fail on the way, at a model or a sink.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from fakes import edit_manifest

Site = dict[str, Any]
Write = Callable[[Path, Site, Path], None]

SITE_FILES: dict[str, Write] = {}
REFUSED: set[str] = set()


def _text(name: str, text: str | bytes) -> None:
    def write(file: Path, site: Site, model: Path) -> None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    SITE_FILES[name] = write
    REFUSED.add(name)


def _changed(name: str, *where: str, value: Any, refused: bool = True) -> None:
    def write(file: Path, site: Site, model: Path) -> None:
        new = deepcopy(site)
        part = new
        for key in where[:-1]:
            part = part.setdefault(key, {})
        part[where[-1]] = value
        file.write_text(yaml.safe_dump(new))

    SITE_FILES[name] = write
    if refused:
        REFUSED.add(name)


def _file(name: str) -> Callable[[Callable[[Path], None]], None]:
    def register(make: Callable[[Path], None]) -> None:
        def write(file: Path, site: Site, model: Path) -> None:
            file.unlink()
            make(file)

        SITE_FILES[name] = write
        REFUSED.add(name)

    return register


def _model(name: str) -> Callable[[Callable[[Path], object]], None]:
    """A site that names a copy of the good model, which the decorated function has spoiled."""

    def register(spoil: Callable[[Path], object]) -> None:
        def write(file: Path, site: Site, model: Path) -> None:
            copy = file.parent / name.replace(" ", "-")
            shutil.copytree(model, copy)
            spoil(copy)
            new = deepcopy(site)
            new["pipelines"]["a"]["model"] = str(copy)
            file.write_text(yaml.safe_dump(new))

        SITE_FILES[name] = write

    return register


_MINIMAL = "cameras: {conveyor: {uri: 'synthetic:'}}\npipelines: {a: {camera: conveyor, model: m}}\n"
_BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))])

_text("empty", "")
_text("no yaml", "cameras: [")
_text("a list", "- cameras\n- pipelines\n")
_text("no utf-8", b"cameras: \xff\xfe\n")
_text("tabs", "cameras:\n\tconveyor: x\n")
_text("recursive alias", "cameras: &a {x: *a}\n")
_text("alias bomb", _BOMB)
_text("an alias that would do no harm", _MINIMAL + "x: &x 1\ny: *x\n")
_text("deep lists", "[" * 5000)
_text("deep maps", "{a: " * 5000)
_text("deep blocks", "".join(" " * n + "a:\n" for n in range(500)))
_text("python object", "!!python/object/apply:os.system ['true']\n")
_text("bad date", _MINIMAL + "x: 2026-13-45\n")
_text("bad tag", _MINIMAL + "x: !!int ''\n")
_text("bad timestamp", _MINIMAL + "x: !!timestamp 'never'\n")
_text("endless number", _MINIMAL + f"limits: {{restarts: 1{'0' * 5000}}}\n")
_text("long number", _MINIMAL + f"limits: {{drain_s: 1{'0' * 400}}}\n")
_text("more than a MiB", _MINIMAL + "# " + "x" * 2**20)
_text("half a character", 'cameras: {"\\ud800": {uri: "synthetic:"}}\n')
_text("two documents", _MINIMAL + "---\n" + _MINIMAL)
_changed("unknown key", "cameras", "conveyor", "fps", value=3)
_changed("host with an empty part", "http", "host", value="a..b")
_changed("host with a long part", "http", "host", value="a" * 80 + ".example")
_changed("broker with a long part", "sinks", "x", value={"kind": "mqtt", "host": "a" * 80})
_changed("webhook with an empty part", "sinks", "x", value={"kind": "webhook", "url": "http://a..b/x"})
_changed("endless interval", "pipelines", "a", "trigger", value={"kind": "interval", "every_s": 1e300})
_changed("interval of nothing", "pipelines", "a", "trigger", value={"kind": "interval", "every_s": 1e-300})
_changed("endless patience", "cameras", "conveyor", "read_timeout_s", value=1e300)
_changed("NUL in a sink", "sinks", "x", value={"kind": "uri", "uri": "jsonl:a\0b"})
_changed("NUL in a model", "pipelines", "a", "model", value="a\0b")
_changed("unset variable", "cameras", "conveyor", "uri", value="rtsp://${NOBODY_HAS_SET_THIS}/x")
_changed("sink that cannot be opened", "sinks", "x", value={"kind": "uri", "uri": "jsonl:/dev/null/x"}, refused=False)
_changed("model that is missing", "pipelines", "a", "model", value="missing", refused=False)
_changed("model with a long name", "pipelines", "a", "model", value="x" * 5000, refused=False)


@_file("FIFO")
def _fifo(file: Path) -> None:
    os.mkfifo(file)


@_file("folder")
def _folder(file: Path) -> None:
    file.mkdir()


@_file("device")
def _device(file: Path) -> None:
    file.symlink_to("/dev/zero")


@_file("symlink loop")
def _loop(file: Path) -> None:
    file.symlink_to(file.name)


@_file("gone")
def _gone(file: Path) -> None:
    pass


@_model("model that may not be read")
def _unreadable(model: Path) -> None:
    # By its name: the tests may run as root, who may read everything. See `UNREADABLE`.
    (model / "model.onnx").rename(model / "kept.onnx")
    (model / "model.onnx").symlink_to(model / "kept.onnx")


@_model("model in a symlink loop")
def _model_loop(model: Path) -> None:
    shutil.rmtree(model)
    model.symlink_to(model.name)


@_model("model with deep manifest")
def _deep_manifest(model: Path) -> None:
    (model / "manifest.json").write_text("[" * 100_000)


@_model("model with an empty bank")
def _empty_bank(model: Path) -> None:
    _replace_bank(model, b"")


@_model("model with a zip for a bank")
def _zip_bank(model: Path) -> None:
    archive = model / "bank.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("memory_bank.npy", b"x")
    data = archive.read_bytes()
    archive.unlink()
    _replace_bank(model, data)


@_model("model with a bank of a terabyte")
def _huge_bank(model: Path) -> None:
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 168), }"
    _replace_bank(model, b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + head.ljust(117) + b"\n")


def _replace_bank(model: Path, data: bytes) -> None:
    import hashlib

    (model / "memory_bank.npy").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_manifest(model, lambda content: content["files"].update({"memory_bank.npy": digest}))


# Run in the daemon before it starts: what `model that may not be read` names is refused, also to root.
UNREADABLE = """
import builtins, io, os
opened = io.open
def refusing(file, *arguments, **named):
    text = os.fspath(file) if isinstance(file, (str, os.PathLike)) else ""
    if "may-not-be-read/model.onnx" in str(text):
        raise PermissionError(13, "Permission denied", str(file))
    return opened(file, *arguments, **named)
builtins.open = io.open = refusing
"""
