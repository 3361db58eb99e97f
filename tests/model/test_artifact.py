"""Artifacts: written whole or not at all; edited, damaged and newer ones are refused with what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import edit_manifest

from edgead.artifact import folder
from edgead.artifact.earlier_versions import MAX_VERSIONS, earlier_versions, replace
from edgead.artifact.folder import MANIFEST, Artifact, ArtifactError, check_destination, new_artifact, write_manifest
from edgead.artifact.manifest import Manifest, Preprocessing
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead


def make(path: Path, rows: int = 4) -> Path:
    manifest = Manifest.draft("patchcore", Preprocessing(image_size=(32, 32)), NearestHead())
    with new_artifact(path) as draft:
        (draft / "model.onnx").write_bytes(b"not really a network")
        np.save(draft / "memory_bank.npy", np.ones((rows, 3), np.float32))
        write_manifest(draft, manifest)
    return path


def test_round_trip(tmp_path):
    artifact = Artifact.load(make(tmp_path / "m"))
    assert artifact.manifest.preprocessing.image_size == (32, 32)
    assert sorted(artifact.manifest.files) == ["memory_bank.npy", "model.onnx"]
    assert artifact.array("memory_bank").shape == (4, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_replaces_an_artifact_but_nothing_else(tmp_path):
    make(tmp_path / "m", rows=4)
    assert Artifact.load(make(tmp_path / "m", rows=7)).array("memory_bank").shape == (7, 3)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="is not an edgead model"):
        make(other)
    assert (other / "holiday.jpg").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m", "m.versions", "photos"]


def test_what_is_replaced_is_kept(tmp_path):
    """The last five, oldest first; not where the writer says that nothing is lost."""
    link = tmp_path / "current"
    link.symlink_to("m")
    for rows in range(1, MAX_VERSIONS + 3):
        make(link, rows=rows)
    kept = [Artifact.load(version).array("memory_bank").shape[0] for version in earlier_versions(tmp_path / "m")]
    assert kept == [2, 3, 4, 5, 6] and link.is_symlink()
    with new_artifact(link, keep=False) as draft:
        shutil.copytree(link, draft, dirs_exist_ok=True)
    assert len(earlier_versions(link)) == MAX_VERSIONS
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["current", "m", "m.versions"]


def test_what_is_no_version_is_none(tmp_path):
    make(make(tmp_path / "m", rows=4), rows=5)
    (tmp_path / "m.versions" / "1.bak").mkdir()
    (tmp_path / "m.versions" / "README").write_text("mine")
    make(tmp_path / "m", rows=6)
    assert [version.name for version in earlier_versions(tmp_path / "m")] == ["1", "2"]


def test_an_error_leaves_nothing_and_keeps_the_old_one(tmp_path):
    make(tmp_path / "m")
    for name in ("m", "new"):
        with pytest.raises(OSError, match="disk full"), new_artifact(tmp_path / name) as draft:
            (draft / "model.onnx").write_bytes(b"half")
            raise OSError("disk full")
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    Artifact.load(tmp_path / "m")


@pytest.mark.parametrize("name", ["model.onnx", "memory_bank.npy"])
def test_edited_file(tmp_path, name):
    path = make(tmp_path / "m")
    content = bytearray((path / name).read_bytes())
    content[-1] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} is not the file that was written"):
        Artifact.load(path)
    (path / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        Artifact.load(path)


def test_a_file_and_all_of_them_together_have_a_bound_each(tmp_path, monkeypatch):
    """A model on CLIP's ViT-L/14 has more than 2 GiB in two files, each of which may be read."""
    model = make(tmp_path / "model")
    sizes = [(model / name).stat().st_size for name in Artifact.load(model).manifest.files]
    monkeypatch.setattr(folder, "MAX_FILE_BYTES", max(sizes))
    monkeypatch.setattr(folder, "MAX_BYTES", sum(sizes))
    Artifact.load(model)
    for name, most in (("MAX_BYTES", sum(sizes) - 1), ("MAX_FILE_BYTES", max(sizes) - 1)):
        with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="bytes, at most"):
            patch.setattr(folder, name, most)
            Artifact.load(model)


def test_newer_schema(tmp_path):
    path = make(tmp_path / "m")
    # A newer schema may have keys that this version does not know: the version is what is reported.
    edit_manifest(path, lambda manifest: manifest.update(schema_version=6, novelty=True))
    with pytest.raises(ArtifactError, match="newer edgead .schema 6, this one reads 5.: update"):
        Artifact.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["head"].update(sigma_px=-1), "head: sigma_px"),
        (lambda m: m["head"].update(sigma=4), "head: sigma: unknown key"),
        (lambda m: m.pop("detector"), "detector"),
        (lambda m: m.pop("schema_version"), "damaged"),
        (lambda m: m["files"].update({"../../secret": "0"}), "outside the model"),
        (lambda m: m["files"].update({"x" * 256: "0"}), "no name of a file"),
        (lambda m: m["files"].pop("memory_bank.npy"), "lists no memory_bank.npy"),
    ],
)
def test_bad_manifest(tmp_path, change, message):
    path = make(tmp_path / "m")
    edit_manifest(path, change)
    with pytest.raises(ArtifactError, match=message):
        Artifact.load(path)


