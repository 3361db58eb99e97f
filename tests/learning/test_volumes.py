"""Volumes: every format gives all values, what is damaged is refused, and one verdict of neighbouring slices."""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import run_here

from edgead.adapt.finalize import GoodScores
from edgead.artifact.inputs import Preprocessing, Range
from edgead.artifact.preprocess import preprocess, read_frame
from edgead.artifact.training_hashes import content_sha256
from edgead.calibration.conformal import MARGIN, CalibrationError, calibrate
from edgead.calibration.volumes import calibrate_volumes, volume_score
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.volumes import judge_volumes, volume_scores
from edgead.errors import SettingsError
from edgead.images import volume_readers
from edgead.images.files import ImageError, decode_image, list_images, load_image
from edgead.images.inputs import each_image
from edgead.images.volumes import is_volume, slice_path, slices_of, volume_of
from edgead.line.drift.watch import DriftWatch
from edgead.sources import open_source

SIDE, COUNT = 64, 16
RAMP = np.arange(COUNT * SIDE * SIDE, dtype=np.uint16).reshape(COUNT, SIDE, SIDE)  # every value of 16 bits, once
GREY = Preprocessing(image_size=(SIDE, SIDE), colour="grey16", grey16=Range(low=0, high=65535))
FORMATS = ("tiff", "nifti", "nifti2", "dicom")


def write_tiff(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwritemulti(str(path), list(values))
    return path


def write_nifti(path: Path, values: np.ndarray, *, second: bool = False, affine=None, slope=None) -> Path:
    """Write slices (n, H, W) as axes to the right, to the front and upwards, which the identity stands for."""
    nibabel = pytest.importorskip("nibabel", reason="needs edgead[volumes]")
    data = np.transpose(values[:, ::-1], (2, 1, 0))
    image = (nibabel.Nifti2Image if second else nibabel.Nifti1Image)(data, np.eye(4) if affine is None else affine)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_dicom(folder: Path, values: np.ndarray, **elements) -> Path:
    """Write a series whose files are named in another order than its slices lie in."""
    pydicom = pytest.importorskip("pydicom", reason="needs edgead[volumes]")
    folder.mkdir(parents=True, exist_ok=True)
    series = pydicom.uid.generate_uid()
    for number, pixels in enumerate(values):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = elements.get("syntax", pydicom.uid.ExplicitVRLittleEndian)
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        one = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        one.SeriesInstanceUID, one.InstanceNumber = elements.get("series", series), len(values) - number
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.PixelRepresentation = int(pixels.dtype.kind == "i")
        one.ImageOrientationPatient, one.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.5 * number]
        one.RescaleSlope, one.RescaleIntercept = elements.get("rescale", (1, 0))
        one.PixelData = pixels.tobytes()
        name = f"IM{number * 7 % len(values):03d}.dcm"
        one.save_as(folder / elements.get("prefix", "") / name, enforce_file_format=True)
    return folder


def write(kind: str, folder: Path, values: np.ndarray) -> Path:
    if kind == "tiff":
        return write_tiff(folder / "scan.tif", values)
    if kind == "dicom":
        return write_dicom(folder / "scan", values)
    return write_nifti(folder / "scan.nii.gz", values, second=kind == "nifti2")


def read(volume: Path, *, keep_depth: bool = True) -> np.ndarray:
    return np.stack([load_image(path, keep_depth=keep_depth) for path in slices_of(volume)])


def problem(volume: Path) -> str:
    """What is said of a volume, wherever it is noticed."""
    with pytest.raises(ImageError) as raised:
        for path in slices_of(volume):
            load_image(path, keep_depth=True)
    return str(raised.value)


# Formats


