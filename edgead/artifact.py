"""The artifact: a directory that holds a finished detector. Read with its hashes checked, written atomically."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgead.errors import EdgeadError, SettingsError

# 2 added the section `precisions`; everything of 1 is still read.
SCHEMA_VERSION: Literal[2] = 2
MANIFEST = "manifest.json"
ENGINES = "engines"  # a cache that each device fills for itself; see `edgead.runtime.engine`

# int8 is for CPUs: unsigned activations, whose zero points take the place of ReLU. int8_symmetric is for TensorRT,
# which takes no zero points.
PRECISIONS = ("fp32", "fp16", "int8", "int8_symmetric")

PositiveInt = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class ArtifactError(EdgeadError):
    """The directory is not a usable artifact; the message says why and what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Preprocessing(_Section):
    """How a frame becomes the network's input; see `edgead.preprocess`."""

    image_size: tuple[PositiveInt, PositiveInt]
    roi: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], PositiveInt, PositiveInt] | None = None
    resize: Literal["area_linear"] = "area_linear"
    colour: Literal["rgb"] = "rgb"


class Scoring(_Section):
    """How the network's output becomes scores; see `edgead.scoring`.

    The image score is `patch_weight` x (score of the patches) + `graph_weight` x (the graph's own `image_score`). The
    score of the patches: patch scores are averaged over windows of `window` x `window` patches, and the `top_patches`
    largest averages are averaged; 1 and 1 give the maximum of the PatchCore paper. With `reweight_neighbors` the score
    of the patches is multiplied by the weight of Roth et al. 2022, equation 7, from that many neighbours; 0 is without.
    A graph has an output `image_score` where `graph_weight` is not 0.
    """

    head: Literal["patch_nearest", "map"]
    num_neighbors: Annotated[int, Field(ge=1, le=16)] = 1
    window: PositiveInt = 1
    top_patches: PositiveInt = 1
    reweight_neighbors: Annotated[int, Field(ge=0, le=16)] = 0
    patch_weight: Annotated[float, Field(ge=0)] = 1.0
    graph_weight: Annotated[float, Field(ge=0)] = 0.0
    sigma_px: Annotated[float, Field(ge=0)] = 4.0
    border: Literal["reflect", "replicate"] = "reflect"


class Calibration(_Section):
    """Thresholds and the good images' scores that they come from; see `edgead.calibration`."""

    method: Literal["split_conformal"] = "split_conformal"
    false_reject_rate: Rate
    review_rate: Rate
    reject: float
    review: float
    map_threshold: float
    map_typical: float
    scores: list[float]


class Golden(_Section):
    """One real image with what the shipped detector said of it; paths are inside the artifact."""

    image: str
    anomaly_map: str
    image_score: float


class PrecisionRecord(_Section):
    """A graph of another precision than fp32, how it was made and what it promises.

    `score_tolerance` and `map_tolerance` bound how far its scores and maps may be from those of the torch network, as
    means of relative differences (`edgead.export.verify`); `method` tells how it was made and what was measured.
    """

    graph: str
    calibration: Calibration | None = None
    golden: list[Golden] = []
    score_tolerance: Annotated[float, Field(gt=0)]
    map_tolerance: Annotated[float, Field(gt=0)]
    method: dict[str, Any] = {}


class Manifest(_Section):
    schema_version: Literal[1, 2] = SCHEMA_VERSION
    detector: str
    precision: str = "fp32"
    preprocessing: Preprocessing
    scoring: Scoring
    input: str = "image"
    output: Literal["features", "patch_scores"]
    calibration: Calibration | None = None
    golden: list[Golden] = []
    precisions: dict[str, PrecisionRecord] = {}
    training: dict[str, Any] = {}
    versions: dict[str, str] = {}
    files: dict[str, str] = {}
    manifest_sha256: str = ""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs: what patches are scored by, then `image_score` if the graph has it."""
        return (self.output, "image_score") if self.scoring.graph_weight else (self.output,)


@dataclass(frozen=True, slots=True)
class Graph:
    """One of an artifact's graphs with the thresholds and the golden images that were made by running it."""

    precision: str
    path: Path
    calibration: Calibration | None
    golden: list[Golden]


