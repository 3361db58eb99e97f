"""Artifacts made to harm whoever opens them: each is a small valid one, changed, with hashes that are right again.

A manifest is not signed: its author is whoever made the folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import graphs
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from small_graph import SIZE, as_inputs, small_images
from valid_artifact import COLUMNS, ROWS, Change, in_manifest, read_manifest, stamp


def many_golden(path: Path) -> None:
    content = read_manifest(path)
    content["graphs"]["fp32"]["golden"] *= 4500
    stamp(path, content)


def _of_grey(found: dict[str, object]) -> dict[str, object]:
    """An input of grey values of 16 bits over a range."""
    spec = {"image_size": [SIZE, SIZE], "colour": "grey16", "grey16": found}
    return {"plane": "values", "preprocessing": spec}


_RELIEF = {"mm_per_count": 0.01, "height_mm": 1.0, "slope_mm": 0.1, "sigma_px": 4.0}

MANIFEST: dict[str, Change] = {
    "tolerance_huge": in_manifest("graphs", "fp32", "score_tolerance", value=1e300),
    "sigma_huge": in_manifest("head", "sigma_px", value=1e6),
    "sigma_negative": in_manifest("head", "sigma_px", value=-1.0),
    "sigma_text": in_manifest("head", "sigma_px", value="wide"),
    "sigma_not_finite": in_manifest("head", "sigma_px", value=1e999),
    "weight_huge": in_manifest("head", "patch_weight", value=1e300),
    "weights_all_zero": in_manifest("head", "patch_weight", value=0.0),
    "neighbours_none": in_manifest("head", "num_neighbors", value=0),
    "neighbours_many": in_manifest("head", "num_neighbors", value=17),
    "head_map_of_features": in_manifest("head", value={"kind": "map"}),
    "head_unknown": in_manifest("head", "kind", value="oracle"),
    "head_a_module": in_manifest("head", "kind", value="os:system"),
    "head_a_list": in_manifest("head", value=["nearest"]),
    "head_without_a_kind": in_manifest("head", value={}),
    "head_of_an_earlier_edgead": in_manifest("head", "reweight_neighbors", value=3),
    "array_missing": in_manifest("arrays", value={}),
    "array_elsewhere": in_manifest("arrays", "memory_bank", value="../memory_bank.npy"),
    "graph_elsewhere": in_manifest("graphs", "fp32", "file", value="/etc/passwd"),
    "graphs_none": in_manifest("graphs", value={}),
    "inputs_none": in_manifest("inputs", value=[]),
    "inputs_two": lambda path: in_manifest("inputs", value=2 * read_manifest(path)["inputs"])(path),
    "clip_of_sixteen": in_manifest("inputs", 0, "clip", value=16),
    "image_zero": in_manifest("inputs", 0, "preprocessing", "image_size", value=[0, 16]),
    "image_huge": in_manifest("inputs", 0, "preprocessing", "image_size", value=[1 << 40, 16]),
    "image_of_gigabytes": in_manifest("inputs", 0, "preprocessing", "image_size", value=[8192, 8192]),
    "image_three_sides": in_manifest("inputs", 0, "preprocessing", "image_size", value=[16, 16, 3]),
    "roi_negative": in_manifest("inputs", 0, "preprocessing", "roi", value=[-1, 0, 8, 8]),
    "roi_empty": in_manifest("inputs", 0, "preprocessing", "roi", value=[0, 0, 0, 8]),
    "colour_without_range": in_manifest("inputs", 0, "preprocessing", "colour", value="grey16"),
    "grey_range_of_rgb": in_manifest("inputs", 0, "preprocessing", "grey16", value={"low": 0, "high": 1}),
    "heights_of_rgb": in_manifest("inputs", 0, "preprocessing", "relief", value=_RELIEF),
    "plane_of_values_for_rgb": in_manifest("inputs", 0, "plane", value="values"),
    "grey_for_a_graph_of_bytes": in_manifest("inputs", 0, value=_of_grey({"low": 0, "high": 1})),
    "grey_range_upside_down": in_manifest("inputs", 0, value=_of_grey({"low": 1, "high": 0})),
    "grey_range_beyond_floats": in_manifest("inputs", 0, value=_of_grey({"low": 0, "high": 1e300})),
    "grey_range_of_words": in_manifest("inputs", 0, value=_of_grey({"low": "a", "high": 1})),
    "colour_unknown": in_manifest("inputs", 0, "preprocessing", "colour", value="bgr"),
    "scores_none": in_manifest("graphs", "fp32", "calibration", "scores", value=[]),
    "scores_huge": in_manifest("graphs", "fp32", "calibration", "scores", value=[-1.7e308, 1.7e308]),
    "scores_text": in_manifest("graphs", "fp32", "calibration", "scores", value=["high"]),
    "scores_descending": in_manifest("graphs", "fp32", "calibration", "scores", value=[3.0, 2.0, 1.0]),
    "groups_of_other_scores": in_manifest("graphs", "fp32", "calibration", "groups", value=[1, 2]),
    "review_above_reject": in_manifest("graphs", "fp32", "calibration", "review", value=9.0),
    "reject_not_finite": in_manifest("graphs", "fp32", "calibration", "reject", value=float("nan")),
    "rate_zero": in_manifest("graphs", "fp32", "calibration", "false_reject_rate", value=0.0),
    "calibration_missing": in_manifest("graphs", "fp32", "calibration", value=None),
    "golden_many": many_golden,
    "golden_score_huge": in_manifest("graphs", "fp32", "golden", 0, "image_score", value=1e308),
    "golden_score_not_finite": in_manifest("graphs", "fp32", "golden", 0, "image_score", value=float("inf")),
    "precision_unknown": in_manifest("precision", value="fp9"),
    "key_unknown": in_manifest("surprise", value=1),
    "schema_text": in_manifest("schema_version", value="four"),
    "schema_true": in_manifest("schema_version", value=True),
    "schema_newer": in_manifest("schema_version", value=999),
    "schema_negative": in_manifest("schema_version", value=-1),
}


def named(name: str) -> Change:
    """A change that lists one more file in the manifest."""

    def change(path: Path) -> None:
        content = read_manifest(path)
        content["files"][name] = hashlib.sha256(b"").hexdigest()
        stamp(path, content)

    return change


def instead(name: str, put: Change) -> Change:
    """A change that puts something else in the place of a file."""

    def change(path: Path) -> None:
        (path / name).unlink()
        put(path / name)

    return change


def sparse(size: int) -> Change:
    def put(file: Path) -> None:
        with file.open("wb") as stream:
            stream.truncate(size)

    return put


def instead_of_golden(put: Change) -> Change:
    def change(path: Path) -> None:
        shutil.rmtree(path / "golden")
        put(path / "golden")

    return change


def text_manifest(text: str) -> Change:
    return lambda path: (path / "manifest.json").write_text(text)


def unreadable(name: str) -> Change:
    """A file whose every read fails: the start of this process's memory, which is a regular file."""
    return instead(name, lambda file: file.symlink_to("/proc/self/mem"))