@pytest.mark.parametrize("kind", FORMATS)
def test_a_ramp_of_16_bits_reaches_the_network_with_every_level(tmp_path, kind):
    volume = write(kind, tmp_path, RAMP)
    slices = list_images(tmp_path)
    assert slices == [slice_path(volume, number) for number in range(COUNT)]
    inputs = [preprocess(read_frame(path, GREY), GREY) for path in slices]
    np.testing.assert_array_equal(np.stack([load_image(path, keep_depth=True) for path in slices]), RAMP)
    assert np.unique(np.stack(inputs)[..., 0]).size == 65536
    np.testing.assert_array_equal(read(volume, keep_depth=False)[..., 0], ((RAMP.astype(int) + 128) // 257))


def test_slopes_signs_and_floats_are_applied_and_kept(tmp_path):
    signed = (RAMP.astype(np.int32) - 32768).astype(np.int16)
    floats = signed.astype(np.float32) / 7
    np.testing.assert_array_equal(read(write_tiff(tmp_path / "signed.tif", signed)), signed.astype(np.float32))
    np.testing.assert_array_equal(read(write_tiff(tmp_path / "floats.tif", floats)), floats)
    np.testing.assert_array_equal(read(write_nifti(tmp_path / "floats.nii", floats)), floats)
    sloped = read(write_nifti(tmp_path / "sloped.nii.gz", signed, slope=(0.5, -3)))
    np.testing.assert_array_equal(sloped, signed * np.float32(0.5) - 3)
    hounsfield = read(write_dicom(tmp_path / "ct", RAMP, rescale=(2, -1024)))
    np.testing.assert_array_equal(hounsfield, RAMP * np.float32(2) - 1024)
    np.testing.assert_array_equal(read(write_dicom(tmp_path / "mr", signed)), signed.astype(np.float32))
    with pytest.raises(ImageError, match="--input grey16"):
        load_image(slice_path(tmp_path / "ct", 3))


def test_slices_of_8_bits_are_images_of_8_bits(tmp_path):
    values = (RAMP % 256).astype(np.uint8)
    assert read(write_tiff(tmp_path / "a.tif", values)).shape == (COUNT, SIDE, SIDE, 3)
    np.testing.assert_array_equal(read(write_nifti(tmp_path / "a.nii", values))[..., 1], values)


def test_nifti_lies_upright_whatever_way_its_axes_are_stored(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="needs edgead[volumes]")
    values = np.random.default_rng(0).integers(0, 60000, (5, 6, 7)).astype(np.uint16)
    image = nibabel.load(write_nifti(tmp_path / "ras.nii", values))
    for axes in ("LAS", "LPS", "PIR", "SAL"):
        turned = image.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(axes)
            )
        )
        nibabel.save(turned, tmp_path / f"{axes}.nii")
        np.testing.assert_array_equal(read(tmp_path / f"{axes}.nii"), values)


# What is no volume, and what is refused


def test_a_tiff_with_a_thumbnail_is_an_image_and_a_stack_is_none(tmp_path):
    photograph = write_tiff(
        tmp_path / "photograph.tif", [np.full((40, 40), 900, np.uint16), np.ones((8, 8), np.uint16)]
    )
    assert not is_volume(photograph) and load_image(photograph, keep_depth=True).shape == (40, 40)
    stack = write_tiff(tmp_path / "stack.tif", RAMP)
    with pytest.raises(ImageError, match=r"volume of 16 slices.*stack.tif\[008\]"):
        load_image(stack)
    with pytest.raises(ImageError, match="several pages is a volume"):
        decode_image(stack.read_bytes())
    with pytest.raises(ImageError, match="no such slice: the volume has 16"):
        load_image(slice_path(stack, 16))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_volume_that_is_cut_off_is_refused_in_words(tmp_path, kind):
    whole = write(kind, tmp_path / "whole", RAMP)
    files = [whole] if whole.is_file() else sorted(whole.iterdir())
    data = files[-1].read_bytes()
    for number, length in enumerate((1, 200, 400, len(data) // 2, len(data) - 40)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        cut = folder / "scan" if whole.is_dir() else folder / whole.name
        if whole.is_dir():
            cut.mkdir()
            for file in files[:-1]:
                (cut / file.name).write_bytes(file.read_bytes())
        (cut / files[-1].name if whole.is_dir() else cut).write_bytes(data[:length])
        assert "scan" in problem(cut)


@pytest.mark.filterwarnings("ignore")  # pydicom's and numpy's, of values that nobody has written
@pytest.mark.parametrize("kind", FORMATS)
def test_any_byte_that_is_turned_gives_values_or_a_refusal(tmp_path, kind):
    whole = write(kind, tmp_path, RAMP[:3, :16, :16])
    file = whole if whole.is_file() else sorted(whole.iterdir())[0]
    data, rng = bytearray(file.read_bytes()), np.random.default_rng(0)
    if kind.startswith("nifti"):
        data = bytearray(gzip.decompress(bytes(data)))
    for turn in range(150):
        # Most of them in the header, which is what a reader believes.
        at = int(rng.integers(min(len(data), 1200) if turn % 3 else len(data)))
        bad = data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
        file.write_bytes(gzip.compress(bytes(bad), 1) if kind.startswith("nifti") else bytes(bad))
        for path in slices_of(whole)[:4]:
            try:
                load_image(path, keep_depth=True)
            except ImageError as error:
                assert len(str(error)) > 20


def nifti_header(**fields) -> bytes:
    nibabel = pytest.importorskip("nibabel", reason="needs edgead[volumes]")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(fields.pop("dtype", np.uint16))
    header["dim"][:4] = [3, *fields.pop("sides", (8, 8, 8))]
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sides": (30000, 30000, 30000)}, "no volume that is read"),
        ({"sides": (2048, 2048, 2048)}, "at most 1074 million"),
        ({"sides": (-4, 8, 8)}, "truncated or damaged|no volume"),
        ({"vox_offset": 2e9}, "begin at byte"),
        ({"magic": b"ni1"}, "one NIfTI file"),
        ({"dtype": np.complex64}, "one number a voxel"),
        ({}, "1024 of 1024 bytes of voxels are missing"),
    ],
)
def test_what_a_header_claims_is_refused_before_anything_is_unpacked(tmp_path, fields, said):
    file = tmp_path / "scan.nii.gz"
    file.write_bytes(gzip.compress(nifti_header(**fields)))
    assert re.search(said, problem(file))


