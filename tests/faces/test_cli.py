"""The command: every verb end to end on real files, exit codes, JSON, and errors without tracebacks."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Ended, run_here
from fakes import write_video

import edgead as package
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.cli import app
from edgead.cli.console import stdout
from edgead.cli.predict_files import without_heat_maps
from edgead.dataset.folders import find_test_images, no_progress
from edgead.detector import Detector
from edgead.images.files import load_image, write_image
from edgead.report.folder import evaluate_folder
from edgead.report.worst_cases import show_case

pytest.importorskip("torch", reason="training needs the workstation's packages")


def edgead(*arguments: object, code: int = 0, columns: int = 300) -> Ended:
    result = run_here(*arguments, columns=columns)
    assert result.returncode == code, result.stderr + result.stdout
    return result


def report(*arguments: object, code: int = 0) -> dict:
    return json.loads(edgead(*arguments, "--json", code=code).stdout)


def in_a_process(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it: with an interpreter of its own, whose warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", "from edgead.cli import main; main()", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    return result


def refused(monkeypatch, folder: Path, arguments: list, code: int = 2) -> str:
    """What a command says that ends with an error and leaves nothing in the folder where it runs."""
    monkeypatch.chdir(folder)
    result = edgead(*arguments, code=code)
    assert list(folder.iterdir()) == []
    return " ".join(result.stderr.replace("│", "").split())


@pytest.fixture(scope="module")
def model(line_data, once) -> Path:
    def train(path: Path) -> None:
        options = ["--preset", "fast", "--image-size", "160", "--memory-bank-size", "400"]
        options += ["--false-reject-rate", "0.05", "--precision", "fp32", "--json"]
        started = time.perf_counter()
        facts = json.loads(in_a_process("train", line_data, "-o", path, *options).stdout)
        assert facts["fit_seconds"] < facts["took_seconds"] < time.perf_counter() - started < 2 * facts["took_seconds"]
        assert facts["training_images"] == facts["calibration_images"] == 60
        assert facts["false_reject_rate"] == 0.05

    return once("cli", train)


@pytest.mark.slow
def test_train_on_a_plain_folder(line_data, tmp_path):
    out = tmp_path / "model"
    options = ["--normal-dir", ".", "--roi", "40,40,400,400", "--image-size", "64,96", "--memory-bank-size", "50"]
    edgead("train", line_data / "train" / "good", "-o", out, "--preset", "fast", *options)
    manifest = json.loads((out / "manifest.json").read_text())
    (only,) = manifest["inputs"]
    assert only["preprocessing"]["roi"] == [40, 40, 400, 400] and only["preprocessing"]["image_size"] == [64, 96]


def test_eval(model, line_data, tmp_path):
    sheet = tmp_path / "worst.jpg"
    result = report("eval", model, line_data, "--sheet", sheet)
    assert result["images"] == 20
    assert 0.5 < result["image_AUROC"] <= 1
    assert 0 < result["AUPRO"] <= 1
    assert set(result["defect_types"]) == {"chipped_edge", "crack", "dent", "missing_hole", "scratch", "stain"}
    assert result["false_reject_rate"]["total"] == 8
    assert load_image(sheet).shape[0] > 300
    assert "image AUROC" in edgead("eval", model, line_data).stdout


def test_eval_says_where_far_more_good_parts_are_rejected_than_the_limit_is_for(model, line_data, tmp_path):
    shutil.copytree(line_data / "test", tmp_path / "test")
    for path in (tmp_path / "test" / "good").iterdir():
        cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    said = edgead("eval", model, tmp_path).stdout
    assert re.search(r"The limit is for about \d+ % false rejects, and rejects 100 % of these good parts: more", said)
    assert "more than chance.\nAll 8 good parts are rejected: another product, camera, light or model?" in said
    assert f"Compare {model}/golden/0.png with yours." in said and "alibrate" not in said


def test_predict(model, line_data, tmp_path):
    images = line_data / "test" / "good"
    result = report("predict", model, images, images / "000.jpg", "--heat-maps", tmp_path / "maps")
    assert len(result["images"]) == 9
    assert result["images"][0]["image_score"] == result["images"][8]["image_score"]
    assert len(list((tmp_path / "maps").iterdir())) == 8
    missing = edgead("predict", model, images, "missing.png", code=1)
    assert "missing.png: no such file" in missing.stderr


def cut_one(line_data: Path, folder: Path) -> Path:
    """Good images, one of which was cut to other proportions."""
    folder.mkdir()
    for number, path in enumerate(sorted((line_data / "train" / "good").iterdir())[:30]):
        whole = load_image(path)
        write_image(folder / f"{number}.png", whole[:200] if number == 7 else whole)
    return folder


def test_predict_names_images_unlike_the_golden_ones(model, line_data, tmp_path):
    images = cut_one(line_data, tmp_path / "images")
    words = "1 of 30 images, 7.png first, have other proportions (480 x 200 pixels) than the model's golden images"
    assert f"warning: {words}" in edgead("predict", model, images).stderr
    found = report("predict", model, images)
    assert found["warnings"][0].startswith(words)
    formats = {Path(row["image"]).stem: row["other_format"] for row in found["images"] if row["other_format"]}
    assert formats == {"7": "proportions"}
    assert "warning" not in edgead("predict", model, line_data / "test").stderr


def test_eval_and_report_name_images_unlike_the_golden_ones_as_predict_does(model, line_data, tmp_path):
    """And do not advise to calibrate on them."""
    for path in (line_data / "test").rglob("*.jpg"):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[:200]
        write_image(tmp_path / "test" / path.parent.name / path.name, cv2.merge(3 * [255 - grey]))
    all_rejected, warning = report("predict", model, tmp_path / "test")["warnings"]
    assert all_rejected.startswith("All 20 images are rejected: if some of them are good, another product")
    warning = warning.replace("chipped_edge", "good")  # of the order
    assert "have other proportions (480 x 200 pixels) than the model's golden images (480 x" in warning
    found = edgead("eval", model, tmp_path)
    assert f"warning: {warning}" in found.stderr
    assert "of these good parts: more than chance.\n" in found.stdout and "alibrate" not in found.stdout
    page = tmp_path / "page.html"
    assert report("report", model, tmp_path, "-o", page)["warnings"] == [warning]
    words = unescape(page.read_text(encoding="utf-8"))
    assert f"<b>Warning:</b> {warning}." in words and "edgead calibrate" not in words
    assert all("defects pass as ok" in one for one in report("eval", model, line_data)["warnings"])


@pytest.mark.slow
def test_train_names_images_unlike_the_others(line_data, tmp_path):
    images = cut_one(line_data, tmp_path / "images")
    options = ["--preset", "fast", "--image-size", "64", "--memory-bank-size", "50"]
    words = "warning: 1 of 30 images, 7.png first, have other proportions (480 x 200 pixels) than the others"
    assert words in edgead("train", images, "-o", tmp_path / "model", *options).stderr
    (images / "7.png").unlink()
    assert "other proportions" not in edgead("train", images, "-o", tmp_path / "model", *options).stderr


def test_predict_shows_the_highest_scores_and_the_counts(model, line_data, tmp_path):
    names = [f"{number:02d}.jpg" for number in range(24)]
    for number, name in enumerate(names):
        kind = "dent" if number % 12 == 5 else "good"
        shutil.copy(line_data / "test" / kind / "000.jpg", tmp_path / name)
    damaged = tmp_path / names[9]
    damaged.write_bytes(b"")
    said = edgead("predict", model, tmp_path, "--csv", tmp_path / "all.csv", code=1).stdout
    listed = [line.split()[1] for line in said.splitlines() if line.startswith("│ ")]
    assert listed[:3] == [names[9], names[5], names[17]] and len(listed) == 21
    assert "... and 3 with lower scores: --csv FILE writes all" in said
    assert "Of 24 images: 21 ok, 2 reject, 1 not judged." in said and f"The table is {tmp_path}/all.csv." in said
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 25


def test_predict_goes_on_past_a_damaged_image(model, line_data, tmp_path):
    """In a folder of folders; and neither tables nor names of files lose where an image lies."""
    parts = tmp_path / "a long name of a folder that does not fit" / "beside a table" / "parts"
    for kind in ("good", "dent"):
        shutil.copytree(line_data / "test" / kind, parts / kind)
    damaged = parts / "dent" / "001.jpg"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    options = ["--csv", tmp_path / "out" / "verdicts.csv", "--heat-maps", tmp_path / "maps"]
    result = edgead("predict", model, parts, *options, code=1, columns=80)
    assert f"{damaged}: truncated JPEG" in result.stderr and "1 of 10 images could not be judged" in result.stderr
    assert all(f"│ {kind}/{number}.jpg" in result.stdout for kind in ("good", "dent") for number in ("000", "001"))
    with open(tmp_path / "out" / "verdicts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(path) for path in sorted(parts.glob("*/*"))]
    assert rows[1]["decision"] == "" and rows[1]["problem"].startswith("truncated JPEG")
    assert float(rows[2]["image_score"]) > 0 and rows[2]["decision"] in ("ok", "review", "reject")
    assert all((float(row["score"]) > 100) == (row["decision"] == "reject") for row in rows if row["decision"])
    highest = max(float(row["score"] or 0) for row in rows)
    assert re.search(rf"│ reject +│ +{highest:.0f} +│ 100 +│", result.stdout)  # as the table has it
    maps = sorted(str(path.relative_to(tmp_path / "maps")) for path in (tmp_path / "maps").glob("*/*"))
    assert len(maps) == 9 and maps[0].startswith("dent/000.jpg_") and maps[1].startswith("good/000.jpg_")
    assert [row["heat_map"] for row in rows if row["heat_map"]] == [str(tmp_path / "maps" / name) for name in maps]
    assert "could not be judged" in edgead("predict", model, damaged, code=2).stderr


def test_eval_and_calibrate_go_on_past_damaged_images_and_end_with_one(model, line_data, tmp_path):
    """And a folder of which no image, or none of one kind, can be read is refused."""
    data, mine = tmp_path / "data", shutil.copytree(model, tmp_path / "model")
    shutil.copytree(line_data / "test", data / "test")
    for path in (damaged := [data / "test" / "good" / "000.jpg", data / "test" / "dent" / "001.jpg"]):
        path.write_bytes(path.read_bytes()[:3000])
    whole, found = report("eval", mine, line_data), report("eval", mine, data, code=1)
    assert (found["images"], found["groups"]) == (whole["images"] - 2, whole["images"] - 2)
    assert [said.partition(": truncated JPEG")[0] for said in found["unreadable_images"]] == [*map(str, damaged)]
    said = f"2 of {whole['images']} images cannot be read and do not count: {damaged[0]}: truncated JPEG"
    assert said in found["warnings"][0] and f"; {damaged[1]}: truncated JPEG" in found["warnings"][0]
    page = tmp_path / "page.html"
    assert said in edgead("eval", mine, data, code=1).stderr
    assert said in edgead("report", mine, data, "-o", page, code=1).stderr
    assert f"2 of {whole['images']} images cannot be read" in page.read_text(encoding="utf-8")
    assert "is no regular expression" in edgead("eval", mine, data, "--group", "(", code=2).stderr

    good = data / "test" / "good"
    changed = report("calibrate", mine, good, "--false-reject-rate", "0.2", "--accept-outliers", code=1)
    assert (changed["written"], changed["images"], len(changed["unreadable_images"])) == (True, 7, 1)
    assert f"1 of 8 images cannot be read and do not count: {damaged[0]}: truncated" in changed["warnings"][0]
    assert len(Artifact.load(mine).manifest.threshold_changes) == 1
    for path in good.iterdir():
        path.write_bytes(b"\xff\xd8")
    assert "no good image of" in edgead("eval", mine, data, code=2).stderr
    assert "none of 8 images can be read" in edgead("calibrate", mine, good, code=2).stderr


@pytest.mark.slow
def test_groups_are_kept_whole_from_training_to_export(line_data, tmp_path):
    """Five shots of a part: names 000 to 004 and so on."""
    data, out = tmp_path / "data", tmp_path / "model"
    for place in ("train/good", "test/good", "test/dent"):
        (data / place).mkdir(parents=True)
        for number, path in enumerate(sorted((line_data / place).iterdir())):
            (data / place / f"part{number // 5:02d}_{number % 5}.jpg").symlink_to(path)
    options = ["--preset", "fast", "--image-size", "96", "--memory-bank-size", "200", "--group", "^part[0-9]+"]
    facts = report("train", data, "-o", out, *options, "--false-reject-rate", "0.2")
    assert (facts["training_images"], facts["calibration_images"]) == (60, 60)
    groups = facts["groups"]
    assert (groups["groups"], groups["learnt_groups"], groups["held_out_groups"]) == (12, 12, 12)
    assert groups["rule"] == "^part[0-9]+" and "12 groups of 60 images" in groups["account"]
    limits = json.loads((out / "manifest.json").read_text())["graphs"]["fp32"]["calibration"]
    assert limits["method"] == "cross_conformal" and sorted(limits["groups"]) == [i // 5 for i in range(60)]
    report("export", out, data, "--precision", "int8")
    added = json.loads((out / "manifest.json").read_text())["graphs"]["int8"]["calibration"]
    assert added["method"] == "cross_conformal" and sorted(added["groups"]) == sorted(limits["groups"])
    result = report("eval", out, data, "--group", "^part[0-9]+")
    assert result["false_reject_rate"]["groups"] == 2 and result["groups"] == 2
    change = report("calibrate", out, data / "test" / "good", "--group", "none", "--dry-run")
    assert change["groups"] == 8 and change["after"]["method"] == "split_conformal"


@pytest.mark.slow
def test_verify_and_export(model, line_data):
    result = report("verify", model, line_data / "test" / "good")
    assert result["torch_and_deployed"]["passed"] and result["golden_and_deployed"]["passed"]
    assert result["torch_and_deployed"]["images"] == 8
    edgead("export", model, "--precision", "fp32")
    assert "passed" in edgead("verify", model).stdout


def test_stream_gives_the_scores_of_predict(model, line_data, tmp_path):
    images = [load_image(image.path) for image in find_test_images(line_data)]
    writer = cv2.VideoWriter(str(tmp_path / "line.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()
    verdicts = tmp_path / "verdicts.jsonl"
    summary = report(
        "stream", model, tmp_path / "line.avi", "--sink", f"jsonl:{verdicts}", "--sink", f"images:{tmp_path}/p"
    )
    assert summary["frames"] == summary["captured"] == len(images)
    assert summary["fault"] is None and summary["dropped"] == 0
    rows = [json.loads(line) for line in verdicts.read_text().splitlines()]
    assert [row["number"] for row in rows] == list(range(len(images)))

    # The same frames, decoded once more and judged as files.
    capture = cv2.VideoCapture(str(tmp_path / "line.avi"), cv2.CAP_OPENCV_MJPEG)  # FFmpeg's images are darker
    (tmp_path / "frames").mkdir()
    for number in range(len(images)):
        ok, frame = capture.read()
        assert ok and cv2.imwrite(str(tmp_path / "frames" / f"{number:03d}.png"), frame)
    predicted = report("predict", model, tmp_path / "frames")["images"]
    assert [row["image_score"] for row in rows] == [row["image_score"] for row in predicted]
    assert [row["decision"] for row in rows] == [row["decision"] for row in predicted]


def test_a_stream_of_another_product_says_what_it_may_be(model, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(6):
        write_image(tmp_path / f"{number}.png", rng.integers(0, 256, (256, 256, 3), np.uint8))
    said = edgead("stream", model, tmp_path).stderr
    assert "All 6 images are rejected: if some of them are good, another product, camera, light or model?" in said


def test_a_stream_of_half_frames_says_so_once_and_counts_them(model, line_data, tmp_path, caplog):
    for number, path in enumerate(sorted((line_data / "test" / "good").iterdir())[:4]):
        image = load_image(path)
        write_image(tmp_path / "frames" / f"{number}.png", image[: len(image) // 2] if number else image)
    height, width = image.shape[:2]
    ended = edgead("stream", model, tmp_path / "frames")
    words = f"frames of {width} x {height // 2} pixels where the model learnt {width} x {height}: parts are cut off"
    assert caplog.text.count(words) == 1
    assert "3 of another format than the model learnt" in " ".join(ended.stdout.split())
    assert report("stream", model, tmp_path / "frames")["other_format"] == 3
    assert report("stream", model, line_data / "test" / "good")["other_format"] == 0


def test_profile(model):
    result = report("profile", model, "-n", "30", "--warmup", "3")
    assert result["n"] == 30
    assert {"preprocess", "infer", "score", "smooth", "total"} <= set(result["latency"])
    assert result["machine"]["cpu"]


def test_doctor():
    findings = report("doctor", "--no-cameras")
    assert findings["onnxruntime"]["ok"] and findings["native kernels"]["ok"]


def test_a_changed_weight_fails_the_gate(model, tmp_path):
    from test_export import change_a_weight, stamp

    copy = Path(shutil.copytree(model, tmp_path / "m"))
    change_a_weight(copy)
    stamp(copy)
    assert "FAILED" in edgead("verify", copy, code=1).stdout


def test_a_source_that_fails_ends_with_one(model, tmp_path):
    video = write_video(tmp_path / "line.avi", 10)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    result = edgead("stream", model, video, code=1)
    assert "ended by fault" in " ".join(result.stdout.split()) and result.stderr.startswith(f"fault: {video}: ")


def test_a_stream_of_files_of_which_one_is_broken_judges_the_others_and_ends_with_one(
    model, line_data, tmp_path, caplog
):
    for number in (0, 1):
        shutil.copy(line_data / "test" / "dent" / f"00{number}.jpg", tmp_path)
    (tmp_path / "000b.jpg").write_bytes((tmp_path / "000.jpg").read_bytes()[:3000])
    result = edgead("stream", model, tmp_path, "--json", code=1)
    summary = json.loads(result.stdout)
    assert (summary["frames"], summary["unreadable"], summary["fault"]) == (2, 1, None)
    assert "000b.jpg: truncated JPEG" in caplog.text
    assert result.stderr.rstrip().endswith("1 of 3 images could not be read")


def test_heat_maps_are_not_judged_by_the_next_run(model, line_data, tmp_path):
    shutil.copy(line_data / "test" / "good" / "000.jpg", tmp_path)
    for _ in range(2):
        found = report("predict", model, tmp_path, "--heat-maps", tmp_path / "maps")["images"]
        assert [row["image"] for row in found] == [str(tmp_path / "000.jpg")]
    around = [tmp_path / "parts" / "000.jpg"]
    assert without_heat_maps(around, [tmp_path / "parts"], tmp_path) == around


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing", "-o", "out"], "no such folder"),
        (["train", "{data}", "-o", "{data}"], "is not an edgead model"),
        (["train", "{data}", "-o", "out", "--preset", "magic"], "choose one of fast, default, fine"),
        (["train", "{data}", "-o", "out", "--detector", "mvg", "--preset", "auto"], "auto is of patchcore"),
        (["train", "{data}", "-o", "out", "--layers", "layer9"], "choose from stem, stride2"),
        (["train", "{data}", "-o", "out", "--set", "window"], "expected NAME=VALUE"),
        (["train", "{data}", "-o", "out", "--set", "window=["], "expected NAME=VALUE"),
        (["train", "{data}", "-o", "out", "--set", "colour=red"], "no setting colour"),
        (
            ["train", "{data}", "-o", "out", "--set", "image_size=384,384"],
            "image_size: a list in brackets is needed, found '384,384'",
        ),
        (["train", "{data}", "-o", "out", "--set", "window=wide"], "parse string as an integer, found 'wide'"),
        (["train", "{data}", "-o", "out", "--roi", "1,2,3"], "expected 4 whole numbers"),
        (["train", "{data}", "-o", "out", "--detector", "oracle"], "unknown detector 'oracle'"),
        (["train", "{data}", "-o", "out", "--false-reject-rate", "0.001"], "needs 999 good images"),
        (["train", "{data}", "-o", "out", "--false-reject-rate", "2"], "between 0 and 1"),
        (
            ["train", "{data}", "-o", "out", "--detector", "efficient_ad", "--preset", "paper"],
            "Give --weights with teacher_small",
        ),
        (["eval", "missing", "{data}"], "edgead train"),
        (["eval", "{model}", "missing"], "missing: no such folder"),
        (["eval", "{model}", "{data}/train/good"], "is no test set: it needs test/good"),
        (["predict", "{model}", "missing.png"], "no such file"),
        (["predict", "{model}", ""], "edgead predict: argument 2 is empty: is a variable of the shell unset?"),
        (["report", "{model}", "{data}", "--output="], "edgead report: --output= has no value"),
        (["predict", "{model}", "{data}/test", "--heat-maps", "{data}/test"], "is where the images lie"),
        (["export", "{model}", "{data}", "--precision", "fp8"], "not one of 'fp32', 'fp16', 'int8'"),
        (["stream", "{model}", "missing.avi"], "no such file"),
        (["stream", "{model}", "camera:77"], "camera"),
        (["stream", "{model}", "synthetic:?count=1", "--sink", "fax:123"], "fax"),
        (["nonsense"], "No such command"),
        (["--threads", "300", "doctor"], "less than or equal to 256"),
        (["train", "{data}", "-o", "out", "--seed", "-1"], "greater than or equal to 0"),
        (["train", "{data}", "-o", "out", "--image-size", "0"], "at least 1"),
        (["train", "{data}", "-o", "out", "--image-size", "640x"], "such as 640 or 640x480"),
        (["train", "{data}", "-o", "out", "--image-size", "7"], "patchcore needs at least 32 pixels a side"),
        (["train", "{data}", "-o", "out", "--roi", "0,0,0,10"], "at least 1"),
        (["train", "{data}", "-o", "out", "--normal-dir", "/nonexistent"], "no folder /nonexistent"),
        (["train", "{data}", "-o", "out", "--review-rate", "0.001"], "review rate"),
        (["train", "{data}", "-o", "out", "--group", "part["], "is no regular expression"),
        (["train", "{data}", "-o", "out", "--group", "missing.csv"], "missing.csv is missing: name a file"),
        (
            ["train", "{data}", "-o", "out", "--group", "^..", "--false-reject-rate", "0.1"],
            "needs 9 groups of good images, found 6: take 3 more first",
        ),
        (["eval", "{model}", "{data}", "--group", "^[a-z]"], "finds no group in the name 000.jpg"),
        (["stream", "{model}", "synthetic:?count=1", "--sink", "jsonl:-", "--json"], "standard output"),
    ],
)
def test_usage_errors(model, line_data, tmp_path, monkeypatch, arguments, message):
    filled = [argument.format(data=line_data, model=model) for argument in arguments]
    assert message in refused(monkeypatch, tmp_path, filled)


def test_views_of_few_parts_are_counted_as_parts_before_they_are_read(tmp_path, monkeypatch):
    for name in ("views", "empty"):
        (tmp_path / name).mkdir()
    for part in range(10):
        for view in range(6):
            (tmp_path / "views" / f"kos{part:02}_{view}.png").touch()
    asked = ["train", tmp_path / "views", "-o", "out", "--false-reject-rate"]
    said = refused(monkeypatch, tmp_path / "empty", [*asked, "0.02"])
    assert "needs 49 groups of good images, found 10: take 39 more first. A rate of 0.091," in said
    assert "60 of 60 images cannot be read" in refused(monkeypatch, tmp_path / "empty", [*asked, "0.091"])


@pytest.mark.slow
def test_sigterm_while_the_model_is_written_leaves_nothing(line_data, tmp_path):
    options = ["--preset", "fast", "--image-size", "96", "--memory-bank-size", "200"]
    command = [sys.executable, "-c", "from edgead.cli import main; main()", "train", line_data, "-o", tmp_path / "m"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".m.*/*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert list(tmp_path.iterdir()), "the draft was never seen"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_names_are_printed_as_they_are(model, line_data, tmp_path):
    image = tmp_path / "part[left].jpg"
    image.write_bytes((line_data / "test" / "good" / "000.jpg").read_bytes())
    assert "part[left].jpg" in edgead("predict", model, image).stdout
    other = tmp_path / "part[" / "red].jpg"  # as a path, it holds what closes a colour in rich's markup
    other.parent.mkdir()
    image.rename(other)
    assert f"images in {tmp_path}/part[" in edgead("predict", model, other, columns=40).stdout
    (tmp_path / "other.jpg").symlink_to(other)
    assert "part[/red].jpg" in edgead("predict", model, tmp_path).stdout


def test_version():
    assert in_a_process("--version").stdout.strip() == package.__version__


def test_profile_at_a_rate_writes_samples_and_is_compared(model, tmp_path):
    reports = []
    for name in ("a", "b"):
        options = ["--rate", "100", "--duration", "0.3", "--samples", tmp_path / "s.csv"]
        reports.append(tmp_path / f"{name}.json")
        reports[-1].write_text(json.dumps(report("profile", model, *options, "--warmup", "1")))
    assert (tmp_path / "s.csv").read_text().startswith("number,arrived_s,")
    ratios = report("profile", "--compare", *reports)["ratios"]
    assert ratios["total"]["p50_ms"] > 0 and ratios["total"]["p99_9_ms"] is None
    other = json.loads(reports[1].read_text())
    other["machine"]["cpu"] = "another"
    reports[1].write_text(json.dumps(other))
    refused = edgead("profile", "--compare", *reports, code=2).stderr
    assert "cpu is" in refused and "another" in refused
    assert "name a model" in edgead("profile", code=2).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "resnet9"], "unknown backbone 'resnet9': choose one of efficientnet_lite0"),
        (["--layers", "layer9"], "choose from stem, stride2"),
        (["--set", "windw=3"], "no setting windw"),
        (["--preset", "magic"], "choose one of fast, default, fine"),
        (["--detector", "oracle"], "choose one of patchcore"),
        (["--preset", "auto", "--set", "windw=3"], "no setting windw"),
        (["--detector", "simplenet", "--layers", "layer9"], "choose from stem, stride2"),
        (["--weights", "missing.pt"], "'missing.pt' does not exist"),
        (["--device", "tpu"], "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
    ],
)
def test_usage_errors_come_before_images_are_read(line_data, tmp_path, monkeypatch, options, message):
    def refuse(*_arguments, **_settings):
        raise AssertionError("an image was read")

    for module in ("edgead.dataset.folders", "edgead.adapt.training.good_images"):
        monkeypatch.setattr(f"{module}.load_image", refuse)
    assert message in refused(monkeypatch, tmp_path, ["train", line_data, "-o", "out", *options])


def test_help_lists_the_choices():
    shown = " ".join(edgead("train", "--help").stdout.split())
    assert "one of patchcore, simplenet, efficient_ad, mvg, draem, golden" in shown
    assert "one of onnxruntime, openvino, tensorrt" in " ".join(edgead("eval", "--help").stdout.split())


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("train data --detector sim", {"simplenet"}),
        ("train data --device c", {"cpu", "cuda"}),
        ("predict m i --runtime o", {"onnxruntime", "openvino"}),
        ("export m --precision f", {"fp32", "fp16"}),
        ("pre", {"predict", "presets"}),
    ],
)
def test_a_shell_completes_the_choices(monkeypatch, capsys, words, completions):
    monkeypatch.setenv("_EDGEAD_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"edgead {words}")
    with pytest.raises(SystemExit):
        app(prog_name="edgead")
    assert set(re.findall(r'"([a-z_0-9]+)"', capsys.readouterr().out)) == completions


def test_presets_are_listed_with_what_they_are_for():
    listed = report("presets")
    assert {"patchcore", "simplenet", "efficient_ad", "mvg", "draem"} <= listed.keys()
    assert "auto" in listed["patchcore"]["presets"] and "auto" not in listed["mvg"]["presets"]
    for detector in listed.values():
        assert detector["purpose"] and all(preset["purpose"] for preset in detector["presets"].values())


def test_the_closed_choices_are_all_there_are():
    from typing import get_args

    from edgead.artifact.manifest import PRECISIONS
    from edgead.cli.choices import DeviceName, PrecisionName
    from edgead.workstation.trainer.device import DEVICES

    assert get_args(PrecisionName) == PRECISIONS and get_args(DeviceName) == DEVICES


def test_an_empty_mask_of_a_defect_is_reported(model, line_data, tmp_path):
    data = Path(shutil.copytree(line_data, tmp_path / "data", ignore=shutil.ignore_patterns("train")))
    mask = next((data / "ground_truth" / "dent").iterdir())
    assert cv2.imwrite(str(mask), np.zeros((480, 480), np.uint8))
    for verb in (["eval"], ["report", "-o", tmp_path / "page.html"]):
        result = edgead(verb[0], model, data, *verb[1:])
        assert f"masks of 1 defective images mark nothing, such as that of {data}/test/dent/000" in result.stderr


def test_predict_counts_images_that_the_model_has_learnt(model, line_data):
    learnt, new = (sorted((line_data / place / "good").iterdir())[:3] for place in ("train", "test"))
    result = edgead("predict", model, *learnt, new[0])
    said = f"3 of 4 images were learnt by this model, {learnt[0].name} first: their scores are too low"
    assert said in result.stderr
    assert "were learnt" not in edgead("predict", model, *new).stderr


@pytest.fixture
def partly_learnt(line_data, tmp_path) -> Path:
    """A test set of three good images that the model has learnt, two that it has not, and two defects."""
    parts = tmp_path / "parts"
    shutil.copytree(line_data / "test" / "dent", parts / "dent")
    for place, count in (("train", 3), ("test", 2)):
        for path in sorted((line_data / place / "good").iterdir())[:count]:
            (parts / "good").mkdir(exist_ok=True)
            shutil.copy(path, parts / "good" / f"{place}-{path.name}")
    return parts


def test_defects_of_the_set_that_were_learnt_as_good_are_warned_of(model, partly_learnt, line_data):
    learnt = sorted((line_data / "train" / "good").iterdir())[0]
    before = report("eval", model, partly_learnt)["counts"]
    said = f"1 defective images of this set were learnt as good, {Path('dent', 'learnt.png')} first: defects like them"
    shutil.copy(learnt, partly_learnt / "dent" / "learnt.png")
    for options in ([], ["--left-out"]):
        assert said in " ".join(edgead("eval", model, partly_learnt, *options).stderr.split())
    after = report("eval", model, partly_learnt)["counts"]
    assert after == before | {"defects_passed": before["defects_passed"] + 1}  # as the device judges it


def test_images_that_the_model_has_learnt_are_not_measured(model, partly_learnt, tmp_path):
    """The figures are those of the set without them, and one sentence among the figures counts them."""
    names = sorted(path.name for path in (partly_learnt / "good").glob("train-*"))
    said = f"3 images were learnt by this model and are not measured, {names[0]} first"
    result = edgead("eval", model, partly_learnt)
    assert said in result.stdout and result.stdout.index(said) < result.stdout.index("AUROC")
    assert "learnt" not in result.stderr
    page = tmp_path / "page.html"
    edgead("report", model, partly_learnt, "-o", page)
    written = page.read_text(encoding="utf-8")
    assert written.index(f"{said}.") < written.index("Defects by type")
    found = report("eval", model, partly_learnt)
    assert found.pop("learnt_images") == [str(partly_learnt / "good" / name) for name in names]
    assert found.pop("learnt_account") == said
    for name in names:
        (partly_learnt / "good" / name).unlink()
    without = report("eval", model, partly_learnt)
    assert (without.pop("learnt_images"), without.pop("learnt_account")) == ([], "")
    assert found == without and found["false_reject_rate"]["total"] == 2


def test_learnt_images_are_measured_as_strangers_where_that_is_asked(model, partly_learnt, tmp_path, monkeypatch):
    """Each has the score that made the limit, in the figures, on the sheet and on the page."""
    with Detector.load(model) as opened:
        evaluation = evaluate_folder(opened, partly_learnt, "none", no_progress, left_out=True)
        made_from = opened.graph.calibration.scores
        judge, asked = opened.predict_left_out, []
        monkeypatch.setattr(opened, "predict_left_out", lambda image, fold: asked.append(fold) or judge(image, fold))
        for outcome in evaluation.outcomes:
            is_learnt = outcome.image.path.name.startswith("train")
            assert (outcome.fold is not None) == is_learnt
            if is_learnt:
                assert min(abs(score - outcome.image_score) for score in made_from) < 1e-5
                assert outcome.image_score > opened.predict(outcome.image.path).image_score + 0.01
            assert show_case(opened, outcome).name.endswith(outcome.image.path.name) and asked.pop() == outcome.fold
        assert "3 images were learnt by this model and are judged by left-out scores" in repr(evaluation)
    found = report("eval", model, partly_learnt, "--left-out")
    assert (found["images"], found["false_reject_rate"]["total"]) == (7, 5)
    assert (len(found["left_out_images"]), found["learnt_images"]) == (3, [])
    result = edgead("eval", model, partly_learnt, "--left-out", "--sheet", tmp_path / "sheet.png")
    assert "judged by left-out scores, as strangers" in result.stdout and "--left-out -o report.html" in result.stdout
    edgead("report", model, partly_learnt, "--left-out", "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("judged by left-out scores") == 2


def test_where_all_good_images_were_learnt_the_way_to_measure_is_named(model, partly_learnt, tmp_path):
    for path in (partly_learnt / "good").glob("test-*"):
        path.unlink()
    command = f"edgead eval {model} {partly_learnt} --left-out"
    for verb in (["eval"], ["report"]):
        result = edgead(verb[0], model, partly_learnt, code=2)
        assert f"has learnt all 3 good images of {partly_learnt}" in result.stderr and f"`{command}`" in result.stderr
    assert edgead(*shlex.split(command)[1:]).stdout.startswith("5 test images")
    with Detector.load(model) as opened, pytest.raises(package.EdgeadError, match="did not learn in folds"):
        head = opened.manifest.head.model_copy(update={"folds": 0})
        opened.artifact.manifest = opened.manifest.model_copy(update={"head": head})
        evaluate_folder(opened, partly_learnt, "none", no_progress, left_out=True)


@pytest.mark.slow
def test_a_plain_folder_is_all_that_training_and_export_need(line_data, tmp_path):
    """And where a folder was named, export knows it from the model. What it replaces is kept."""
    good, out = line_data / "train" / "good", tmp_path / "model"
    options = ["-o", out, "--preset", "fast", "--image-size", "64", "--memory-bank-size", "50", "--set", "window=1"]
    text = edgead("train", good, *options, columns=80).stdout
    table, advice = text.split("About 1 good part in 20 will")
    assert max(map(len, table.splitlines())) <= 80 and "…" not in table
    assert advice.startswith(
        " be rejected (about 5 %, from 60 images, each scored by what was learnt from the others)."
    )
    assert f"  {shlex.join(['edgead', 'predict', str(out), 'IMAGES', '--heat-maps', 'maps'])} " in advice
    assert ".versions" not in text
    export = [out, good, "--precision", "fp16"]
    assert report("export", *export).items() >= {"precision": "fp16", "replaced": "fp32"}.items()
    first = (out / "manifest.json").read_bytes()

    text = edgead("train", line_data, *options, "--normal-dir", "train/good").stdout
    assert f"is the newest in {out}.versions; `edgead teach {out} --undo` puts it back" in text
    assert (tmp_path / "model.versions" / "2" / "manifest.json").read_bytes() == first  # behind that before the export
    moved = tmp_path / "moved" / "train"
    moved.mkdir(parents=True)
    (moved / "good").symlink_to(good)
    (moved / "photo.jpg").symlink_to(good / "000.jpg")
    assert report("export", out, moved.parent, *export[2:])["precision"] == "fp16"
    for _ in range(2):  # the export, and the training
        edgead("teach", out, "--undo")
    assert (out / "manifest.json").read_bytes() == first


def test_commands_are_not_broken_at_the_width_of_the_terminal(trained_model, line_data, tmp_path, monkeypatch):
    out = tmp_path / "a long folder name with spaces" / "models of line number seven" / "model"
    shutil.copytree(trained_model, out)
    trained = Artifact.load(out), []
    monkeypatch.setattr("edgead.adapt.training.from_folder.train_from_folder", lambda *_, **__: trained)
    said = edgead("train", line_data, "-o", out, columns=80).stdout
    assert shlex.join(["edgead", "eval", str(out), str(line_data)]) in said
    assert shlex.join(["edgead", "teach", str(out), "--undo"]) in said


@pytest.mark.parametrize("preset", ["auto", "default"])
def test_a_destination_is_refused_before_any_work(preset, line_data, tmp_path, monkeypatch):
    monkeypatch.setattr("edgead.adapt.training.preset.preset_settings", lambda *_: pytest.fail("work has begun"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    refused = edgead("train", line_data, "-o", tmp_path / "photos", "--preset", preset, code=2)
    assert "is not an edgead model" in refused.stderr
    with pytest.raises(ArtifactError, match="is not an edgead model"):
        package.train(line_data, tmp_path / "photos", preset=preset)


def test_what_looks_like_an_emoji_is_printed_as_it_is(capsys):
    stdout.print("b:on:1.jpg")
    assert capsys.readouterr().out == "b:on:1.jpg\n"


@pytest.mark.skipif(sys.platform != "linux", reason="FILE NAMES OF BYTES NOT TESTED: names are text on this system")
def test_a_name_that_is_no_text_ends_nothing(trained_model, line_data, tmp_path, monkeypatch):
    image = next((line_data / "test" / "good").iterdir())
    folder = tmp_path / "parts"
    folder.mkdir()
    shutil.copy(image, os.fsencode(folder) + b"/caf\xe9.jpg")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    options = ["--csv", tmp_path / "table.csv", "--heat-maps", tmp_path / "maps"]
    assert r"caf\udce9.jpg" in in_a_process("predict", trained_model, folder, *options).stdout
    (row,) = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert row["image"].endswith("caf\\udce9.jpg") and row["decision"] == "ok"
    assert os.listdir(os.fsencode(tmp_path / "maps")) == [b"caf\xe9.jpg_ok.jpg"]


@pytest.mark.slow
def test_tables_fit_into_80_columns(model, line_data):
    verbs = [
        ("profile", model, "-n", "20", "--warmup", "1"),
        ("verify", model, line_data, "--all"),
        ("eval", model, line_data),
        ("stream", model, "synthetic:?count=3"),
    ]
    for verb in verbs:
        shown = edgead(*verb, columns=80).stdout
        table = shown.partition("\nNext:")[0]  # commands are to be copied: they stay in one line
        assert "…" not in table and max(map(len, table.splitlines())) <= 80, shown
        assert "preprocess" in shown or "onnxruntime" in shown or "missing_hole" in shown
