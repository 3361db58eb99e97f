"""From the command line: trained, exported, verified in each precision, and scored by the device side alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("onnx", reason="exporting needs the workstation's packages")

from command_line import run_here  # noqa: E402
from test_reconstruction import SMALL, good_images, with_spot  # noqa: E402

from edgead import Detector  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402

pytestmark = pytest.mark.slow

SETTINGS = {
    "strega": {"steps": 60, "area": 16},
    "strega of tissue": {"steps": 60, "area": 16, "segment": "true"},
    "obscure": {"steps": 20},
    "fader": {"steps": 20, "gate_steps": 10},
    "fader of draem": {"base": "draem", "steps": 10, "gate_steps": 5, "width": 1 / 32, "batch_size": 2, "window": 9},
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for number, image in enumerate(good_images(40)):
        write_image(folder / "train" / "good" / f"{number}.png", image[..., ::-1])
        if number < 6:
            write_image(folder / "test" / "good" / f"{number}.png", image[..., ::-1])
            write_image(folder / "test" / "spot" / f"{number}.png", with_spot(image)[..., ::-1])
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_from_images_to_every_precision(name, parts, tmp_path):
    detector, model = name.partition(" ")[0], tmp_path / "model"
    kept = {} if name.endswith("draem") else {key: SMALL[detector][key] for key in ("widths", "batch_images")}
    options = {**kept, **({"latent": 6} if detector == "strega" else {}), **SETTINGS[name]}
    arguments = [part for key, value in options.items() for part in ("--set", f"{key}={as_text(value)}")]
    arguments += ["--detector", detector, "--image-size", 64, "--false-reject-rate", 0.2]
    ended = run_here("train", parts, "-o", model, *arguments)
    assert ended.returncode == 0, ended.stderr
    for precision in ("fp16", "int8"):
        ended = run_here("export", model, parts, "--precision", precision, "--tolerance", 0.1)
        assert ended.returncode == 0, ended.stderr
    ended = run_here("verify", model, "--all")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert load_network(Artifact.load(model)) is not None
    opened = Detector.load(model)
    scores = {
        kind: [opened.predict(load_image(parts / "test" / kind / f"{number}.png")).image_score for number in range(6)]
        for kind in ("good", "spot")
    }
    assert np.isfinite(scores["good"]).all()
    if not name.endswith("draem"):  # ten steps teach it nothing
        assert min(scores["spot"]) > max(scores["good"])


def as_text(value: object) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


def test_the_graph_has_the_attention_in_it(tmp_path, monkeypatch):
    """Saliency of `ear`, with a small tower in the place of DINO."""
    import onnxruntime
    from edgead.export.graph import export_onnx

    from edgead.artifact.manifest import Manifest
    from edgead_reconstruction.ear.detector import Ear

    names = pytest.importorskip("edgead_foundation.backbones.names", reason="towers come with edgead-foundation")
    monkeypatch.setitem(names.TOWERS, "dino_vits8", names.Tower(names.DINO, "vit_small_patch8_224", 8, 64, 32, 2, 2))
    torch.manual_seed(0)
    settings = {**SMALL["obscure"], "saliency": "attention", "backbone": "dino_vits8"}
    method = Ear.from_settings(settings, pretrained=False)
    for parameter in method.network.mask.saliency.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    images = good_images(4)
    trained = method.fit(images)
    export_onnx(trained.network, tmp_path / "model.onnx", Manifest.draft("ear", trained.preprocessing, trained.head))
    batch = np.stack([images[0], with_spot(images[1])])
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"image": batch})
    with torch.inference_mode():
        expected = trained.network(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert 0 < float(method.network.mask(torch.from_numpy(batch)).mean()) < 0.5