def test_what_a_compressed_file_holds_beyond_its_header_is_never_unpacked(tmp_path):
    file = tmp_path / "bomb.nii.gz"
    voxels = np.arange(512, dtype=np.uint16)
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(nifti_header() + voxels.tobytes())
        for _ in range(64):
            stream.write(bytes(1 << 20))
    unpacked = gzip.GzipFile.read
    asked: list[int] = []

    def counted(self, size=-1):
        found = unpacked(self, size)
        asked.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip.GzipFile, "read", counted)
        assert np.sort(read(file).ravel()).tolist() == voxels.tolist()
    assert sum(asked) < 10_000


def test_a_deflated_or_compressed_dicom_series_is_refused_before_it_is_unpacked(tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="needs edgead[volumes]")
    folder = write_dicom(tmp_path / "scan", RAMP[:2])
    file = sorted(folder.iterdir())[0]
    deflated = pydicom.dcmread(file)
    deflated.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    deflated.save_as(file)
    assert "compressed (Deflated" in problem(folder) and "gdcmconv" in problem(folder)


def test_series_that_are_mixed_doubled_or_have_lost_slices_are_refused(tmp_path):
    both = write_dicom(tmp_path / "both", RAMP[:4])
    (both / "again").mkdir()
    for file in write_dicom(tmp_path / "other", RAMP[:4]).iterdir():
        (both / f"other{file.name}").write_bytes(file.read_bytes())
    assert "holds 2 series" in problem(both)
    lost = write_dicom(tmp_path / "lost", RAMP)
    (lost / "IM012.dcm").unlink()  # number 4: 4 * 7 % 16
    assert "lacks slices between" in problem(lost) and "2 times the usual" in problem(lost)
    doubled = write_dicom(tmp_path / "doubled", RAMP[:4])
    (doubled / "copy.dcm").write_bytes((doubled / "IM001.dcm").read_bytes())
    assert "two slices at one place" in problem(doubled)
    colours = write_dicom(tmp_path / "one", RAMP[:1])
    with pytest.raises(ImageError, match="name the folder"):
        load_image(next(colours.iterdir()))


@pytest.mark.parametrize(("name", "library"), [("scan.nii.gz", "nibabel"), ("scan", "pydicom")])
def test_a_library_that_is_missing_is_named_with_what_installs_it(tmp_path, monkeypatch, name, library):
    path = tmp_path / name
    if name == "scan":
        path.mkdir()
        (path / "1.dcm").write_bytes(b"x")
    else:
        path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, library, None)
    assert f"needs {library}, which is not installed: `" in problem(path) and "[volumes]" in problem(path)