class Artifact:
    """An opened artifact: `path` and the validated `manifest`."""

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Open an artifact and check the sha256 of every file in it.

        Raises
        ------
        ArtifactError
            Missing, from a newer edgead, edited or damaged.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        for name in _needed(manifest) - manifest.files.keys():
            raise ArtifactError(f"{path}: the manifest lists no {name}: it was edited; copy the whole directory again")
        for name, expected in manifest.files.items():
            file = _inside(path, name)
            if not file.is_file():
                raise ArtifactError(f"{path}: {name} is missing; copy the whole directory again or train anew")
            if _sha256(file) != expected:
                raise ArtifactError(
                    f"{path}: {name} is not the file that was written (sha256 differs): it was edited or damaged; "
                    "copy the whole directory again or train anew"
                )
        return cls(path, manifest)

    @property
    def model_path(self) -> Path:
        return self.path / "model.onnx"

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that there is a graph of, fp32 first."""
        return ("fp32", *self.manifest.precisions)

    def graph(self, precision: str | None = None, *, for_tensorrt: bool = False) -> Graph:
        """Look up the graph of a precision, by default the one that the manifest names.

        TensorRT takes no zero points: for it, int8 is the graph that has none.

        Raises
        ------
        SettingsError
            If the artifact has no such graph; says which it has and how to make one.
        """
        manifest = self.manifest
        name = precision or manifest.precision
        if for_tensorrt and name == "int8":
            name = "int8_symmetric"
        if name == "fp32":
            return Graph(name, self.model_path, manifest.calibration, manifest.golden)
        if name in manifest.precisions:
            record = manifest.precisions[name]
            return Graph(name, self.path / record.graph, record.calibration, record.golden)
        makes = f"make it with `edgead export {self.path} DATA --precision {name}`"
        raise SettingsError(
            f"{self.path} has no {name} graph, it has {', '.join(self.precisions)}: "
            + (makes if name in PRECISIONS else f"precisions are {', '.join(PRECISIONS)}")
        )

    def memory_bank(self) -> np.ndarray:
        """Read the memory bank, float32 (m, d)."""
        file = self.path / "memory_bank.npy"
        try:
            bank = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{file} cannot be read ({error}): train the model anew") from error
        if bank.ndim != 2 or bank.dtype != np.float32 or not np.isfinite(bank).all():
            raise ArtifactError(f"{file} is no finite float32 matrix: train the model anew")
        return bank


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        found = "no such directory" if not path.exists() else f"it holds no {MANIFEST}"
        raise ArtifactError(f"{path} is not an edgead model: {found}; make one with `edgead train DATA -o {path}`")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{file} cannot be read ({error}): it is damaged; copy the model again") from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} was written by a newer edgead (schema {version}, this one reads {SCHEMA_VERSION}): "
            "update edgead with `pip install -U edgead`"
        )
    if content.pop("manifest_sha256", None) != _content_sha256(content):
        raise ArtifactError(f"{file} is not what was written: it was edited or damaged; copy the model again")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{file}: {where}: {first['msg']}; train the model anew") from error


def _needed(manifest: Manifest) -> set[str]:
    """Files that an artifact cannot be without."""
    records = manifest.precisions.values()
    images = [*manifest.golden, *(image for record in records for image in record.golden)]
    golden = {name for image in images for name in (image.image, image.anomaly_map)}
    bank = {"memory_bank.npy"} if manifest.scoring.head == "patch_nearest" else set()
    return {"model.onnx", *bank, *golden, *(record.graph for record in records)}


@contextmanager
def new_artifact(destination: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty directory beside `destination` that becomes it when the block ends without an error.

    Until then nothing is visible at `destination`; on an error the directory is removed. An artifact that is
    already there is replaced; anything else there is refused.

    Raises
    ------
    ArtifactError
        If `destination` exists and is not an artifact.
    """
    destination = Path(os.path.abspath(destination))
    check_destination(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private, a model is not
        for file in [*draft.rglob("*"), draft]:
            _sync(file)
        _replace(draft, destination)
        _sync(destination.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_destination(destination: Path) -> None:
    """Raise ArtifactError unless a model can be written at `destination`: call it before hours of training."""
    if destination.exists() and not (destination / MANIFEST).is_file():
        if not destination.is_dir() or any(destination.iterdir()):
            raise ArtifactError(f"{destination} exists and is not an edgead model: name another place")
    parent = next(folder for folder in destination.absolute().parents if folder.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".edgead-", dir=parent)).rmdir()
    except OSError as error:
        raise ArtifactError(f"{destination}: nothing can be written in {parent} ({error.strerror})") from error


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of `directory` with the hashes of the files that are there now; return it."""
    names = sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())
    kept = [name for name in names if name != MANIFEST and not name.startswith(f"{ENGINES}/")]
    files = {name: _sha256(directory / name) for name in kept}
    written = manifest.model_copy(update={"files": files, "schema_version": SCHEMA_VERSION})
    content = written.model_dump(mode="json", exclude={"manifest_sha256"})
    temporary = directory / f".{MANIFEST}"
    content["manifest_sha256"] = _content_sha256(content)
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(directory / MANIFEST)
    return Manifest.model_validate(content)


def _replace(draft: Path, destination: Path) -> None:
    if not destination.exists():
        draft.rename(destination)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{destination.name}.old.", dir=destination.parent))
    destination.rename(old / "model")
    try:
        draft.rename(destination)
    except BaseException:
        (old / "model").rename(destination)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _inside(path: Path, name: str) -> Path:
    file = path / name
    if not file.resolve().is_relative_to(path.resolve()):
        raise ArtifactError(f"{path}: the manifest names {name!r}, which is outside the model: do not use it")
    return file


def _content_sha256(content: dict[str, Any]) -> str:
    """Hash of the manifest's content, whatever its layout as text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
