"""The artifact: a directory that holds a finished detector. Read with its hashes checked, written atomically."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgead.artifact.earlier_versions import keep_and_replace, replace
from edgead.artifact.files import MAX_BYTES, MAX_FILE_BYTES, ArtifactError, check_file, file_sha256, read_file
from edgead.artifact.graph import ArrayFile, Graph
from edgead.artifact.manifest import MANIFEST, PRECISIONS, SCHEMA_VERSION, Manifest, content_sha256, read_manifest
from edgead.artifact.signatures.file import SIGNATURES, SignatureFile, find_signatures
from edgead.errors import SettingsError
from edgead.files.atomic import unfinished_folder
from edgead.files.disk import writing
from edgead.images.files import ImageError, decode_image

logger = logging.getLogger(__name__)

ENGINES = "engines"  # a cache that each device fills for itself; see `edgead.runtime.engine`


class Artifact:
    """An opened artifact: `path`, the validated `manifest`, and the `signatures` that lay beside it, unchecked.

    A loaded artifact compares each file with the manifest when the file is read: a folder that was exchanged since
    gives an error, not other data. An `Artifact` made by its constructor is a draft: its files need not match the
    manifest.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        self.signatures = SignatureFile()
        self._sha256: Mapping[str, str] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Open an artifact and check the sha256 of every file in it.

        Raises ArtifactError: missing, from a newer edgead, edited or damaged.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for name in _needed(manifest) - manifest.files.keys():
            raise ArtifactError(f"{path}: the manifest lists no {name}: it was edited; copy the whole directory again")
        left = MAX_BYTES
        for name, expected in manifest.files.items():
            left -= check_file(path, name, expected, min(left, MAX_FILE_BYTES))
        artifact = cls(path, manifest)
        artifact._sha256 = manifest.files
        artifact.signatures = find_signatures(path)
        return artifact

    def check_unchanged(self) -> None:
        """Raise unless the folder still holds the version that was opened; call it before writing a successor there.

        Raises SettingsError: the folder holds another version now.
        Raises ArtifactError: the folder holds no usable artifact; see `load`.
        """
        if Artifact.load(self.path).manifest.manifest_sha256 != self.manifest.manifest_sha256:
            raise SettingsError(f"{self.path} was changed since it was opened: open it again")

    @property
    def model_path(self) -> Path:
        """Path of the graph that the model was learnt with."""
        return self.path / self.manifest.learnt_graph.file

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the artifact's graphs, in the order of `PRECISIONS`."""
        return tuple(sorted(self.manifest.graphs, key=PRECISIONS.index))

    def graph(self, precision: str | None = None) -> Graph:
        """Look up the graph of a precision, by default of the precision that the manifest names.

        Raises SettingsError if the artifact has no such graph; says which it has and how to make one.
        """
        name = precision or self.manifest.precision
        record = self.manifest.graphs.get(name)
        if record is None:
            makes = f"make it with `edgead export {self.path} DATA --precision {name}`"
            raise SettingsError(
                f"{self.path} has no {name} graph, it has {', '.join(self.precisions)}: "
                + (makes if name in PRECISIONS else f"precisions are {', '.join(PRECISIONS)}")
            )
        return Graph(
            name,
            self.path / record.file,
            record.calibration,
            record.golden,
            record.score_tolerance,
            self._sha256.get(record.file),
            {array: self._array_file(array) for array in record.arrays},
            None if record.constants is None else self._file(record.constants),
        )

    @property
    def learnt_graph(self) -> Graph:
        """Graph that the model was learnt with."""
        return self.graph(self.manifest.learnt_in)

    def image(self, name: str) -> np.ndarray:
        """Read one of the artifact's images as the model measures it: uint8 BGR, or values of all their bits.

        Raises ArtifactError: the file cannot be read, has another hash, or is no image.
        """
        content = read_file(self.path, name, self._sha256.get(name))
        try:
            return decode_image(content, keep_depth=self.manifest.preprocessing.keeps_depth)
        except ImageError as error:
            raise ArtifactError(f"{self.path}: {name} is no image: {error}; copy the model again") from error

    def optional_file(self, name: str) -> bytes | None:
        """Read a file that not every model has; None if the manifest does not list it, even where the file exists.

        In a draft, whose manifest lists no files yet, the file is read if it exists.

        Raises ArtifactError: the file cannot be read, or has another hash.
        """
        expected = self._sha256.get(name)
        if expected is None and (self._sha256 or not (self.path / name).is_file()):
            return None
        return read_file(self.path, name, expected)

    def array(self, name: str) -> np.ndarray:
        """Read one of the model's learnt arrays, float32 (rows, columns), read only.

        Raises ArtifactError: the manifest has no array of that name, or its file has another hash.
        """
        if name not in self.manifest.arrays:
            raise ArtifactError(f"{self.path} has no array {name!r}: it is a {self.manifest.detector} model")
        file = self._array_file(name)
        array = file.read()
        if array.ndim != 2:
            raise ArtifactError(f"{file.path} is no float32 matrix: its shape is {array.shape}; train the model again")
        return array

    def _array_file(self, name: str) -> ArrayFile:
        return self._file(self.manifest.arrays[name])

    def _file(self, name: str) -> ArrayFile:
        return ArrayFile(self.path, name, self._sha256.get(name))

    def kinds_examples(self) -> np.ndarray:
        """Read the feature vectors of the example rejects of all kinds, float32 (examples, n), read only.

        Raises ArtifactError: the model knows no kinds, or the file has another hash.
        """
        kinds = self.manifest.kinds
        if kinds is None:
            raise ArtifactError(f"{self.path} knows no kinds of rejects: teach it some with `edgead name`")
        file = self._file(kinds.file)
        examples = file.read()
        if examples.ndim != 2 or len(examples) != len(kinds.labels):
            raise ArtifactError(
                f"{file.path} describes no {len(kinds.labels)} examples: its shape is {examples.shape}; name the kinds "
                "again with `edgead name`"
            )
        return examples

    def head_arrays(self) -> dict[str, np.ndarray]:
        """Read the arrays that the model's head needs; see `array`."""
        return {name: self.array(name) for name in self.manifest.head.arrays}