def test_a_full_disk_and_a_file_that_became_another_one_are_noticed(tmp_path, monkeypatch):
    volume = write_tiff(tmp_path / "a.tif", RAMP)
    assert load_image(slice_path(volume, 0), keep_depth=True)[0, 1] == 1
    write_tiff(volume, RAMP[:, ::-1] + np.uint16(7))
    assert load_image(slice_path(volume, 0), keep_depth=True)[-1, 1] == 8

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(volume_readers.tempfile, "TemporaryFile", Full)
    assert "No space left on device" in problem(write_tiff(tmp_path / "b.tif", RAMP))


# As images of a data set


def test_a_volume_is_a_folder_of_its_slices_wherever_images_are_listed(tmp_path):
    write_tiff(tmp_path / "2.tif", RAMP[:3])
    write_tiff(tmp_path / "10.tif", RAMP[:2])
    cv2.imwrite(str(tmp_path / "5.png"), RAMP[0])
    names = ["2.tif[000]", "2.tif[001]", "2.tif[002]", "5.png", "10.tif[000]", "10.tif[001]"]
    assert [path.name for path in find_good_images(tmp_path)] == names
    assert [name for _, name in each_image(tmp_path) or ()] == names
    assert [name for _, name in each_image(tmp_path / "10.tif") or ()] == names[-2:]
    frames = list(open_source(str(tmp_path)))
    assert [frame.name for frame in frames] == names
    np.testing.assert_array_equal(frames[1].planes["values"], RAMP[1])
    assert [frame.name for frame in open_source(str(tmp_path / "1*.tif"))] == names[-2:]
    assert volume_of(tmp_path / "5.png") is None and volume_of(tmp_path / names[0]) == tmp_path / "2.tif"


def test_slices_are_known_by_the_volume_and_their_number_not_by_what_they_show(tmp_path):
    empty = np.zeros((4, 32, 32), np.uint16)
    one, other = empty.copy(), empty.copy()
    one[2], other[2] = 5, 6
    first, second = write_tiff(tmp_path / "1.tif", one), write_tiff(tmp_path / "2.tif", other)
    hashes = [content_sha256(path) for volume in (first, second) for path in slices_of(volume)]
    assert len(set(hashes)) == 8
    copied = write_nifti(tmp_path / "copy.nii.gz", one)
    assert [content_sha256(path) for path in slices_of(copied)] == hashes[:4]