FILES: dict[str, Change] = {
    "name_nul": named("a\0b"),
    "name_surrogate": named("a\ud800b"),
    "name_escapes_the_terminal": named("a\x1b[2Jb"),
    "name_long": named("a" * 300),
    "name_longer_than_a_path": named("a/" * 3000),
    "name_absolute": named("/etc/passwd"),
    "name_above": named("../secret"),
    "name_above_within": named("golden/../../secret"),
    "name_empty": named(""),
    "name_of_a_folder": named("golden"),
    "name_below_a_file": named("model.onnx/part"),
    "names_without_end": lambda path: stamp(
        path, {**read_manifest(path), "files": {f"{number}": "" for number in range(5000)}}
    ),
    "graph_missing": lambda path: (path / "model.onnx").unlink(),
    "graph_fifo": instead("model.onnx", os.mkfifo),
    "graph_folder": instead("model.onnx", Path.mkdir),
    "graph_link_loop": instead("model.onnx", lambda file: file.symlink_to(file.name)),
    "graph_link_outside": instead("model.onnx", lambda file: file.symlink_to("/etc/hostname")),
    "graph_link_to_a_device": instead("model.onnx", lambda file: file.symlink_to("/dev/zero")),
    "graph_link_dangling": instead("model.onnx", lambda file: file.symlink_to("nothing")),
    "graph_of_a_terabyte": instead("model.onnx", sparse(1 << 40)),
    "bank_of_many_gigabytes": instead("memory_bank.npy", sparse(20 << 30)),
    "golden_folder_file": instead_of_golden(Path.touch),
    "golden_folder_fifo": instead_of_golden(os.mkfifo),
    "golden_folder_link_loop": instead_of_golden(lambda file: file.symlink_to(file.name)),
    "manifest_empty": text_manifest(""),
    "manifest_list": text_manifest("[1]"),
    "manifest_number": text_manifest("7"),
    "manifest_text": text_manifest('"schema_version"'),
    "manifest_nested": text_manifest("[" * 200_000),
    "manifest_nested_within": text_manifest('{"schema_version": 4, "training": ' + '{"a":' * 5000 + "1" + "}" * 5001),
    "manifest_digits": text_manifest('{"schema_version": ' + "9" * 10_000 + "}"),
    "manifest_not_utf8": lambda path: (path / "manifest.json").write_bytes(b'{"schema_version": "\xff"}'),
    "manifest_fifo": instead("manifest.json", os.mkfifo),
    "manifest_folder": instead("manifest.json", Path.mkdir),
    "manifest_link_loop": instead("manifest.json", lambda file: file.symlink_to(file.name)),
    "manifest_link_to_a_device": instead("manifest.json", lambda file: file.symlink_to("/dev/zero")),
    "manifest_read_error": unreadable("manifest.json"),
    "manifest_of_gigabytes": instead("manifest.json", sparse(4 << 30)),
}


