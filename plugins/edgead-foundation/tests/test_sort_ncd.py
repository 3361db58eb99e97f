"""`edgead sort --method anomaly_ncd`: a model and a transformer become folders of kinds; what is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from command_line import run_here  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from test_anomaly_ncd import draw_set  # noqa: E402

import edgead  # noqa: E402
from edgead import Detector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.workstation.trainer.loop import span_text  # noqa: E402
from edgead_foundation.anomaly_ncd import losses, training  # noqa: E402
from edgead_foundation.anomaly_ncd.encoder import MaskGuidedVit  # noqa: E402
from edgead_foundation.anomaly_ncd.sort import Sorting, SortResult  # noqa: E402
from edgead_foundation.anomaly_ncd.sorter import RegionImages, clusters_of, read_base  # noqa: E402
from edgead_foundation.anomaly_ncd.training import Plan  # noqa: E402
from edgead_foundation.backbones.vit import VisionTransformer, VitShape, read_vit  # noqa: E402

SMALL = VitShape(image_size=32, patch_size=8, width=64, depth=2, heads=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A transformer of random weights, so small that a training takes seconds."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(VisionTransformer(SMALL).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def rejects(trained_model, line_data, tmp_path_factory) -> Path:
    """Four images of the built-in line that the model rejects."""
    folder = tmp_path_factory.mktemp("rejects")
    with Detector.load(trained_model) as detector:
        paths = sorted(line_data.glob("test/*/*.jpg"))
        found = [path for path in paths if detector.predict(path).decision != "ok"]
    for number, path in enumerate(found[:4]):
        shutil.copy(path, folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Rejects of another product: three of each of two kinds, and their masks."""
    folder = tmp_path_factory.mktemp("base")
    for number, (kind, (image, scores)) in enumerate(
        zip([1, 2] * 3, zip(*draw_set([1, 2] * 3), strict=True), strict=True)
    ):
        name = "spot" if kind == 1 else "stripe"
        write_image(folder / name / f"{number}.png", image)
        mask = np.where(scores > 0.5, 255, 0).astype(np.uint8)
        write_image(folder / "ground_truth" / name / f"{number}_mask.png", mask)
    return folder


def options(weights: Path | None, **changed: object) -> tuple[object, ...]:
    settings = {"weights": weights, "epochs": 1, "device": "cpu", **changed}
    given = (word for name, value in settings.items() if value is not None for word in ("--set", f"{name}={value}"))
    return ("--method", "anomaly_ncd", "--kinds", 2, *given)


def test_kinds_go_into_folders_and_a_seed_repeats_them(trained_model, rejects, weights, tmp_path):
    tables = []
    for name in ("first", "again"):
        out = tmp_path / name
        ended = run_here("sort", trained_model, rejects, "-o", out, *options(weights), "--json")
        assert ended.returncode == 0, ended.stderr
        tables.append((out / "kinds.csv").read_text())
    assert tables[0] == tables[1]
    said = r"learns 2 kinds from \d+ crops of 4 images, and none of a known kind, in 1 epochs: about \d+ seconds on cpu"
    assert re.search(said, ended.stderr)
    report = json.loads(ended.stdout)
    assert report["sorted"] == 4 and sum(row["images"] for row in report["kinds"]) == 4
    assert {row["stability"] for row in report["kinds"]} == {None}
    placed = {path.name: path.read_bytes() for path in out.glob("kind-0*/*")}
    assert placed == {path.name: path.read_bytes() for path in rejects.iterdir()}
    assert load_image(out / "sheet.jpg").shape[1] >= 1400
    with (out / "pareto.csv").open(newline="") as lines:
        assert {row["stability"] for row in csv.DictReader(lines)} == {""}