def scans(folder: Path, count: int = 6, *, seed: int = 0) -> list[Path]:
    """Volumes with neighbouring slices that are alike, and others that are not."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(seed + number)
        plane = cv2.GaussianBlur(rng.normal(size=(64, 64)).astype(np.float32), (0, 0), 3) * 20000 + 30000
        values = np.stack([plane + 500 * rng.normal(size=plane.shape) for _ in range(5)])
        found += slices_of(write_tiff(folder / f"{number}.tif", np.clip(values, 0, 65535).astype(np.uint16)))
    return found


@pytest.mark.parametrize("rule", ["auto", "none", "folders", r"^\d", "groups.csv"])
def test_slices_of_a_volume_are_one_group_under_every_rule(tmp_path, rule):
    paths = scans(tmp_path)
    if rule.endswith("csv"):
        rule = str(tmp_path / rule)
        Path(rule).write_text("path,group\n" + "".join(f"{i}.tif,{i}\n" for i in range(6)))
    groups = group_images(paths, rule, tmp_path)
    assert groups.of(paths) == [number for number in range(6) for _ in range(5)]
    assert groups.account.startswith("30 slices of 6 volumes; ")


def test_volumes_of_one_part_are_joined(tmp_path):
    paths = scans(tmp_path)
    again = np.stack([load_image(path, keep_depth=True) for path in paths[:5]])
    paths += slices_of(write_tiff(tmp_path / "again.tif", np.roll(again, 1, axis=2)))
    assert group_images(paths).of([paths[0], paths[-1]]) == [0, 0]
    assert group_images(paths, r"^.").count == 7


def test_slices_of_a_defective_volume_are_defective_where_its_mask_says_so(tmp_path):
    masks = np.zeros((COUNT, SIDE, SIDE), np.int16)
    masks[4:7, 10:20, 10:20] = 1
    write_tiff(tmp_path / "test/good/0.tif", RAMP)
    write_tiff(tmp_path / "test/lesion/1.tif", RAMP)
    write_tiff(tmp_path / "test/lesion/2.tif", RAMP)
    write_nifti(tmp_path / "ground_truth/lesion/1_mask.nii.gz", masks)
    found = find_test_images(tmp_path)
    defective = [image.path.name for image in found if image.is_defective]
    assert defective == [f"1.tif[{i:03d}]" for i in (4, 5, 6)] + [f"2.tif[{i:03d}]" for i in range(COUNT)]
    mask = next(image for image in found if image.is_defective).load_mask((SIDE, SIDE))
    assert mask is not None and mask.sum() == 100 and mask[10, 10]
    write_tiff(tmp_path / "ground_truth/lesion/2.tif", masks[:3])
    with pytest.raises(DatasetError, match=r"2.tif has 3 slices, 2.tif has 16"):
        find_test_images(tmp_path)


# The verdict of a volume


def test_the_score_of_a_volume_by_hand():
    assert volume_score([1, 1, 4, 1, 3, 3, 3, 1]).score == 3 and volume_score([1, 1, 4, 1, 3, 3, 3, 1]).worst == 4
    assert volume_score([2, 6]).score == 4 and volume_score([2, 6]).worst == 1 and volume_score([5]).score == 5
    quiet, noisy, lesion = [1.0] * 9, [1.0] * 9, [1.0] * 9
    noisy[4] = 2.5
    lesion[4:7] = 2.0, 2.5, 2.0
    limits = calibrate_volumes([volume_score(quiet).score] * 9 + [1.6], 0.1, 0.1)
    assert limits.decide(volume_score(noisy).score) == "ok" and limits.decide(volume_score(lesion).score) == "reject"


def test_thresholds_of_volumes_by_hand():
    limits = calibrate_volumes(list(range(1, 20)), 0.05, 0.1)
    assert limits.reject == pytest.approx(19 * (1 + MARGIN)) and limits.review == pytest.approx(18 * (1 + MARGIN))
    with pytest.raises(CalibrationError, match="needs 19"):
        calibrate_volumes(list(range(18)), 0.05, 0.05)
    twice = calibrate_volumes([1, 1, 2, 9, 3, 3, 4, 4, 5, 5], 0.2, 0.2, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    # Of weights of a half, 4.8 of 6 are needed: up to the second 5 they are 4.5, so the 9 is needed too.
    assert twice.reject == pytest.approx(9 * (1 + MARGIN)) and twice.groups == [0, 0, 1, 2, 2, 3, 3, 4, 4, 1]


def test_scans_of_one_part_are_one_group_of_the_thresholds():
    levels, parts = [float(score) for score in range(1, 20)], [0] * 10 + list(range(1, 10))
    paths = [Path(f"{number}.tif[{i:03d}]") for number in range(19) for i in range(2)]
    good = GoodScores(*[np.repeat(levels, 2).tolist()] * 3)
    found = good.calibrate(0.1, None, groups=np.repeat(parts, 2).tolist(), paths=paths).volumes
    # The nine highest are one part each, the ten lowest a tenth of one: 9.9 of 11 parts are below the 19 alone.
    assert found.reject == pytest.approx(19 * (1 + MARGIN)) and found.groups == parts
    each = good.calibrate(0.1, None, paths=paths).volumes
    assert each.reject == pytest.approx(18 * (1 + MARGIN)) and each.groups == []
    # Scans of one part are too few for a limit of volumes, though there are parts enough for one of images.
    paths[20:] = [Path(f"{number}.png") for number in range(18)]
    assert good.calibrate(0.1, None, groups=[0] * 20 + list(range(1, 19)), paths=paths).volumes is None


def test_volumes_are_scored_in_the_order_of_their_slices_and_incomplete_ones_are_not():
    slices = {Path(f"a.tif[{i:03d}]"): float(score) for i, score in enumerate([0, 0, 5, 5, 5, 0])}
    slices |= {Path("b.tif[000]"): 1.0, Path("b.tif[002]"): 1.0, Path("image.png"): 99.0}
    order = np.random.default_rng(0).permutation(len(slices))
    paths, scores = [list(slices)[i] for i in order], [list(slices.values())[i] for i in order]
    assert {name: one.score for name, one in volume_scores(paths, scores).items()} == {Path("a.tif"): 5.0}
    (verdict,) = judge_volumes(paths, scores, calibrate_volumes(list(range(9)), 0.1, 0.1))
    assert verdict.decision == "ok" and verdict.slices == 6 and verdict.worst == Path("a.tif[002]")
    assert verdict.p_value == pytest.approx(5 / 10)
    assert judge_volumes(paths, scores, None)[0].decision is None


def test_drift_is_not_watched_of_slices():
    limits = calibrate_volumes(list(range(9)), 0.1, 0.1)
    good = np.linspace(1, 2, 40).tolist()
    plain = calibrate(good, good, good, false_reject_rate=0.1)
    DriftWatch(plain)
    with pytest.raises(SettingsError, match="slices of volumes"):
        DriftWatch(plain.model_copy(update={"volumes": limits}))
    assert "volumes" not in plain.model_dump()


def test_the_rate_of_volumes_is_kept_where_slices_go_together():
    """500 times 19 volumes calibrate: of new ones, whose slices share a level, 5 % are rejected and no more."""
    rng = np.random.default_rng(0)

    def scored(count: int) -> list[float]:
        levels = rng.normal(size=(count, 1))
        slices = levels + np.cumsum(rng.normal(size=(count, 12)), axis=1) / 4 + 0.5 * rng.normal(size=(count, 12))
        return [volume_score(one).score for one in slices]

    rejected = []
    for _ in range(500):
        limits = calibrate_volumes(scored(19), 0.05, 0.05)
        rejected += [limits.decide(score) == "reject" for score in scored(20)]
    assert 0.035 < np.mean(rejected) < 0.055  # the margin raises a limit by a thousandth


@pytest.fixture(scope="module")
def volume_model(once, tmp_path_factory):
    def make(path):
        import edgead

        folder = tmp_path_factory.mktemp("scans")
        scans(folder, 12)
        size = {"image_size": [64, 64], "memory_bank_size": 200, "backbone": "efficientnet_lite0"}
        edgead.train(folder, path, input="grey16", false_reject_rate=0.1, **size).close()

    pytest.importorskip("torch", reason="training needs the workstation's packages")
    return once("volumes", make)


def test_a_model_of_volumes_judges_each_as_one_and_names_its_worst_slice(volume_model, tmp_path):
    manifest = json.loads((volume_model / "manifest.json").read_text())
    of_volumes = manifest["graphs"]["fp32"]["calibration"]["volumes"]
    assert len(of_volumes["scores"]) == 12 and of_volumes["reject"] >= of_volumes["scores"][10]
    assert "60 slices of 12 volumes" in manifest["training"]["groups"]["account"]
    scans(tmp_path / "test/good", 2, seed=50)
    bad = [load_image(path, keep_depth=True) for path in scans(tmp_path / "bad", 1)]
    for number in (2, 3, 4):
        bad[number] = bad[number].copy()
        bad[number][20:44, 20:44] = 65535 - bad[number][20:44, 20:44][::-1]
    write_tiff(tmp_path / "test/lesion/0.tif", np.stack(bad))
    answered = run_here("predict", volume_model, tmp_path / "test", "--json", "--csv", tmp_path / "v.csv")
    report = json.loads(answered.stdout)
    verdicts = {Path(one["volume"]).parent.name: one for one in report["volumes"]}
    assert verdicts["lesion"]["decision"] == "reject" and verdicts["lesion"]["worst"] in {
        f"0.tif[{i:03d}]" for i in (2, 3, 4)
    }
    assert len(report["images"]) == 15 and len((tmp_path / "v.csv").read_text().splitlines()) == 1 + 15 + 3
    measured = json.loads(run_here("eval", volume_model, tmp_path, "--json").stdout)["volumes"]
    assert measured["volumes"] == 3 and measured["AUROC"] == 1 and measured["escape_rate"]["count"] == 0
    assert run_here("report", volume_model, tmp_path, "-o", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text()
    assert "0 of 2 good volumes are rejected" in page and "<td>lesion</td><td>0.tif[" in page
    taught = run_here("teach", volume_model, tmp_path / "test/good")
    assert taught.returncode == 2 and "thresholds for whole volumes" in taught.stderr