def bank_file(content: bytes) -> Change:
    def change(path: Path) -> None:
        (path / "memory_bank.npy").write_bytes(content)
        stamp(path)

    return change


def bank(array: np.ndarray, **options: Any) -> Change:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return bank_file(stream.getvalue())


def bank_header(text: str, version: tuple[int, int] = (1, 0), values: int = 4 * ROWS * COLUMNS) -> Change:
    """A change of what the header of the memory bank says, before so many bytes of values."""
    header = text.encode("latin-1").ljust(118) + b"\n"
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return bank_file(b"\x93NUMPY" + bytes(version) + length + header + bytes(values))


def shaped(shape: str, *, descr: str = "<f4", fortran: str = "False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"


def zipped() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, bank=np.ones((ROWS, COLUMNS), np.float32))
    return stream.getvalue()


def with_value(value: float) -> np.ndarray:
    array = np.ones((ROWS, COLUMNS), np.float32)
    array[3, 2] = value
    return array


BANK: dict[str, Change] = {
    "bank_header_of_gigabytes": bank_header(shaped("(2147483648, 5)")),
    "bank_header_of_2_40_rows": bank_header(shaped("(1099511627776, 5)")),
    "bank_header_overflows": bank_header(shaped("(9223372036854775807, 9223372036854775807)")),
    "bank_header_negative": bank_header(shaped("(-6, -5)")),
    "bank_header_too_small": bank_header(shaped("(5, 5)")),
    "bank_header_not_a_shape": bank_header(shaped("'wide'")),
    "bank_header_nested": bank_header(shaped("(" * 300 + ")" * 300)),
    "bank_header_endless": bank_header("{" * 60_000),
    "bank_header_code": bank_header("__import__('os').abort()"),
    "bank_header_empty": bank_header(""),
    "bank_header_open": bank_header(shaped("(6, 5")),
    "bank_header_slow_to_match": bank_header(shaped("(" + "1" * 60 + "x)")),
    "bank_header_nul": bank_header(shaped("(6, 5)") + "\0"),
    "bank_header_longer_than_the_file": bank_file(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(200)),
    "bank_version_9": bank_header(shaped("(6, 5)"), (9, 9)),
    "bank_big_endian": bank_header(shaped("(6, 5)", descr=">f4")),
    "bank_strings": bank_header(shaped("(6, 5)", descr="<U1")),
    "bank_void": bank_header(shaped("(6, 5)", descr="|V4")),
    "bank_fortran": bank(np.asfortranarray(np.random.default_rng(3).random((ROWS, COLUMNS), np.float32))),
    "bank_double": bank(np.ones((ROWS, COLUMNS))),
    "bank_objects": bank(np.array([[{}]], object), allow_pickle=True),
    "bank_one_axis": bank(np.ones(COLUMNS, np.float32)),
    "bank_three_axes": bank(np.ones((1, ROWS, COLUMNS), np.float32)),
    "bank_scalar": bank(np.float32(1)),
    "bank_no_rows": bank(np.ones((0, COLUMNS), np.float32)),
    "bank_no_columns": bank(np.ones((ROWS, 0), np.float32)),
    "bank_other_columns": bank(np.ones((ROWS, COLUMNS + 1), np.float32)),
    "bank_nan": bank(with_value(np.nan)),
    "bank_infinite": bank(with_value(-np.inf)),
    "bank_huge_value": bank(with_value(3e38)),
    "bank_fewer_rows_than_neighbours": lambda path: (
        bank(np.ones((2, COLUMNS), np.float32))(path),
        in_manifest("head", "num_neighbors", value=3)(path),
    ),
    "bank_empty_file": bank_file(b""),
    "bank_cut_off": bank_file(b"\x93NUMPY\x01\x00v\x00{'descr'"),
    "bank_zip": bank_file(zipped()),
    "bank_pickle": bank_file(b"\x80\x04N."),
    "bank_text": bank_file(b"not a matrix"),
    "bank_with_a_tail": bank_header(shaped("(6, 5)"), values=4 * ROWS * COLUMNS + 4),
}


