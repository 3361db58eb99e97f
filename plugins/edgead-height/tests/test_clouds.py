"""Point clouds become height maps: where points lie, what is seen, holes; and files that lie about themselves."""

from __future__ import annotations

import json
import struct
import sys

import cv2
import numpy as np
import pytest
from command_line import run_here

from edgead.artifact.inputs import Relief
from edgead.artifact.relief import heights_of, known_of
from edgead.errors import SettingsError
from edgead.images.files import ImageError, load_image
from edgead_height.cloud_maps import (
    Area,
    Grid,
    area_of,
    find_grid,
    height_maps,
    organised_map,
    projected_map,
    spacing_of,
    to_mm,
)
from edgead_height.clouds import MAX_POINTS, Cloud, list_clouds, load_cloud

PCD = ("ascii", "binary", "binary_compressed")


def tiff_of(points, order="<", *, width=None):
    """A TIFF as MVTec 3D-AD's files are, by hand: what OpenCV writes would be read by OpenCV's own order."""
    height, real, _ = points.shape
    counts = {258: 3, 339: 3}
    tags = {256: width or real, 257: height, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: height, 279: points.nbytes}
    tags |= {284: 1, 339: 0}
    bits = 8 + 2 + 12 * len(tags) + 4
    tags |= {258: bits, 339: bits + 6, 273: bits + 12}
    entries = b""
    for tag, value in sorted(tags.items()):
        kind, count = (4 if tag in (256, 257, 273, 278, 279) else 3), counts.get(tag, 1)
        packed = struct.pack(order + ("I" if kind == 4 or count > 1 else "Hxx"), value)
        entries += struct.pack(order + "HHI", tag, kind, count) + packed
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(tags))
    ends = struct.pack(order + "I", 0) + struct.pack(order + "6H", 32, 32, 32, 3, 3, 3)
    return start + entries + ends + points.astype(order + "f4").tobytes()


def organised():
    """x to the right, y down, z 300 mm away and a dent of 2 mm that is farther; one hole."""
    rows, columns = np.mgrid[:20, :30].astype(np.float32)
    points = np.stack([columns * 0.2, rows * 0.25, np.full_like(rows, 300)], axis=2)
    points[8:12, 5:9, 2] += 2
    points[3, 4] = 0
    return points


