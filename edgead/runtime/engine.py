"""Engine files of an artifact, and the stamps without which none is trusted.

`engines/` is a cache: its files are not in the manifest. The stamp beside each engine records the graph it was built
from, the TensorRT that built it and the GPU. An engine whose stamp does not fit is refused.
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
    """Missing engine for this machine's GPU; the message ends with the command that builds it."""


class PlantedEngineError(EngineError):
    """Engine that users other than root and this one may have written."""


class Stamp(BaseModel):
    """Stamp of an engine: the graph, TensorRT and GPU that it belongs to.

    `graph_sha256`, `engine_sha256`: hashes of the graph it was built from, with its arrays as constants, and of the
        engine itself.
    `flavour`, `version`: TensorRT that built it; others may fail to load it.
    `target`: compute capability, such as "sm86".
    `gpu`: name of the only GPU model it is for; None for all of `target`.
    `precision`: precision of the graph.
    `profile`: shape of every input, for one image.
    `batch`: size of the batches that it takes besides single images; 1 if it takes only single images.
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
    """Name the graph that an engine is built from: for int8 the symmetric one, as TensorRT takes no zero points."""
    return "int8_symmetric" if precision == "int8" else precision


def make_engine(
    artifact: Artifact, *, target: str = "current", precision: str | None = None, batch: int = 1
) -> tuple[Path, Stamp]:
    """Build an engine and write it with its stamp to the artifact's `engines/`, replacing an older one.

    `target`: "current" for this machine's GPU, or a compute capability such as "sm86".
    `precision`: graph to build from; by default the one that the manifest names.
    `batch`: size of the batches that it shall take besides single images.
    Raises EngineError: TensorRT does not take the graph; nothing is written.
    Raises SettingsError: no installed TensorRT builds for `target`, or there is no GPU for "current".
    """
    graph = graph_for(artifact, precision, precision_of_engine)
    flavour = find_flavour(target)
    gpu = find_gpu() if target == "current" else None
    onnx = graph.read_whole()
    _make_folder(artifact.path / ENGINES)  # before the build, which takes minutes
    # tensorrt_rtx has no timings: it compiles when it runs.
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
    # Between the two writes the stamp does not fit the engine, so that a reader refuses it.
    _write(path, content)
    _write(_stamp_path(path), (stamp.model_dump_json(indent=1) + "\n").encode())
    return path, stamp


@dataclass(frozen=True, slots=True)
class EngineFile:
    """Engine file for this artifact's graph on this machine's TensorRT and GPU; it need not exist."""

    artifact: Artifact
    graph: Graph
    flavour: Flavour
    gpu: Gpu

    @property
    def path(self) -> Path:
        return _path(self.artifact, self.graph.precision, self.flavour.name, self.gpu.target)

    def read(self) -> bytes:
        """Read the engine, checked against its stamp, and the stamp against this machine and graph.

        Raises NoEngineError: there is no engine for this GPU.
        Raises EngineError: the engine is stale, foreign, edited or cut off. Both messages end with the command that
            builds it.
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
        """Batch size of the existing engine, stale or not; 1 without a usable stamp."""
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
        """Raise PlantedEngineError if users other than root and this one may have written the engine or its stamp."""
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
        """Return the reason why an engine may not be used, or ""."""
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
        # By its path if the engine can be used on any machine; otherwise it must be built on this one.
        target = self.gpu.target if self.gpu.target in self.flavour.targets else "current"
        options = f"--target {target} --precision {self.graph.precision}" + (f" --batch {batch}" if batch > 1 else "")
        return f'build it with "edgead engine {self.artifact.path} {options}"'


def find_engine(artifact: Artifact, graph: Graph, gpu: Gpu) -> EngineFile:
    """Choose the first installed TensorRT that has an engine for this GPU, or else the first.

    Raises SettingsError: no TensorRT is installed.
    """
    choices = [EngineFile(artifact, graph, flavour, gpu) for flavour in installed_flavours()]
    if not choices:
        raise SettingsError(f"TensorRT is not installed: {INSTALL}")
    return next((wanted for wanted in choices if wanted.path.exists()), choices[0])


def batch_of_engine(artifact: Artifact, precision: str | None) -> int:
    """Return the batch size of the engine for this machine's GPU; see `EngineFile.batch`."""
    return find_engine(artifact, graph_for(artifact, precision, precision_of_engine), find_gpu()).batch


def _make_folder(folder: Path) -> None:
    """Make the folder of engines, or refuse one that other users can write in."""
    try:
        folder.mkdir()
        folder.chmod(0o755)  # under any umask, as a folder writable for others is refused
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
    """Write a file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            temporary.chmod(0o644)  # under any umask, like the folder
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