@pytest.mark.parametrize("version", [0, 1, 4])
def test_a_model_of_an_earlier_edgead_is_to_be_trained_again(tmp_path, version):
    path = make(tmp_path / "m")
    edit_manifest(path, lambda manifest: manifest.update(schema_version=version))
    with pytest.raises(ArtifactError, match=f"earlier edgead .schema {version}, .*train it again with `edgead train"):
        Artifact.load(path)


def test_an_edited_threshold_is_refused(tmp_path):
    path = make(tmp_path / "m")
    edit_manifest(path, lambda manifest: manifest["head"].update(top_patches=50), stamp=False)
    with pytest.raises(ArtifactError, match="edited or damaged"):
        Artifact.load(path)


@pytest.mark.parametrize("bank", [np.ones(3, np.float32), np.ones((2, 3)), np.full((2, 3), np.nan, np.float32)])
def test_a_memory_bank_that_cannot_be_searched(tmp_path, bank):
    path = make(tmp_path / "m")
    np.save(path / "memory_bank.npy", bank)
    write_manifest(path, Artifact(path, Manifest.model_validate_json((path / MANIFEST).read_text())).manifest)
    with pytest.raises(ArtifactError, match="no (finite )?float32 (array|matrix)"):
        Artifact.load(path).array("memory_bank")


@pytest.fixture
def two_renames(monkeypatch):
    """A file system that exchanges no names in one step."""

    def refused(one, other):
        raise NotImplementedError

    monkeypatch.setattr("edgead.artifact.earlier_versions.exchange_names", refused)


@pytest.mark.usefixtures("two_renames")
def test_a_failed_exchange_keeps_the_old_one(tmp_path, monkeypatch):
    make(tmp_path / "m", rows=4)
    rename = Path.rename

    def fail(self, target):
        if self.name.startswith(".m.") and Path(target).name == "m":
            raise OSError("no")
        return rename(self, target)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no"):
        patched.setattr(Path, "rename", fail)
        make(tmp_path / "m", rows=7)
    assert Artifact.load(tmp_path / "m").array("memory_bank").shape == (4, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


@pytest.mark.usefixtures("two_renames")
@pytest.mark.parametrize("keep", [True, False])
def test_what_cannot_be_moved_stays(tmp_path, monkeypatch, keep):
    make(tmp_path / "m", rows=4)
    rename = Path.rename

    def busy(self, target):
        if self.name == "m":
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(OSError, match="busy"), new_artifact(tmp_path / "m", keep=keep):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    assert Artifact.load(tmp_path / "m").array("memory_bank").shape == (4, 3)


@pytest.mark.usefixtures("two_renames")
def test_what_cannot_go_back_is_not_lost(tmp_path, monkeypatch):
    make(tmp_path / "m", rows=4)
    rename = Path.rename

    def fail(self, target):
        if Path(target).name == "m":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        replace(tmp_path / "m", make(tmp_path / "draft"))
    (aside,) = earlier_versions(tmp_path / "m")
    assert Artifact.load(aside).array("memory_bank").shape == (4, 3)


def test_a_mount_point_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "m")
    (tmp_path / "m").mkdir()
    with pytest.raises(ArtifactError, match="mount point.* such as .*m/model"):
        check_destination(tmp_path / "m")
    make(tmp_path / "m" / "model")


def test_no_model_is_written_within_a_model(tmp_path):
    make(tmp_path / "m")
    with pytest.raises(ArtifactError, match="sub/deep is inside the model .*m: name another place"):
        make(tmp_path / "m" / "sub" / "deep")
    (tmp_path / "site" / "models").mkdir(parents=True)
    (tmp_path / "site" / MANIFEST).write_text('{"name": "a web page"}')
    make(tmp_path / "site" / "models" / "m")
    make(tmp_path / "m" / ".." / "beside")


def test_a_version_that_somebody_else_wrote_is_noticed(tmp_path):
    artifact = Artifact.load(make(tmp_path / "m", rows=4))
    artifact.check_unchanged()
    make(tmp_path / "m", rows=5)
    with pytest.raises(SettingsError, match="changed since it was opened"):
        artifact.check_unchanged()


def test_a_place_that_cannot_be_written_is_known_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "m", Path("/proc/m")):
        with pytest.raises(ArtifactError, match="nothing can be written"):
            check_destination(place)


def test_not_an_artifact(tmp_path):
    with pytest.raises(ArtifactError, match="no such directory; make one with `edgead train"):
        Artifact.load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="holds no manifest.json"):
        Artifact.load(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        Artifact.load(tmp_path)
    with pytest.raises(ArtifactError, match=f"{MANIFEST} is a file, and a model a folder: load {tmp_path}$"):
        Artifact.load(tmp_path / MANIFEST)


def test_a_pickled_memory_bank_is_refused(tmp_path):
    path = make(tmp_path / "m")
    np.save(path / "memory_bank.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write_manifest(path, Artifact(path, Manifest.model_validate_json((path / MANIFEST).read_text())).manifest)
    with pytest.raises(ArtifactError, match="it is .O of shape"):
        Artifact.load(path).array("memory_bank")