def graph_file(content: bytes) -> Change:
    def change(path: Path) -> None:
        (path / "model.onnx").write_bytes(content)
        (path / "weights.bin").write_bytes(np.array(graphs.GOOD, np.int64).tobytes())
        stamp(path)

    return change


def cut_graph(path: Path) -> None:
    file = path / "model.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    stamp(path)


GRAPH: dict[str, Change] = {
    **{f"graph_{name}": graph_file(made.SerializeToString()) for name, made in graphs.SHAPES.items()},
    **{f"graph_{name}": graph_file(made.SerializeToString()) for name, made in graphs.OPEN.items()},
    "graph_of_two_million_parts": graph_file(b"\x08\x08" * 2_000_000),
    "graph_empty_file": graph_file(b""),
    "graph_text": graph_file(b"not a graph"),
    "graph_zeros": graph_file(bytes(1000)),
    "graph_ones": graph_file(b"\xff" * 1000),
    "graph_cut_off": cut_graph,
    "graph_xml": graph_file(b"<?xml version='1.0'?><net name='a' version='11'><layers/></net>"),
    "graph_of_another_format": graph_file(b"\x12\x7f\x00\x00ORTM" + bytes(400)),
}


def learnt(array: np.ndarray, *, inputs: Sequence[str] = ("b.bias",), arrays: Sequence[str] = ("b.bias",)) -> Change:
    """A change after which the graph takes some of its constants as inputs, and the manifest names arrays of it.

    `array` is what the model has learnt of the first, the others are as they were.
    """

    def change(path: Path) -> None:
        graph = onnx.load(path / "model.onnx")
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
        onnx.save(as_inputs(graph, inputs), path / "model.onnx")
        content = read_manifest(path)
        content["graphs"]["fp32"]["arrays"] = list(arrays)
        for name in set(arrays) & constants.keys():
            np.save(path / f"{name}.npy", array if name == inputs[0] else constants[name])
            content["arrays"][name] = f"{name}.npy"
            content["files"][f"{name}.npy"] = ""
        stamp(path, content)

    return change