def _needed(manifest: Manifest) -> set[str]:
    """Names of the files that a manifest refers to, without which the artifact is damaged."""
    records = manifest.graphs.values()
    golden = {name for record in records for image in record.golden for name in (image.image, image.anomaly_map)}
    kinds = {manifest.kinds.file} if manifest.kinds else set()
    kept = {one.image for one in manifest.kept}
    graphs = {name for record in records for name in (record.file, record.constants) if name is not None}
    return {*manifest.arrays.values(), *graphs, *golden, *kinds, *kept}


@contextmanager
def new_artifact(destination: str | os.PathLike[str], *, keep: bool = True) -> Iterator[Path]:
    """Yield an empty directory beside `destination`, which is renamed to it when the block ends without an error.

    Until then nothing is visible at `destination`; on an error the directory is removed. An artifact that is
    already there is kept among the earlier versions (`edgead.artifact.earlier_versions`) unless `keep` is False;
    anything else there is refused.

    Raises ArtifactError if `destination` exists and is not an artifact.
    """
    destination = Path(destination).resolve()  # a model, and not the link to it, is replaced and kept
    check_destination(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(destination) as draft, writing(destination):
        yield draft
        _sync_tree(draft)
        if keep and (destination / MANIFEST).is_file():
            keep_and_replace(destination, draft)
        else:
            replace(destination, draft)
        _sync(destination.parent)


def check_destination(destination: Path) -> None:
    """Raise ArtifactError unless a model can be written at `destination`; call it before a long training."""
    if destination.exists() and not (destination / MANIFEST).is_file():
        if not destination.is_dir() or any(destination.iterdir()):
            raise ArtifactError(f"{destination} exists and is not an edgead model: name another place")
    if os.path.ismount(destination):
        raise ArtifactError(
            f"{destination} is a mount point, and no other folder can take its place: name a folder in it, such as "
            f"{destination / 'model'}, or mount the folder above"
        )
    around = next((folder for folder in destination.resolve().parents if _holds_model(folder)), None)
    if around is not None:
        raise ArtifactError(f"{destination} is inside the model {around}: name another place")
    parent = next(folder for folder in destination.absolute().parents if folder.exists())
    try:
        with unfinished_folder(parent / "edgead"):
            pass
    except OSError as error:
        raise ArtifactError(f"{destination}: nothing can be written in {parent} ({error.strerror})") from error


def _holds_model(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except ArtifactError:  # a manifest.json of another program gives this error too
        return False
    return True


def write_arrays(directory: Path, manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into the files that the manifest gives them, replacing earlier ones."""
    for name, array in arrays.items():
        np.save(directory / manifest.arrays[name], array, allow_pickle=False)


def write_manifest(directory: Path, manifest: Manifest, *, but: Collection[str] = ()) -> Manifest:
    """Write the manifest of `directory` with fresh hashes of all its files except those named in `but`; return it.

    Signatures of the previous manifest are kept, although they no longer match.
    """
    names = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    temporary = directory / f".{MANIFEST}"
    own = (MANIFEST, SIGNATURES, temporary.name, *but)  # the last is what a power cut may have left
    kept = [name for name in names if name not in own and not name.startswith(f"{ENGINES}/")]
    files = {name: file_sha256(directory / name) for name in kept}
    written = manifest.model_copy(update={"files": files, "schema_version": SCHEMA_VERSION})
    content = written.model_dump(mode="json", exclude={"manifest_sha256"})
    content["manifest_sha256"] = content_sha256(content)
    try:
        with writing(directory / MANIFEST):
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            _sync(temporary)
            temporary.replace(directory / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    if (directory / SIGNATURES).exists():
        logger.warning("the model was signed before this change: sign it again with `edgead sign`")
    return Manifest.model_validate(content)


def _sync_tree(draft: Path) -> None:
    """Flush a draft's files to the disk, and make its folder readable for all users."""
    draft.chmod(0o755)  # mkdtemp makes it private, a model is not
    for file in [*draft.rglob("*"), draft]:
        _sync(file)


def _sync(path: Path) -> None:
    if os.name == "nt":  # Windows syncs only files that are open for writing, and no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
