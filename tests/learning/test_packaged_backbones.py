"""The backbones that the package carries: equal to torch, whatever the size and the kind of the input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgead.adapt.frozen_backbone import (
    DESCRIPTION,
    LAYERS,
    LITE,
    OUTPUT,
    PACKAGED,
    each_raw,
    open_raw,
    packaged_backbone,
)
from edgead.adapt.memory_bank.feature_space import FeatureScale
from edgead.artifact.folder import ArtifactError
from edgead.artifact.inputs import Preprocessing, Range, Relief
from edgead.errors import SettingsError

NOT_COMPARED = "PACKAGED BACKBONES NOT TESTED: they are compared with torch, which needs the workstation's packages"
RELIEF = Relief(mm_per_count=0.1, height_mm=1, slope_mm=1, sigma_px=3)
KINDS = {
    "rgb": {},
    "grey16": {"colour": "grey16", "grey16": Range(low=0, high=65535)},
    "rgb_relief": {"colour": "rgb_relief", "relief": RELIEF},
}


def image_of(spec: Preprocessing, seed: int = 0) -> np.ndarray:
    given = np.random.default_rng(seed).uniform(0, 255, (*spec.image_size, spec.channels))
    return given.astype(spec.dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(96, 64), (224, 224)])
@pytest.mark.parametrize("name", LITE)
def test_raw_features_are_those_of_torch(name, size, kind):
    torch = pytest.importorskip("torch", reason=NOT_COMPARED)
    from edgead.export.backbone import patch_network

    spec = Preprocessing(image_size=size, **KINDS[kind])
    backbone = packaged_backbone(name, spec, "fp32")
    image = image_of(spec)
    (found,) = each_raw(backbone, spec, [image])
    network = patch_network(name, LAYERS, size, channels=spec.channels)
    with torch.inference_mode():
        expected = network.raw_features(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    assert found.shape == (size[0] // 8, size[1] // 8, sum(backbone.channels))
    # Sums of 2 x 120 products a layer, over thirty layers, in another order.
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("damps", [True, False])
def test_a_scale_and_a_metric_are_applied_by_the_graph(damps, precision):
    spec = Preprocessing(image_size=(64, 96))
    backbone = packaged_backbone(LITE[0], spec, precision)
    width, rng = sum(backbone.channels), np.random.default_rng(0)
    mean, inverse_std = rng.normal(size=width).astype(np.float32), rng.uniform(0.5, 2, width).astype(np.float32)
    scale = FeatureScale(mean, inverse_std, np.array([9, 20], np.float32), backbone.channels, damps)
    metric = rng.normal(size=(width, width)).astype(np.float32)
    (raw,) = each_raw(backbone, spec, [image_of(spec)])
    rows = raw.reshape(-1, width).copy()
    scale.standardise(rows)
    expected = (rows @ metric).reshape(raw.shape)
    with open_raw(backbone, spec, arrays=backbone.inputs(scale, metric)) as runtime:
        found = runtime.run(image_of(spec)[None])[OUTPUT][0]
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", LITE)
def test_int8_is_near(name):
    spec = Preprocessing(image_size=(128, 96))
    fp32, int8 = (
        next(each_raw(packaged_backbone(name, spec, one), spec, [image_of(spec)])) for one in ("fp32", "int8")
    )
    assert np.linalg.norm(int8 - fp32) < 0.15 * np.linalg.norm(fp32)


@pytest.mark.parametrize("size", [(64, 96), (48, 112)])
def test_int8_laid_out_for_cpus_has_the_same_sums(size):
    """But for the enlarging of the coarser layer, which is of floats."""
    pytest.importorskip("torch", reason=NOT_COMPARED)
    import onnx
    from edgead.export.backbone import _with_constants, noise
    from edgead.export.quantize import SCHEMES, measure_ranges, quantize

    from benchmarks.packaged_backbones import for_cpus

    spec = Preprocessing(image_size=size)
    fp32 = packaged_backbone(LITE[0], spec, "fp32")
    model = onnx.load_from_string(fp32.graph)
    ranges = measure_ranges(_with_constants(model, fp32.neutral), noise(*size)[:16], lambda done, total: None)
    plain = quantize(model, ranges, SCHEMES["int8"])
    expected, found = (
        next(each_raw(replace(fp32, graph=one.SerializeToString(), precision="int8"), spec, [image_of(spec)]))
        for one in (plain, for_cpus(plain, fp32.channels))
    )
    np.testing.assert_array_equal(found[..., : fp32.channels[0]], expected[..., : fp32.channels[0]])
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("precision, kind", [("fp16", "rgb"), ("fp16", "rgb_relief"), ("int8_symmetric", "rgb")])
def test_another_precision_is_made_of_the_packaged_graph(precision, kind):
    pytest.importorskip("torch", reason=NOT_COMPARED)
    from edgead.export.backbone import convert

    spec = Preprocessing(image_size=(128, 96), **KINDS[kind])
    fp32 = packaged_backbone(LITE[0], spec, "fp32")
    other = convert(fp32, precision)
    expected, found = (next(each_raw(one, spec, [image_of(spec)])) for one in (fp32, other))
    assert other.precision == precision
    assert 0 < np.linalg.norm(found - expected) < {"fp16": 0.01}.get(precision, 0.15) * np.linalg.norm(expected)


def test_sides_that_the_graph_does_not_take_are_refused():
    with pytest.raises(SettingsError, match=r"image_size \[100, 64\]: give multiples of 16 pixels"):
        packaged_backbone(LITE[0], Preprocessing(image_size=(100, 64)), "fp32")


def test_a_file_of_another_content_is_refused(tmp_path, monkeypatch):
    for file in PACKAGED.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / f"{LITE[0]}.fp32.onnx").write_bytes((PACKAGED / f"{LITE[0]}.fp32.onnx").read_bytes()[:-1])
    monkeypatch.setattr("edgead.adapt.frozen_backbone.PACKAGED", tmp_path)
    with pytest.raises(ArtifactError, match="is not the file that was packaged: install edgead again"):
        packaged_backbone(LITE[0], Preprocessing(image_size=(64, 64)), "fp32")


@pytest.mark.slow
def test_the_files_are_what_the_command_writes(tmp_path):
    pytest.importorskip("torch", reason=NOT_COMPARED)
    import onnx
    from onnx import numpy_helper

    from benchmarks.packaged_backbones import write_packaged

    write_packaged(tmp_path)
    described, written = (json.loads((folder / DESCRIPTION).read_text()) for folder in (PACKAGED, tmp_path))
    assert {name: one["channels"] for name, one in described.items()} == {
        name: one["channels"] for name, one in written.items()
    }
    for file in sorted(tmp_path.glob("*.onnx")):
        ours, theirs = (onnx.load(folder / file.name).graph.initializer for folder in (PACKAGED, tmp_path))
        # Names of constants are the exporter's and may change with it; what they hold may not.
        sums = [
            sorted(float(np.square(numpy_helper.to_array(one), dtype=np.float64).sum()) for one in each)
            for each in (ours, theirs)
        ]
        # Weights of 8 bits are rounded by sums of float products, whose last bits differ between libraries.
        np.testing.assert_allclose(*sums, rtol=1e-3 if ".int8." in file.name else 1e-6)