def test_labelled_defects_of_a_base_are_learnt_in_the_supervised_half(
    trained_model, rejects, weights, base, tmp_path, monkeypatch
):
    seen = []
    supervised = losses.supervised_contrast

    def watch(projections, labels):
        found = supervised(projections, labels)
        seen.append((set(labels.tolist()), found.requires_grad))
        return found

    monkeypatch.setattr(losses, "supervised_contrast", watch)
    tables = {}
    for name, more in (("without", {}), ("with", {"base": base})):
        out = tmp_path / name
        ended = run_here("sort", trained_model, rejects, "-o", out, *options(weights, **more), "--json")
        assert ended.returncode == 0, ended.stderr
        assert bool(seen) is bool(more)
        tables[name] = json.loads(ended.stdout)["sorted"]
    assert "and 6 of 2 known kinds, in 1 epochs" in ended.stderr
    assert set.union(*(labels for labels, _ in seen)) == {0, 1} and seen[-1][1]
    assert set(tables.values()) == {4}  # the base itself is not sorted


def test_a_base_is_cut_around_its_masks(base):
    known = read_base(base)
    assert known.labels == [0, 0, 0, 1, 1, 1]
    image = load_image(base / "spot" / "0.png")
    y, x = (int(v[len(v) // 2]) for v in np.nonzero(load_image(base / "ground_truth" / "spot" / "0_mask.png")[..., 0]))
    assert known.images[0].shape[0] < image.shape[0] and (known.images[0] == image[y, x]).all(axis=2).any()
    assert (known.masks[0] > 0).sum() == 18 * 18


def test_a_base_has_folders_of_kinds(base):
    with pytest.raises(SettingsError, match="put rejects of each kind into BASE/KIND"):
        read_base(base / "spot")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("ground_truth", r"holds no base: put rejects of each kind into BASE/KIND and their masks"),
        ("ground_truth/spot/2_mask.png", r"the defect on .*2\.png is not marked: add its mask to"),
    ],
)
def test_a_base_without_a_mask_is_refused(trained_model, rejects, weights, base, tmp_path, broken, message):
    copied = tmp_path / "base"
    shutil.copytree(base, copied)
    target = copied / broken
    target.unlink() if target.is_file() else shutil.rmtree(target)
    out = tmp_path / "kinds"
    ended = run_here("sort", trained_model, rejects, "-o", out, *options(weights, base=copied))
    assert ended.returncode == 2 and re.search(message, ended.stderr), ended.stderr
    assert not out.exists()


def test_any_model_will_do_and_a_seed_decides(trained_model, rejects, weights, monkeypatch):
    def refuse(_):
        raise SettingsError("its scores do not show in what way")

    monkeypatch.setattr(Detector, "check_describes", refuse)
    settings = {"weights": str(weights), "epochs": 1, "device": "cpu"}
    plan = {"count": 2, "method": "anomaly_ncd", "settings": settings}
    with edgead.load(trained_model) as model:
        with pytest.raises(SettingsError, match="in what way"):
            model.sort(rejects)
        first, other = (model.sort(rejects, seed=seed, **plan) for seed in (0, 1))
    assert len(first.of_kind(0)) >= 2 and len(first.images) == 4
    assert not np.array_equal(first.clusters.distances, other.clusters.distances)


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("--kinds", "auto"), {}, "does not find how many kinds there are: give their number"),
        (("--kinds", 1), {}, "at least 2"),
        (("--kinds", 9), {}, "4 images cannot be of 9 kinds"),
        (
            (),
            {"weights": None},
            "give a file of DINO or DINOv2 with --set weights=FILE, such as dino_vitbase8_pretrain",
        ),
        ((), {"weights": "nowhere.pth"}, "there is no file nowhere.pth"),
        ((), {"base": "nowhere"}, "nowhere: no such folder"),
        ((), {"epochs": 0}, "epochs"),
        ((), {"steps": 3}, "anomaly_ncd has no setting steps"),
        (("--method", "residuals"), {}, "residuals has no settings: leave out weights, epochs, device"),
        (("--method", "dbscan"), {}, "unknown method of sorting 'dbscan': choose one of residuals, anomaly_ncd"),
    ],
    ids=str,
)
def test_what_is_refused(trained_model, rejects, weights, tmp_path, words, settings, message):
    given = (*options(**{"weights": weights, **settings}), *words)
    ended = run_here("sort", trained_model, rejects, "-o", tmp_path / "kinds", *given)
    assert ended.returncode == 2 and message in ended.stderr, ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_training_that_is_stopped(trained_model, rejects, weights, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run_steps", stop)
    ended = run_here("sort", trained_model, rejects, "-o", tmp_path / "kinds", *options(weights))
    assert ended.returncode not in (0, 2) and "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_ends_a_long_training_at_once(trained_model, rejects, weights, tmp_path):
    # A shell starts what is in the background with SIGINT ignored, and Python leaves it so.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom edgead.cli import main; main()"
    )
    words = ["sort", trained_model, rejects, "-o", tmp_path / "kinds", *options(weights, epochs=100000)]
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("Ctrl-C" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        rest = running.communicate(timeout=60)[1]
    assert running.returncode == 130 and "Traceback" not in rest, rest
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_changes_nothing():
    torch.manual_seed(0)
    state = VisionTransformer(SMALL).state_dict()
    found = []
    for asks in (False, True):
        vit = VisionTransformer(SMALL)
        vit.load_state_dict(state)
        sorting = Sorting(*draw_set([1, 2, 1, 2]), Plan(2, 1, 4), encoder=MaskGuidedVit(vit), device="cpu")
        before = torch.get_rng_state()
        if asks:
            assert 0 < sorting.seconds() < 60
        assert torch.equal(before, torch.get_rng_state())
        found.append(sorting.run().probabilities)
    np.testing.assert_array_equal(*found)


def test_kinds_without_an_image_are_left_out_and_named():
    probabilities = np.eye(4)[[0, 3, 3, 1]] * 0.8 + 0.05
    probabilities[2] = [0.1, 0.2, 0.2, 0.5]
    found = clusters_of(SortResult(probabilities.argmax(axis=1), probabilities, []))
    assert found.labels.tolist() == [1, 0, 0, 2] and found.count == 3
    assert found.distances[1] < found.distances[2]
    assert "kind 2 draws what hardly deviates" in found.notes[0]
    assert found.notes[1] == "1 of the 4 kinds that were asked for have no image"


def test_an_image_is_cut_to_what_the_map_covers(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    write_image(tmp_path / "1.png", image)
    np.testing.assert_array_equal(RegionImages([tmp_path / "1.png"], None)[0], image)
    np.testing.assert_array_equal(RegionImages([tmp_path / "1.png"], (4, 6, 20, 10))[0], image[6:16, 4:24])


def test_spans_are_written_for_people():
    assert [span_text(s) for s in (0.01, 61, 121, 3600, 7201, 8.7e5)] == [
        "1 seconds",
        "61 seconds",
        "3 minutes",
        "60 minutes",
        "3 hours",
        "11 days",
    ]


def test_a_file_of_dinov2_is_read(tmp_path):
    # Each residual is multiplied, positions are of images of 518 pixels, and one tensor serves its training alone.
    torch.manual_seed(1)
    shape = VitShape(image_size=518, patch_size=14, width=64, depth=1, heads=1)
    plain = VisionTransformer(shape)
    torch.nn.init.normal_(plain.cls_token)
    columns = torch.arange(37.0).repeat(37)[:, None].expand(-1, 64)
    plain.pos_embed.data[0, 1:] = columns / 37
    gammas = [torch.rand(64) + 0.5 for _ in range(2)]
    state = {"mask_token": torch.zeros(1, 64), "blocks.0.ls1.gamma": gammas[0], "blocks.0.ls2.gamma": gammas[1]}
    save_file({**plain.state_dict(), **state}, tmp_path / "vit.safetensors")

    read = read_vit(tmp_path / "vit.safetensors").requires_grad_(False)
    assert read.shape == VitShape(image_size=224, patch_size=14, width=64, depth=1, heads=1)
    positions = read.pos_embed[0, 1:].reshape(16, 16, 64)
    assert torch.allclose(positions[0], positions[9], atol=1e-5) and (positions[0].diff(dim=0) > 0.04).all()
    assert torch.equal(read.pos_embed[:, 0], plain.pos_embed[:, 0])
    x, block = read.embed(torch.rand(1, 3, 224, 224)), plain.blocks[0]
    y = x + gammas[0] * block.attn(block.norm1(x))
    y = y + gammas[1] * block.mlp(block.norm2(y))
    torch.testing.assert_close(read.blocks[0](x), y, rtol=1e-4, atol=1e-5)
