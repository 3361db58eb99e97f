"""What others name is shown on a terminal, and moves nothing there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from edgead.cli.app import find_images
from edgead.cli.console import stderr, stdout
from edgead.cli.predict_files import verdict_table, without_heat_maps, write_verdicts
from edgead.errors import SettingsError
from edgead.images.files import write_image


def test_commands_for_the_terminal_are_shown_and_not_followed():
    name = "a\x1b]0;pwned\x07\x1b[2J\x9b1m\u202egnp.b ü　名.png"
    shown = "a\\x1b]0;pwned\\x07\\x1b[2J\\x9b1m\\u202egnp.b ü　名.png"
    table = Table("device")
    table.add_row(name)
    for console in (stdout, stderr):
        for printed in (name, table):
            with console.capture() as capture:
                console.print(printed, soft_wrap=True)
            assert shown in capture.get()


def test_images_are_taken_of_all_folders_below_and_good_ones_of_one(tmp_path):
    (tmp_path / "crack").mkdir()
    for name in ("a.png", "crack/b.png"):
        write_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert [path.name for path in find_images([tmp_path])] == ["a.png", "b.png"]
    assert [path.name for path in find_images([tmp_path], below=False)] == ["a.png"]


def test_what_every_reject_beyond_the_good_images_has_is_not_repeated():
    row = {
        "decision": "reject",
        "image_score": 3.0,
        "kind": None,
        "typical_score": None,
        "threshold": 1.0,
        "review_threshold": 1.0,
    }
    row |= {"boxes": []}
    rows = [{**row, "image": f"{number}.png", "p_value": p} for number, p in enumerate((0.04, 0.04, 0.05))]
    with stdout.capture() as capture:
        stdout.print(verdict_table(rows, "en"))
    said = " ".join(capture.get().split())
    assert said.count("scores so high") == 1 and "1 good part in 20 scores so high" in said
    with stdout.capture() as capture:
        stdout.print(verdict_table(rows[1:], "en"))
    assert capture.get().count("scores so high") == 2


def test_a_table_of_verdicts_has_the_score_of_the_screen_and_a_column_for_what_was_measured(tmp_path):
    row = {"decision": "reject", "image_score": 3.0, "score": 300.0, "threshold": 1.0, "boxes": [], "measured": {}}
    rows = [{**row, "image": "a.png", "measured": {"push_mm": -0.3, "image": 7.0}}, {**row, "image": "b.png"}]
    volumes = [{"volume": "scan", "score": 2.5, "threshold": 2.0, "decision": "reject"}]
    write_verdicts([*rows, {"image": "c.png", "problem": "cut off"}], tmp_path / "out.csv", volumes)
    with open(tmp_path / "out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [one["image"] for one in found] == ["a.png", "b.png", "c.png", "scan"]
    assert [one["score"] for one in found] == ["300.0", "300.0", "", ""]  # volumes have no such scale
    assert [one["image_score"] for one in found] == ["3.0", "3.0", "", "2.5"]
    assert [one["push_mm"] for one in found] == ["-0.3", "", "", ""]


def test_a_wildcard_that_found_nothing_says_so(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing/\*\.png: no file matches$"):
        find_images([Path("nothing/*.png")])
    odd = tmp_path / "a[1].png"
    write_image(odd, np.zeros((4, 4, 3), np.uint8))
    assert find_images([odd]) == [odd]


def test_heat_maps_where_no_folder_can_be_made_are_refused_before_any_image_is_judged(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file/maps: the folder cannot be made \(Not a directory\)"):
        without_heat_maps([], [tmp_path], tmp_path / "file" / "maps")
