"""Engines of an artifact: where they lie, and the stamps without which none is trusted.

`engines/` is a cache: no file of it is in the manifest. Beside each engine lies a stamp, which says what it was built
from, by what and for what. One that says something else than what is needed now is refused.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgead.artifact.folder import ENGINES, Artifact, Graph
from edgead.errors import SettingsError
from edgead.files.regular_files import MissingFileError, UnreadableFileError, open_regular
from edgead.runtime.device import Gpu, find_gpu
from edgead.runtime.engine_builder import EngineError, Profile, build_engine
from edgead.runtime.engine_cache import cache_file
from edgead.runtime.file_trust import planted
from edgead.runtime.flavour import INSTALL, Flavour, FlavourName, find_flavour, installed_flavours
from edgead.runtime.registry import graph_for

_MAX_BYTES = 4 << 30


class NoEngineError(SettingsError):
    """There is no engine for what is here; the message ends with the command that builds it."""


class PlantedEngineError(EngineError):
    """An engine that others than root and this user may have written."""


class Stamp(BaseModel):
    """What an engine is.

    Attributes
    ----------
    graph_sha256, engine_sha256 : str
        Of the graph it was built from, with its arrays as constants in it, and of the engine itself.
    flavour, version : str
        Of the TensorRT that built it; no other can be relied on to read it.
    target : str
        Compute capability, such as "sm86".
    gpu : str or None
        Name of the only GPU it is for; None for all of `target`.
    precision : str
        Of the graph.
    profile : dict
        Shape of every input, of one image.
    batch : int
        Images that it takes at once as well; 1 where it takes no more than one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    graph_sha256: str
    engine_sha256: str
    flavour: FlavourName
    version: str
    target: str
    gpu: str | None
    precision: str
    profile: Profile
    batch: int = 1


def precision_of_engine(precision: str) -> str:
    """Name the graph that an engine is built from: TensorRT takes no zero points, so for int8 the one without."""
    return "int8_symmetric" if precision == "int8" else precision


def make_engine(
    artifact: Artifact, *, target: str = "current", precision: str | None = None, batch: int = 1
) -> tuple[Path, Stamp]:
    """Build an engine and put it with its stamp into the artifact's `engines/`, in the place of an older one.

    Parameters
    ----------
    artifact : Artifact
    target : str, optional
        "current" for the GPU that is here, or such as "sm86".
    precision : str, optional
        Which of the artifact's graphs; by default the one that the manifest names.
    batch : int
        Of images that it is to take at once, beside one alone.

    Raises
    ------
    EngineError
        If TensorRT does not take the graph; nothing is written.
    SettingsError
        If nothing that is installed builds for `target`, or there is no GPU for "current".
    """
    graph = graph_for(artifact, precision, precision_of_engine)
    flavour = find_flavour(target)
    gpu = find_gpu() if target == "current" else None
    onnx = graph.read_whole()
    _make_folder(artifact.path / ENGINES)  # before: a build takes minutes
    # tensorrt_rtx measures nothing: it compiles where it runs.
    timings = cache_file("timing", flavour, gpu) if gpu and not flavour.targets else None
    content, profile = build_engine(graph.path, onnx, flavour, target, timings, batch=batch)
    stamp = Stamp(
        graph_sha256=_sha256(onnx),
        engine_sha256=_sha256(content),
        flavour=flavour.name,
        version=flavour.version,
        target=gpu.target if gpu else target,
        gpu=gpu.name if gpu else None,
        precision=graph.precision,
        profile=profile,
        batch=batch,
    )
    path = _path(artifact, graph.precision, flavour.name, stamp.target)
    # A reader between the two finds an engine that its stamp does not fit, and refuses it.
    _write(path, content)
    _write(_stamp_path(path), (stamp.model_dump_json(indent=1) + "\n").encode())
    return path, stamp