def bumpy(count=5000):
    """Points at random on a plate of 40 x 30 mm with a bump at (30, 5), red there and blue elsewhere."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, (40, 30), (count, 2))
    on_bump = np.hypot(*(xy - (30, 5)).T) < 4
    colours = np.where(on_bump[:, None], (0, 0, 200), (200, 0, 0)).astype(np.uint8)
    return np.column_stack([xy, 10 + 2.0 * on_bump]).astype(np.float32), colours


def write_ply(path, points, colours=None, *, text=False, order="<", faces=False):
    names = {"x": "float", "y": "float", "z": "float"}
    names |= dict.fromkeys(("red", "green", "blue") if colours is not None else (), "uchar")
    rows = np.zeros(len(points), [(name, order + {"float": "f4", "uchar": "u1"}[kind]) for name, kind in names.items()])
    for axis, values in zip("xyz", points.T, strict=True):
        rows[axis] = values
    for number, name in enumerate(("blue", "green", "red") if colours is not None else ()):
        rows[name] = colours[:, number]
    coding = "ascii" if text else {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = ["ply", f"format {coding} 1.0", "comment as others write it", f"element vertex {len(points)}"]
    head += [f"property {kind} {name}" for name, kind in names.items()]
    head += ["element face 1", "property list uchar int vertex_indices"] if faces else []
    body = "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist()).encode() if text else rows.tobytes()
    last = (b"3 0 1 2\n" if text else struct.pack(order + "B3i", 3, 0, 1, 2)) if faces else b""
    path.write_bytes("\n".join([*head, "end_header", ""]).encode() + body + last)


def write_pcd(path, points, encoding, colours=None):
    pypcd4 = pytest.importorskip("pypcd4")
    if colours is None:
        cloud = pypcd4.PointCloud.from_xyz_points(points)
    else:
        packed = pypcd4.PointCloud.encode_rgb(colours[:, ::-1])
        cloud = pypcd4.PointCloud.from_xyzrgb_points(np.column_stack([points, packed]).astype(np.float32))
    cloud.save(path, encoding=pypcd4.Encoding(encoding))


# Files


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_three_channels_is_read_as_x_y_z_with_its_holes(tmp_path, order):
    path = tmp_path / "000.tiff"
    path.write_bytes(tiff_of(organised(), order))
    cloud = load_cloud(path)
    assert cloud.grid == (20, 30)
    expected = organised().reshape(-1, 3)
    expected[3 * 30 + 4] = np.nan
    np.testing.assert_array_equal(cloud.points, expected)


@pytest.mark.parametrize(("text", "order"), [(True, "<"), (False, "<"), (False, ">")])
def test_ply_is_read_as_text_and_binary_with_its_colours(tmp_path, text, order):
    points, colours = bumpy(200)
    write_ply(tmp_path / "a.ply", points, colours, text=text, order=order, faces=True)
    cloud = load_cloud(tmp_path / "a.ply")
    np.testing.assert_allclose(cloud.points, points, rtol=1e-6)
    np.testing.assert_array_equal(cloud.colours, colours)


# As text pypcd4 writes colours, which are tiny floats, as 0.
@pytest.mark.parametrize(
    ("encoding", "coloured"), [*((encoding, False) for encoding in PCD), *((encoding, True) for encoding in PCD[1:])]
)
def test_pcd_is_read_in_each_of_its_encodings(tmp_path, encoding, coloured):
    points, colours = bumpy(200)
    write_pcd(tmp_path / "a.pcd", points, encoding, colours if coloured else None)
    cloud = load_cloud(tmp_path / "a.pcd")
    np.testing.assert_allclose(cloud.points, points, rtol=1e-5)
    if coloured:
        np.testing.assert_array_equal(cloud.colours, colours)


def test_an_organised_pcd_keeps_its_grid(tmp_path):
    pytest.importorskip("pypcd4")
    path = tmp_path / "a.pcd"
    path.write_text(
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 3\nHEIGHT 2\n"
        "VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 6\nDATA ascii\n0 0 5\n1 0 5\nnan nan nan\n0 1 5\n1 1 5\n2 1 6\n"
    )
    cloud = load_cloud(path)
    assert cloud.grid == (2, 3)
    found = organised_map(cloud, 1.0, "away")
    np.testing.assert_array_equal(found.mm, np.float32([[-5, -5, np.nan], [-5, -5, -6]]))
    assert found.mm_per_pixel == 1.0


def test_a_library_that_is_not_there_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "a.pcd").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pypcd4", None)
    with pytest.raises(SettingsError, match=r"pypcd4.*pip install.*edgead-height\[clouds\]"):
        load_cloud(tmp_path / "a.pcd")


# Files that lie


def _ply(count=8, of=8, kind="binary_little_endian", rest=b""):
    head = f"ply\nformat {kind} 1.0\nelement vertex {count}\n" + "".join(f"property float {a}\n" for a in "xyz")
    return head.encode() + b"end_header\n" + np.ones((of, 3), np.float32).tobytes() + rest


def _pcd(data, points=4, body=b"", width=4, height=1, count="1 1 1"):
    head = f"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT {count}\nWIDTH {width}\nHEIGHT {height}\n"
    return (head + f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n").encode() + body


NAN = np.full((4, 3), np.nan, np.float32).tobytes()
LIES = {
    "empty.ply": (b"", "no PLY"),
    "other.ply": (b"\x00" * 100, "no PLY"),
    "endless.ply": (b"ply\n" + b"comment x\n" * 10_000, "does not end"),
    "truncated.ply": (_ply(of=7), "truncated"),
    "absurd.ply": (_ply(count=10**12), f"at most {MAX_POINTS}"),
    "claims.ply": (_ply(count=40_000_000), "truncated"),
    "lists.ply": (_ply().replace(b"property float x", b"property list uchar float x"), "lists"),
    "behind.ply": (
        _ply().replace(b"element vertex", b"element face 1\nproperty list uchar int i\nelement vertex"),
        "lists",
    ),
    "faces.ply": (_ply().replace(b"vertex", b"face"), "no vertices"),
    "no_z.ply": (_ply().replace(b"float z", b"float w"), "damaged"),
    "twice.ply": (_ply().replace(b"float z", b"float y"), "twice"),
    "type.ply": (_ply().replace(b"float z", b"half z"), "unknown type"),
    "coding.ply": (_ply(kind="utf8"), "format is none of"),
    "text.ply": (_ply(kind="ascii"), "damaged"),
    "rows.ply": (_ply(2, 0, "ascii", b"1 1 1\n           \n"), "truncated"),
    "no_points.ply": (_ply(count=0, of=0), "none of its 0 points"),
    "empty.pcd": (b"", "DATA"),
    "absurd.pcd": (_pcd("binary", 10**12, NAN), f"at most {MAX_POINTS}"),
    "claims.pcd": (_pcd("binary", 40_000_000, NAN), "truncated"),
    "fields.pcd": (_pcd("binary", 4, NAN, count="1 1 100000000"), "too many"),
    "fewer.pcd": (_pcd("binary", 4, NAN, count="1 1"), "COUNT"),
    "packed.pcd": (
        _pcd("binary_compressed", 40_000_000, struct.pack("<II", 20, 480_000_000) + b"\0" * 20),
        "truncated",
    ),
    "bomb.pcd": (_pcd("binary_compressed", 4, struct.pack("<II", 20, 480_000_000) + b"\0" * 20), "480000000 bytes"),
    "no_lzf.pcd": (_pcd("binary_compressed", 4, struct.pack("<II", 20, 48) + b"\xff" * 20), "damaged"),
    "rows.pcd": (_pcd("ascii", 4, b"1 1 1\n2 2 2 \n"), "truncated|damaged"),
    "words.pcd": (_pcd("ascii", 2, b"1 1 one\n2 2 two\n"), "damaged"),
    "grid.pcd": (_pcd("binary", 4, np.ones((4, 3), np.float32).tobytes(), width=4, height=2), "4 x 2|damaged"),
    "nan.pcd": (_pcd("binary", 4, NAN), "none of its 4 points"),
    "truncated.tiff": (tiff_of(organised())[:-100], "truncated"),
    "absurd.tiff": (tiff_of(organised(), width=1_000_000_000), f"at most {MAX_POINTS}"),
    "zeros.tiff": (tiff_of(np.zeros((4, 5, 3), np.float32)), "none of its 20 points"),
    "colours.tiff": (cv2.imencode(".tiff", np.ones((4, 5, 3), np.uint8))[1].tobytes(), "channels of floats"),
    "heights.tiff": (cv2.imencode(".tiff", np.ones((4, 5), np.float32))[1].tobytes(), "channels of floats"),
    "other.tiff": (b"no tiff", "no TIFF"),
    "cloud.xyz": (b"1 2 3\n", "ends in one of"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_is_not_what_it_says_is_refused_in_words_and_small_memory(tmp_path, name):
    if name.endswith(".pcd"):
        pytest.importorskip("pypcd4")
    content, words = LIES[name]
    (tmp_path / name).write_bytes(content)
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=words) as refused:
            load_cloud(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert name in str(refused.value)


@pytest.mark.parametrize("name", ["a.ply", "text.ply", "a.tiff", *(f"{encoding}.pcd" for encoding in PCD)])
def test_a_file_of_which_bytes_are_changed_is_read_or_refused(tmp_path, name):
    points, colours = bumpy(40)
    if name.endswith(".pcd"):
        write_pcd(tmp_path / name, points, name.removesuffix(".pcd"))
    elif name.endswith(".ply"):
        write_ply(tmp_path / name, points, colours, text=name == "text.ply")
    else:
        (tmp_path / name).write_bytes(tiff_of(organised()))
    data, rng, refused = (tmp_path / name).read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), rng.integers(1, 4)):
            changed[at] = rng.integers(0, 256)
        (tmp_path / name).write_bytes(changed[: rng.integers(1, len(data))] if rng.random() < 0.2 else changed)
        try:
            load_cloud(tmp_path / name)
        except ImageError:
            refused += 1
    assert 0 < refused


def test_a_header_of_no_rows_is_refused(tmp_path):
    (tmp_path / "a.tiff").write_bytes(tiff_of(organised(), width=2**31))
    with pytest.raises(ImageError, match="a.tiff"):
        load_cloud(tmp_path / "a.tiff")


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match="is missing"):
        load_cloud(tmp_path / "a.ply")
    (tmp_path / "b.ply").mkdir()
    with pytest.raises(ImageError, match="no regular file|cannot be read"):
        load_cloud(tmp_path / "b.ply")


# Maps


def test_a_point_is_shown_where_it_lies_seen_from_above_or_by_the_camera():
    points = np.array([[0, 0, 1], [9.5, 0, 2], [0, 4.5, 3], [9.5, 4.5, 4]], np.float32)
    for z, expected in (("up", [[3, 4], [1, 2]]), ("away", [[-1, -2], [-3, -4]])):
        placed = to_mm(Cloud(points, None, None), 1.0, z)
        mm = projected_map(Cloud(points, None, None), placed, area_of(placed), 0.5).mm
        corners = mm[[0, 0, -1, -1], [0, -1, 0, -1]].reshape(2, 2)
        np.testing.assert_array_equal(corners, expected)
        assert mm.shape == (10, 20) and np.isnan(mm).sum() == 200 - 4


def test_of_several_points_in_a_pixel_the_highest_is_seen_with_its_colour():
    points = np.array([[0.1, 0.1, 1], [0.2, 0.2, 7], [0.3, 0.3, 3]], np.float32)
    colours = np.array([[1, 1, 1], [2, 2, 2], [3, 3, 3]], np.uint8)
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        cloud = Cloud(points[order], colours[order], None)
        found = projected_map(cloud, to_mm(cloud, 1.0, "up"), Area(0, -1, 0.9, -0.1), 1.0)
        assert found.mm.tolist() == [[7.0]] and found.image.tolist() == [[[2, 2, 2]]]


def test_the_pixel_comes_of_the_density_and_few_are_empty():
    points, _ = bumpy()
    placed = to_mm(Cloud(points, None, None), 1.0, "up")
    expected = np.sqrt(4 * 40 * 30 / len(points))
    assert spacing_of(placed) == pytest.approx(expected, rel=0.1)
    # Of half of the area, with a stray point far off, which makes the bounding box four times as large.
    stray = np.vstack([placed, [80, 60, 0]])
    assert spacing_of(stray) == pytest.approx(expected, rel=0.25)
    holes = np.isnan(projected_map(Cloud(points, None, None), placed, area_of(placed), spacing_of(placed)).mm).mean()
    assert holes < 0.05


def test_points_on_a_line_and_a_map_that_is_too_large_are_refused():
    line = np.column_stack([np.arange(50.0), np.zeros(50), np.ones(50)])
    with pytest.raises(ImageError, match="on a line"):
        spacing_of(line)
    cloud = Cloud(line.astype(np.float32), None, None)
    with pytest.raises(ImageError, match="far off"):
        projected_map(cloud, line, Area(0, 0, 1e9, 1e9), 0.1)
    with pytest.raises(ImageError, match="none of its points"):
        projected_map(cloud, line, Area(1000, 0, 1001, 1), 0.1)


def test_holes_are_holes_to_relief_and_a_height_of_0_is_none():
    points = organised()
    points[..., 2] -= 300  # z is 0 nearly everywhere
    points[3, 4] = np.nan
    cloud = Cloud(points.reshape(-1, 3), None, (20, 30))
    found = organised_map(cloud, 1.0, "up")
    relief = Relief(mm_per_count=1, height_mm=1, slope_mm=1, sigma_px=4)
    known = known_of(found.mm, relief)
    assert known.sum() == 20 * 30 - 1 and not known[3, 4]
    mm = heights_of(found.mm, relief).mm
    assert mm[10, 6] - mm[10, 20] == pytest.approx(2, abs=0.05)
    assert found.mm_per_pixel == pytest.approx(0.2)


def test_all_clouds_of_a_folder_come_on_one_grid(tmp_path):
    points, _ = bumpy()
    for number, shift in enumerate((0, 3)):
        write_pcd(tmp_path / f"{number}.pcd", points + np.float32([shift, 0, 0]), "binary")
    paths = list_clouds([tmp_path])
    grid = find_grid(paths, mm_per_pixel=0.5)
    assert grid.area == pytest.approx(Area(0, 0, 43, 30), abs=0.1)
    maps = [found.mm for _, found in height_maps(paths, grid, organised=False)]
    assert maps[0].shape == maps[1].shape == (60, 86)
    for number, mm in enumerate(maps):  # the bump stands 6 pixels to the right in the second, low in the image
        rows, columns = np.nonzero(mm > 11)
        assert columns.mean() == pytest.approx((30 + 3 * number) / 0.5, abs=1)
        assert rows.mean() == pytest.approx((30 - 5) / 0.5, abs=1)


# The command


def test_the_command_writes_maps_that_load_image_reads_and_colours_beside_them(tmp_path):
    points, colours = bumpy()
    write_ply(tmp_path / "a.ply", points, colours)
    ended = run_here("heights", tmp_path / "a.ply", "-o", tmp_path / "maps", "--mm-per-pixel", "1", "--json")
    assert ended.returncode == 0
    report = json.loads(ended.stdout)
    assert report["maps"] == 1 and report["mm_per_pixel"] == [1.0] and report["known"] > 0.95
    mm = load_image(tmp_path / "maps/heights/a.tiff", keep_depth=True)
    assert mm.dtype == np.float32 and mm.shape == (30, 40)
    assert mm[25, 30] == 12 and mm[5, 5] == 10
    image = load_image(tmp_path / "maps/colours/a.png")
    assert image[25, 30].tolist() == [0, 0, 200] and image[5, 5].tolist() == [200, 0, 0]
    # The words that it prints give the same grid again.
    again = report["grid"].split()
    assert run_here("heights", tmp_path / "a.ply", "-o", tmp_path / "again", *again).returncode == 0
    np.testing.assert_array_equal(load_image(tmp_path / "again/heights/a.tiff", keep_depth=True), mm)


def test_a_cloud_that_cannot_be_read_leaves_no_folder(tmp_path):
    (tmp_path / "clouds").mkdir()
    (tmp_path / "clouds/1.tiff").write_bytes(tiff_of(organised()))
    (tmp_path / "clouds/2.tiff").write_bytes(tiff_of(organised())[:-100])
    for options in ((), ("--mm-per-pixel", "0.5", "--area", "0,0,6,5")):
        ended = run_here("heights", tmp_path / "clouds", "-o", tmp_path / "maps", *options)
        assert ended.returncode == 2 and "2.tiff" in ended.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["clouds"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "name point clouds"),
        (("--set", "a=1", "a.ply"), "--set is of --stereo"),
        (("--area", "0,0,1,1", "a.ply"), "--area needs --mm-per-pixel"),
        (("--area", "0,0,1", "--mm-per-pixel", "1", "DATA"), "expected X0,Y0,X1,Y1"),
        (("--area=5,0,1,1", "--mm-per-pixel", "1", "DATA"), "must be above"),
        (("--stereo", "a", "b", "--z", "away"), "are of point clouds"),
        (("EMPTY",), "no point clouds found"),
        (("DATA", "DATA/sub"), "would both be written"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(tmp_path, options, words):
    (tmp_path / "empty").mkdir()
    for place in ("data", "data/sub"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "1.tiff").write_bytes(tiff_of(organised()))
    filled = [
        text.replace("DATA", str(tmp_path / "data")).replace("EMPTY", str(tmp_path / "empty")) for text in options
    ]
    ended = run_here("heights", *filled, "-o", tmp_path / "maps")
    assert ended.returncode == 2 and words in ended.stderr
    assert not (tmp_path / "maps").exists()


def test_the_grid_of_the_words_is_that_of_the_area():
    assert Grid(Area(0, 0, 1, 2), 0.5).area.mirrored == Area(0, -2, 1, 0)
