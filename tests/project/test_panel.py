"""The panel: what is measured, what is not measured again, and what is chosen with a set left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import panel, panel_anomalib, panel_results
from benchmarks.panel_measures import escapes_at, fastest, measure_outcomes, spread, time_frames
from benchmarks.panel_results import Result, Results, result_key
from benchmarks.panel_sets import PanelSet, find_sets, lay_out_tiles
from benchmarks.panel_settings import Setting, build_settings, read_presets
from benchmarks.panel_tables import MEASURES, leave_one_out, measure_table, tables
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import LabelledImage, find_good_images
from edgead.errors import SettingsError
from edgead.images.files import write_image
from edgead.report.evaluate import Outcome

AUROC = MEASURES["image_AUROC"]
# b is best on everything; without cookie's outlier a is.
VALUES = {
    "a": {"bottle": 0.90, "brick": 0.80, "cookie": 0.10, "ped2": 0.30},
    "b": {"bottle": 0.80, "brick": 0.70, "cookie": 0.95, "ped2": 0.60},
}


def result(set_name, setting, *, opponent=False, frame_ms=5.0, commit="abc", **measures):
    content = {
        "measures": {"frame_ms": frame_ms, **measures},
        "opponent": opponent,
        "commit": commit,
        "machine": {"cpu": "a CPU"},
        "calibration": {"false_reject_rate": 0.05},
    }
    return Result(set_name, setting, content)


def results_of(values, **more):
    return [
        result(name, setting, image_AUROC=value, **more)
        for setting, row in values.items()
        for name, value in row.items()
    ]


def section(lines, title):
    """The rows of one table, a list of cells each, without its header."""
    start = next(place for place, line in enumerate(lines) if line.startswith(f"**{title}**"))
    rows = []
    for line in lines[start + 1 :]:
        if line.startswith("**"):
            break
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return {row[0]: row[1:] for row in rows[2:]}


def test_escapes_are_counted_at_the_rate_that_good_parts_realise():
    good, bad = np.arange(100.0), np.array([93.5, 94.0, 94.5, 98.5, 200.0])
    labels = np.repeat([False, True], [100, 5])
    scores = np.concatenate([good, bad])
    # Five good parts are above 94, one is above 98.
    assert escapes_at(labels, scores, 0.05) == pytest.approx(2 / 5)
    assert escapes_at(labels, scores, 0.01) == pytest.approx(3 / 5)
    # Twenty good parts support no rate of 1 %: none may be rejected.
    few = np.concatenate([np.arange(20.0), [18.5, 19.0, 19.5]])
    assert escapes_at(np.repeat([False, True], [20, 3]), few, 0.01) == pytest.approx(2 / 3)
    assert escapes_at(np.repeat([False, True], [20, 3]), few, 0.05) == 0.0


def outcome(defect, score, decision="ok", mask=None):
    anomaly_map = np.zeros((4, 4), np.float32)
    anomaly_map[:2] = score
    return Outcome(LabelledImage(Path(f"test/{defect}/0.png"), defect, None), score, decision, anomaly_map, mask)


def test_pixels_are_measured_where_there_are_masks():
    clean, top = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    top[:2] = True
    good = [outcome("good", 0.1, "reject", clean), outcome("good", 0.2, "ok", clean)]
    without = [outcome("crack", 0.9), outcome("crack", 0.8, "reject")]
    measured = measure_outcomes([*good, *without], 0.5)
    assert (measured["pixel_AUROC"], measured["AUPRO"]) == (None, None)
    assert (measured["false_rejects"], measured["escapes"], measured["image_AUROC"]) == (0.5, 0.5, 1.0)
    # A defect without a mask is left out and does not take the measure from the others.
    measured = measure_outcomes([*good, *without, outcome("dent", 0.9, "ok", top)], None)
    assert measured["pixel_AUROC"] == 1.0
    assert (measured["false_rejects"], measured["escapes"]) == (None, None)


def test_the_fastest_engine_counts_and_warm_up_does_not():
    assert fastest({"x": {"median_ms": 3, "p95_ms": 4}, "y": {"median_ms": 2, "p95_ms": 9}}) == {
        "frame_ms": 2,
        "frame_p95_ms": 9,
    }
    seen = []
    found = time_frames(seen.append, list(range(7)))
    assert found["frames"] == 7 and len(seen) == 12
    assert spread(list(range(100)), 3) == [0, 50, 99] and spread([1, 2], 3) == [1, 2]


def test_the_mean_is_over_judged_sets_and_needs_all_of_them():
    partial = {**VALUES, "c": {"bottle": 1.0}}
    table = measure_table(partial, AUROC)
    assert table[0] == "|  | a | b | c |"
    assert "| brick | 0.800 | 0.700 | – |" in table
    assert "| **mean of 3** | 0.600 | 0.817 | – |" in table
    assert "| **worst of 3** | 0.100 | 0.700 | – |" in table
    assert table[-1] == "| ped2 (beside) | 0.300 | 0.600 | – |"
    assert MEASURES["escapes"].worst([0.1, 0.9]) == 0.9 and AUROC.worst([0.1, 0.9]) == 0.1


def test_a_set_does_not_choose_what_it_is_reported_with():
    assert leave_one_out(VALUES, AUROC) == {
        "bottle": ("b", 0.80),
        "brick": ("b", 0.70),
        "cookie": ("a", 0.10),  # with cookie b is best, but cookie may not say so
        "ped2": ("b", 0.60),
    }
    # Lower is better for escapes.
    assert leave_one_out(VALUES, MEASURES["escapes"])["cookie"] == ("b", 0.95)
    # Who lacks a judged set takes no part.
    assert leave_one_out({**VALUES, "c": {"bottle": 1.0, "brick": 1.0}}, AUROC)["cookie"] == ("a", 0.10)


def test_the_choice_is_ours_and_within_the_latency():
    results = results_of(VALUES) + results_of({"anomalib": dict.fromkeys(VALUES["a"], 1.0)}, opponent=True)
    chosen = section(tables(results), "Chosen with the set left out")
    assert chosen["cookie"][0] == "0.100 (a)"
    assert chosen["**mean**"][0] == f"{(0.80 + 0.70 + 0.10) / 3:.3f}"
    assert chosen["**worst**"][0] == "0.100"
    assert section(tables(results), "image AUROC")["bottle"] == ["0.900", "0.800", "1.000"]
    slow = results_of({"a": VALUES["a"]}, frame_ms=20.0) + results_of({"b": VALUES["b"]})
    chosen = section(tables(slow, latency_ms=15), "Chosen with the set left out")
    assert chosen["cookie"][0] == "0.950 (b)"
    assert "Not chosen, above 15 ms: a." in tables(slow, latency_ms=15)


def test_mixed_commits_are_said():
    lines = tables([result("bottle", "a", image_AUROC=0.5), result("brick", "a", image_AUROC=0.5, commit="def")])
    assert any("abc, def: compare with care" in line for line in lines)


def test_presets_and_settings_of_the_command_line():
    with pytest.raises(SystemExit, match="two settings are called fast"):
        build_settings(["fast", "fast:window=3"])
    given = "default,wide:preset=fast,window=7,layers=[stride8,stride16],top_patches=3,fast"
    wide = "wide:preset=fast,window=7,layers=[stride8,stride16],top_patches=3"
    assert read_presets(given) == ["default", wide, "fast"]
    pytest.importorskip("torch", reason="settings are resolved by the workstation's packages")
    default, wide, fast = build_settings(read_presets(given), ["seed=3"])
    assert [setting.name for setting in (default, wide, fast)] == ["default, seed=3", "wide, seed=3", "fast, seed=3"]
    assert (wide.settings["window"], wide.settings["top_patches"], wide.settings["seed"]) == (7, 3, 3)
    assert default.settings["top_patches"] == 10, "a default must be in the key of a result"
    assert fast.settings["backbone"] == "efficientnet_lite0"
    assert build_settings(["m:detector=mvg"])[0].detector == "mvg"
    with pytest.raises(SettingsError, match="no setting windows"):
        build_settings(["wide:windows=7"])


@pytest.fixture
def small_panel(tmp_path):
    """One set: noise of 20 good images to learn, 12 good and 12 with a bright square to test."""
    rng = np.random.default_rng(0)
    for place, count in (("train/good", 20), ("test/good", 12), ("test/spot", 12)):
        for number in range(count):
            image = rng.integers(90, 120, (64, 64, 3)).astype(np.uint8)
            if place == "test/spot":
                image[20:44, 20:44] = 255
                mask = np.zeros((64, 64), np.uint8)
                mask[20:44, 20:44] = 255
                write_image(tmp_path / f"panel/cookie/ground_truth/spot/{number}_mask.png", mask)
            write_image(tmp_path / f"panel/cookie/{place}/{number}.png", image)
    return tmp_path / "panel"


TINY = "tiny:preset=fast,image_size=[64,64],memory_bank_size=40,layers=[stride8]"


@pytest.mark.slow
def test_a_run_measures_what_is_missing_and_nothing_again(small_panel, tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    arguments = [str(small_panel), "-o", str(tmp_path / "work"), "--sets", "cookie", "--presets", TINY]
    panel.main(arguments)
    shown = capsys.readouterr().out
    assert shown.startswith("cookie, tiny: image AUROC 1.000")
    file = tmp_path / "work/results/cookie.tiny.json"
    content = json.loads(file.read_text())
    assert content["calibration"]["false_reject_rate"] == 0.2 and (content["groups"]) == 20
    assert content["key"]["settings"]["image_size"] == [64, 64] and content["key"]["settings"]["sigma_px"] == 4.0
    assert len(content["images"]) == 24
    spots = [row["score"] for row in content["images"] if row["defect"] == "spot"]
    assert min(spots) > max(row["score"] for row in content["images"] if row["defect"] == "good")
    assert content["measures"]["escapes_at_1"] == 0.0 and content["measures"]["AUPRO"] > 0.5
    assert content["frame_times"]["onnxruntime"]["frames"] == 24 and content["commit"] and content["machine"]["cpu"]

    panel.main(arguments)
    assert json.loads(file.read_text()) == content and "tiny: image AUROC" not in capsys.readouterr().out
    panel.main([*arguments, "--table"])
    shown = capsys.readouterr().out
    assert section(shown.splitlines(), "image AUROC")["cookie"] == ["1.000"]
    assert "thresholds are from: cookie 20, 20." in shown


def test_a_setting_is_measured_by_the_groups_of_its_set(small_panel, trained_model, tmp_path, monkeypatch):
    """In place of a training, a model that is there; the training itself is in the slow test above."""
    from edgead.adapt.training import from_folder

    asked = []

    def train(good, destination, *_, **__):
        asked.append((good.false_reject_rate, good.split(find_good_images(good.data), 0, leaves_out=True)))
        shutil.copytree(trained_model, destination)
        return Artifact.load(destination), []

    monkeypatch.setattr(from_folder, "train_from_folder", train)
    rows = [f"{number}.png,{number // 2}" for number in range(20)]
    (tmp_path / "groups.csv").write_text("\n".join(["path,group", *rows]))
    data = PanelSet("cookie", small_panel / "cookie", str(tmp_path / "groups.csv"))
    measured = panel.measure_setting(data, Setting("tiny", "patchcore", {"image_size": [64, 64]}), tmp_path / "model")
    ((rate, split),) = asked
    assert rate is None and split.rate == 0.2
    assert split.groups.count == 10
    groups = measured["training"]["groups"]
    assert (measured["groups"], measured["calibration_groups"]) == (groups["groups"], groups["held_out_groups"])
    assert len(measured["images"]) == 24 and measured["measures"]["frame_ms"] > 0


def test_what_makes_a_result_another_one(small_panel, tmp_path, monkeypatch, capsys):
    """Which pairs are measured is asked of `main`; what is measured does not matter here."""
    pytest.importorskip("torch", reason="settings are resolved by the workstation's packages")
    made = []

    def measured(_, data, setting):
        made.append((data.name, setting.name))
        return {"measures": {"image_AUROC": 0.5, "frame_ms": 1.0}}

    monkeypatch.setattr(panel, "in_passing", measured)
    arguments = [str(small_panel), "-o", str(tmp_path / "work"), "--sets", "cookie", "--presets", TINY]
    for more, fresh in (
        ([], ["tiny"]),
        ([], []),
        (["--again"], ["tiny"]),
        (["--set", "window=3"], ["tiny, window=3"]),
        (["--presets", TINY.replace("=40", "=41")], ["tiny"]),
    ):
        made.clear()
        panel.main([*arguments, *more])
        assert [setting for _, setting in made] == fresh, more


def test_a_result_is_found_by_its_key_alone(small_panel, tmp_path, monkeypatch):
    data = PanelSet("cookie", small_panel / "cookie")
    results = Results(tmp_path / "results")
    key = result_key(data, "patchcore", {"layers": ("a", "b")})
    assert results.find(data, "x", key) is None
    results.write(data, "x", key, {"measures": {}})
    assert results.find(data, "x", key) is not None
    assert results.find(data, "x", {**key, "detector": "mvg"}) is None
    write_image(small_panel / "cookie/test/good/another.png", np.zeros((64, 64, 3), np.uint8))
    assert result_key(data, "patchcore", {"layers": ("a", "b")}) != key, "an image was added"
    (small_panel / "cookie/test/good/another.png").unlink()
    assert result_key(data, "patchcore", {"layers": ("a", "b")}) == key
    (tmp_path / "groups.csv").write_text("path,group\n0.png,1\n")
    by_file = PanelSet(data.name, data.folder, str(tmp_path / "groups.csv"))
    key_by_file = result_key(by_file, "patchcore", {})
    assert key_by_file["groups"] not in (key["groups"], by_file.group), "a file counts by what it holds"
    (tmp_path / "groups.csv").write_text("path,group\n0.png,2\n")
    assert result_key(by_file, "patchcore", {}) != key_by_file
    monkeypatch.setattr(panel_results, "PROTOCOL", panel_results.PROTOCOL + 1)
    assert result_key(data, "patchcore", {"layers": ("a", "b")}) != key, "a measure means something else"
    assert results.all(["bottle"]) == [] and len(results.all()) == 1
    (tmp_path / "results/broken.json").write_text("{}")
    with pytest.raises(SystemExit, match="not a result of the panel"):
        results.all()


def test_sets_that_are_not_there_are_named(small_panel, tmp_path):
    with pytest.raises(SystemExit, match="no set bottel.*cookie, line.*tiles needs --tiles"):
        find_sets(small_panel, tmp_path, only=["bottel"])
    assert find_sets(small_panel, tmp_path, only=["cookie"]) == [PanelSet("cookie", small_panel / "cookie", "auto")]
    with pytest.raises(SystemExit, match="no such folder"):
        find_sets(tmp_path / "nowhere", tmp_path)


def test_tiles_are_laid_out_by_their_own_script_or_not_at_all(tmp_path):
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    with pytest.raises(SystemExit, match="holds no lay_by_tile.py"):
        lay_out_tiles(tiles, tmp_path / "work/tiles")
    script = tiles / "lay_by_tile.py"
    script.write_text("import os, sys; os.makedirs(sys.argv[1] + '/train/good'); sys.exit('no groups.csv')")
    with pytest.raises(SystemExit, match="no groups.csv"):
        lay_out_tiles(tiles, tmp_path / "work/tiles")
    assert list((tmp_path / "work").iterdir()) == []
    script.write_text("import os, sys; os.makedirs(sys.argv[1] + '/train/good')")
    assert (lay_out_tiles(tiles, tmp_path / "work/tiles") / "train/good").is_dir()
    (found,) = find_sets(tmp_path, tmp_path / "work", tiles=tiles, only=["tiles"])
    assert found.group == str(tiles / "groups.csv")
    script.unlink()  # what is laid out is not laid out again
    assert lay_out_tiles(tiles, tmp_path / "work/tiles").is_dir()


def test_without_anomalib_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(panel_anomalib, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install anomalib"):
        panel_anomalib.check_installed()


def test_the_coreset_of_the_opponent_is_greedy_from_a_random_row_of_its_projection():
    torch = pytest.importorskip("torch", reason="anomalib's projection is one of torch tensors")
    torch.manual_seed(4)
    embedding = torch.randn(60, 5)
    projection = SimpleNamespace(fit=lambda x: None, transform=lambda x: 3 * x[:, :2])
    sampler = SimpleNamespace(model=projection, embedding=embedding, n_observations=60, coreset_size=9)
    state = torch.get_rng_state()
    rows = panel_anomalib.select_rows(sampler)
    torch.set_rng_state(state)
    expected = [int(torch.randint(high=60, size=(1,)))]
    features = embedding[:, :2]
    for _ in range(8):
        expected.append(int(torch.cdist(features, features[expected]).min(dim=1).values.argmax()))
    assert rows == expected