@dataclass(frozen=True, slots=True)
class Wanted:
    """The engine that fits what is here: this artifact's graph, this TensorRT, this GPU."""

    artifact: Artifact
    graph: Graph
    flavour: Flavour
    gpu: Gpu

    @property
    def path(self) -> Path:
        return _path(self.artifact, self.graph.precision, self.flavour.name, self.gpu.target)

    def read(self) -> bytes:
        """Read the engine, compared with its stamp, and its stamp with what is here.

        Raises
        ------
        NoEngineError
            If there is none for this GPU.
        EngineError
            If it is stale, foreign, edited or cut off. Both messages end with the command that builds it.
        """
        content = self._read(self.path)
        if content is None:
            raise NoEngineError(f"{self.path} is missing: {self._remedy()}")
        stamp = self._stamp()
        problem = self._problem(stamp, content) if stamp else "has no stamp that can be read"
        if problem:
            raise EngineError(f"{self.path} {problem}: {self._remedy(stamp.batch if stamp else 1)}")
        return content

    @property
    def batch(self) -> int:
        """Images that the engine that is there takes at once, stale or not; 1 where no stamp of it may be used."""
        try:
            stamp = self._stamp()
        except EngineError:
            return 1
        return stamp.batch if stamp else 1

    def _stamp(self) -> Stamp | None:
        try:
            return Stamp.model_validate_json(self._read(_stamp_path(self.path)) or b"")
        except ValidationError:
            return None

    def check_planted(self) -> None:
        """Raise PlantedEngineError where others than root and this user may have written what `read` would read."""
        for path in (self.path.parent, self.path, _stamp_path(self.path)):
            if path.exists():
                _refuse_planted(path, path.stat(), f"remove it and {self._remedy()}")

    def _read(self, file: Path) -> bytes | None:
        remedy = f"remove it and {self._remedy()}"
        try:
            _refuse_planted(file.parent, os.stat(file.parent), remedy)
            with open_regular(file, _MAX_BYTES) as (stream, found):
                _refuse_planted(file, found, remedy)
                return stream.read(found.st_size)
        except (FileNotFoundError, MissingFileError):
            return None
        except (OSError, UnreadableFileError) as error:
            raise EngineError(f"{file} cannot be used ({error}): {remedy}") from error

    def _problem(self, stamp: Stamp, content: bytes) -> str:
        """Report why an engine may not be used; "" if it may."""
        if stamp.engine_sha256 != _sha256(content):
            return "is not the file that was built (sha256 differs): it was edited or cut off"
        if (stamp.precision, stamp.graph_sha256) != (self.graph.precision, _sha256(self.graph.read_whole())):
            return f"was built from another graph than {self.graph.path.name} is now"
        if (stamp.flavour, stamp.version) != (self.flavour.name, self.flavour.version):
            return f"was built by {stamp.flavour} {stamp.version}, here is {self.flavour}"
        if stamp.target != self.gpu.target or stamp.gpu not in (None, self.gpu.name):
            return f"was built for {stamp.gpu or 'any GPU'} of {stamp.target}, here is {self.gpu}"
        return ""

    def _remedy(self, batch: int = 1) -> str:
        # By name where that works on any machine; otherwise it must be this one.
        target = self.gpu.target if self.gpu.target in self.flavour.targets else "current"
        options = f"--target {target} --precision {self.graph.precision}" + (f" --batch {batch}" if batch > 1 else "")
        return f'build it with "edgead engine {self.artifact.path} {options}"'


def find_engine(artifact: Artifact, graph: Graph, gpu: Gpu) -> Wanted:
    """Choose among the installed flavours the first that has an engine for this GPU, or else the first.

    Raises
    ------
    SettingsError
        If no TensorRT is installed.
    """
    choices = [Wanted(artifact, graph, flavour, gpu) for flavour in installed_flavours()]
    if not choices:
        raise SettingsError(f"TensorRT is not installed: {INSTALL}")
    return next((wanted for wanted in choices if wanted.path.exists()), choices[0])


def batch_of_engine(artifact: Artifact, precision: str | None) -> int:
    """Say how many images the engine for the GPU that is here takes at once; see `Wanted.batch`."""
    return find_engine(artifact, graph_for(artifact, precision, precision_of_engine), find_gpu()).batch


def _make_folder(folder: Path) -> None:
    """Make the folder of engines, or refuse one that others may write in."""
    try:
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask: what others may write is refused
    except FileExistsError:
        _refuse_planted(folder, folder.stat(), "remove it")


def _refuse_planted(path: Path, found: os.stat_result, remedy: str) -> None:
    problem = planted(found)
    if problem:
        raise PlantedEngineError(f"{path} {problem}: an engine runs what its author wants; {remedy}")


def _path(artifact: Artifact, precision: str, flavour: FlavourName, target: str) -> Path:
    return artifact.path / ENGINES / f"{precision}.{flavour}.{target}.engine"


def _stamp_path(engine: Path) -> Path:
    return engine.with_suffix(".json")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            temporary.chmod(0o644)  # as the folder
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
