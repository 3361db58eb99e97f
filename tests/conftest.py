"""Shared fixtures: a small data set of the built-in line and a model trained on it, made once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import full_disk

from edgead.demo import write_dataset


@pytest.fixture(scope="session")
def line_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in MVTec layout with 60 good training images."""
    return write_dataset(tmp_path_factory.mktemp("line") / "data", train_good=60, test_good=8, per_defect=2, seed=5)


@pytest.fixture(scope="session")
def trained_model(line_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small patchcore artifact; tests that change it copy it with `model_copy`."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.export.from_folder import GoodImages, train_from_folder

    path = tmp_path_factory.mktemp("model") / "model"
    settings = {"backbone": "efficientnet_lite0", "image_size": (160, 160), "memory_bank_size": 500}
    train_from_folder(GoodImages(line_data, false_reject_rate=0.05), path, settings)
    return path


@pytest.fixture
def model_copy(trained_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_model, tmp_path / "model"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full after one MiB."""
    with full_disk(tmp_path, size_kib=1024) as disk:
        yield disk