def taking(kind: int, *sides: Any) -> Change:
    """A change after which the graph says that it takes something else than float32 of five values."""

    def change(path: Path) -> None:
        learnt(UNCHANGED)(path)
        graph = onnx.load(path / "model.onnx")
        graph.graph.input[1].CopyFrom(onnx.helper.make_tensor_value_info("b.bias", kind, sides))
        onnx.save(graph, path / "model.onnx")
        stamp(path)

    return change


def without_its_array(path: Path) -> None:
    learnt(UNCHANGED)(path)
    (path / "b.bias.npy").unlink()


UNCHANGED = np.zeros(5, np.float32)  # the bias of small_graph
TWO = ("b.bias", "a.bias")

LEARNT: dict[str, Change] = {
    "learnt_shorter": learnt(UNCHANGED[:4]),
    "learnt_with_more_sides": learnt(UNCHANGED[None]),
    "learnt_with_five_sides": learnt(UNCHANGED[None, None, None, None]),
    "learnt_scalar": learnt(np.float32(0)),
    "learnt_double": learnt(UNCHANGED.astype(float)),
    "learnt_nan": learnt(np.full(5, np.nan, np.float32)),
    "learnt_infinite": learnt(np.full(5, np.inf, np.float32)),
    "learnt_huge": learnt(np.full(5, 3e38, np.float32)),
    "learnt_file_missing": without_its_array,
    "learnt_not_named": learnt(UNCHANGED, arrays=()),
    "learnt_one_of_two_named": learnt(UNCHANGED, inputs=TWO),
    "learnt_in_another_order": learnt(UNCHANGED, inputs=TWO, arrays=TWO[::-1]),
    "learnt_that_the_graph_has_as_constant": learnt(UNCHANGED, arrays=TWO),
    "learnt_named_and_not_there": learnt(UNCHANGED, arrays=("b.bias", "nothing")),
    "learnt_named_twice": learnt(UNCHANGED, arrays=("b.bias", "b.bias")),
    "learnt_named_as_the_image": learnt(UNCHANGED, arrays=("b.bias", "image")),
    "learnt_as_whole_numbers": taking(TensorProto.INT64, 5),
    "learnt_of_sides_unknown": taking(TensorProto.FLOAT, "n"),
    "learnt_of_terabytes": taking(TensorProto.FLOAT, 1 << 40),
}


def golden_file(name: str, content: bytes) -> Change:
    def change(path: Path) -> None:
        (path / "golden" / name).write_bytes(content)
        stamp(path)

    return change


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


GOLDEN: dict[str, Change] = {
    "golden_text": golden_file("0.png", b"no image"),
    "golden_empty": golden_file("0.png", b""),
    "golden_cut_off": golden_file("0.png", png(small_images(1)[0])[:-20]),
    "golden_smaller_than_the_roi": in_manifest("inputs", 0, "preprocessing", "roi", value=[0, 0, SIZE + 1, SIZE]),
    "golden_roi_beyond_every_image": in_manifest("inputs", 0, "preprocessing", "roi", value=[1 << 62, 1 << 62, 8, 8]),
}

HOSTILE: dict[str, Change] = {**MANIFEST, **FILES, **BANK, **GRAPH, **LEARNT, **GOLDEN}
