"""What `edgead train` says at its end: what the rate means, where to look, what to do next."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Calibration
from edgead.cli import advice
from edgead.cli.advice import training_table
from edgead.cli.console import facts_table, pairs_table, stdout
from edgead.serialization.facts import fact_text


def with_calibration(artifact: Artifact, **changes) -> Artifact:
    """A draft of it whose thresholds say something else."""
    old = artifact.graph("fp32").calibration.model_dump()
    calibration = Calibration.model_validate({**old, **changes})
    return Artifact(artifact.path, artifact.manifest.with_graph("fp32", calibration=calibration))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"false_reject_rate": 0.1, "scores": [0.1] * 12},
            "About 1 good part in 10 will be rejected (about 10 %, from 12 images, each scored by what was learnt from "
            "the others). For 1 in 100, train with 99 good images and --false-reject-rate 0.01.",
        ),
        (
            {
                "false_reject_rate": 0.2,
                "scores": [0.1] * 8,
                "groups": [0, 0, 1, 1, 2, 2, 3, 3],
                "method": "group_conformal",
            },
            "About 1 good part in 5 will be rejected (at most 20 %, from 4 groups of images held out). For 1 in 100, "
            "train with 198 good groups of images and --false-reject-rate 0.01.",
        ),
        (
            {"false_reject_rate": 0.01, "scores": [0.1] * 99, "method": "split_conformal"},
            "About 1 good part in 100 will be rejected (at most 1 %, from 99 images held out).",
        ),
        (
            {"false_reject_rate": 0.01, "review_rate": 0.05, "scores": [0.1] * 99, "method": "split_conformal"}
            | {"review": 0.1, "reject": 0.2},
            "About 1 good part in 100 will be rejected (at most 1 %, from 99 images held out). About 1 good part in 20 "
            "will be for review or rejected.",
        ),
    ],
)
def test_the_rate_in_words(trained_model, tmp_path, changes, sentence):
    artifact = with_calibration(Artifact.load(trained_model), **changes)
    assert advice.advise(artifact, tmp_path, replaced=False)[0] == sentence


def test_the_highest_good_images_are_named_once(trained_model, tmp_path):
    """Where as many stand apart, a warning has named them already."""
    artifact = Artifact.load(trained_model)
    names = artifact.manifest.training["highest_images"]
    assert len(names) == 5 and artifact.manifest.training["images_apart"] == 0
    said = " ".join(advice.advise(artifact, tmp_path, replaced=False))
    assert f"of 60, each scored by what was learnt from the others: {', '.join(names)}. A defect" in said
    training = {**artifact.manifest.training, "images_apart": 5}
    warned = Artifact(artifact.path, artifact.manifest.model_copy(update={"training": training}))
    assert "Look once" not in " ".join(advice.advise(warned, tmp_path, replaced=False))


def test_the_next_commands_can_be_copied(trained_model, line_data, tmp_path):
    artifact = Artifact.load(trained_model)
    lines = advice.advise(artifact, line_data, replaced=False)
    assert f"  edgead eval {trained_model} {line_data}   # shows how many defects it finds" in lines
    plain = advice.advise(artifact, tmp_path, replaced=True)
    assert f"  edgead eval {trained_model} TEST_SET   # shows how many defects it finds" in plain
    assert f"The model that was here is the newest in {trained_model}.versions" in " ".join(plain)
    spaced = Artifact(tmp_path / "my model", artifact.manifest)
    assert any(f"edgead predict '{tmp_path}/my model' IMAGES" in line for line in advice._next(spaced, tmp_path))


@pytest.mark.parametrize(("places", "hint"), [([0, 0, 158, 80], True), ([0, 0, 80, 80], False), ([80] * 4, False)])
def test_scores_at_the_border_suggest_a_region(trained_model, monkeypatch, places, hint):
    """Of the four images that score highest, more than half: images of 480 x 480 then lose 30 px on each side."""
    rows = iter(places)

    def measure(_detector, _kept):
        anomaly_map = np.zeros((160, 160), np.float32)
        anomaly_map[next(rows), 70] = 1
        return SimpleNamespace(anomaly_map=anomaly_map)

    monkeypatch.setattr(advice, "measure_kept", measure)
    artifact = Artifact.load(trained_model)
    manifest = artifact.manifest.model_copy(update={"kept": artifact.manifest.kept[:12]})
    lines = advice._of_the_border(Artifact(artifact.path, manifest))
    assert [line.partition("train with ")[2] for line in lines] == ["--roi 30,30,420,420."] * hint


def test_a_model_with_a_region_gets_no_other(trained_model):
    artifact = Artifact.load(trained_model)
    manifest = artifact.manifest.with_preprocessing(roi=(0, 0, 400, 400))
    assert advice._of_the_border(Artifact(artifact.path, manifest)) == []


@pytest.mark.parametrize(("flips", "said"), [(4, "4 of 60 are judged"), (0, "none of 60 are judged")])
def test_what_int8_changes_is_said_with_its_verdicts(trained_model, flips, said):
    artifact = Artifact.load(trained_model)
    method = {"differences": {"mean_score_error": 0.0064, "images": 60}, "decision_flips": flips}
    record = artifact.manifest.graphs["fp32"].model_copy(update={"method": method})
    manifest = artifact.manifest.model_copy(update={"precision": "int8", "graphs": {"int8": record}})
    assert advice._of_the_precision(Artifact(artifact.path, manifest)) == [
        f"Frames run in int8, faster: scores of good images move by 0.64 % on average, and {said} otherwise than in "
        "fp32, where both have limits for the same rate. --precision fp32 trains without."
    ]


@pytest.mark.parametrize(
    ("damps", "said"),
    [
        (
            True,
            "counts less than what it looks like (damp_length): .* in 983, and in 970 if it counts as much as that.",
        ),
        (
            False,
            "counts as much as what it looks like (damp_length): .* in 970, and in 983 if it counts less than that.",
        ),
    ],
)
def test_why_strong_spots_count_less_or_as_much_is_said_with_its_evidence(damps, said):
    artifact: Any = SimpleNamespace(
        manifest=SimpleNamespace(training={"damping": {"damps": damps, "damped": 0.983, "plain": 0.97}})
    )
    (found,) = advice._of_the_damping(artifact)
    assert re.search(said.replace("(", r"\(").replace(")", r"\)"), found) and "AUROC" not in found


def test_the_matrix_fits_into_80_columns():
    """With the longest names, and none of them broken."""
    errors = {"score_error": 1.2e-10, "map_error": 3.4e-10, "verdict_flips": 120}
    figures = {"image_AUROC": 0.9876, "AUROC_change": -0.0123, "network_ms": 123.4, "frame_ms": 234.6, "size_mib": 12.3}
    row = {"precision": "int8_symmetric", "runtime": "onnxruntime", "images": 9, "passed": False, "faults": []}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(pairs_table([{**row, **errors, **figures}], "torch"))
    names = "int8_symmetric onnxruntime 1e-10 3e-10 120 0.988 -0.012 123 235 12.3 FAILED"
    assert " ".join(capture.get().splitlines()[-1].split()) == names


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"minmax": 0.04273584531379365, "entropy": 1.0}, "minmax 0.04274, entropy 1"),
        ([], "none"),
        (["a", 3], "a, 3"),
        ((1, None), "1, none"),
        (True, "yes"),
        (4.2e-7, "4.2e-07"),
        (119.2, "119.2"),
        (12345.6, "12346"),
    ],
)
def test_facts_are_not_python(value, text):
    assert fact_text(value) == text


def test_names_of_facts_are_words_with_their_unit_behind_the_number():
    with stdout.capture() as capture:
        stdout.print(facts_table("model", {"learnt_in_seconds": 119.2, "peak_memory_mib": 374, "took_ms": None}))
    said = " ".join(capture.get().replace("│", "").split())
    assert "learnt in 119.2 s" in said and "peak memory 374 MiB" in said and "took ms none" in said


@pytest.mark.parametrize("groups", [24, 12])
def test_groups_stand_in_the_table_of_a_training_where_there_are_any(groups):
    facts = {
        "model": "model", "training_images": 24, "threshold": 1.2, "review_threshold": 1.2, "took_seconds": 61.5,
        "groups": {"groups": groups, "account": f"{groups} groups of 24 images"},
    }  # fmt: skip
    with stdout.capture() as capture:
        stdout.print(training_table(facts))
    said = " ".join(capture.get().replace("│", "").split())
    assert ("groups of 24 images" in said) == (groups < 24)
    assert "limit, as a raw score 1.2" in said and "review" not in said and "took in all 61.5 s" in said
