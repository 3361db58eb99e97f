"""Models whose frames are timed in the first hour on a card: patchcore, and EfficientAD in its two sizes.

    python -m benchmarks gpu_networks FOLDER

Each learns for a moment from parts of the built-in line and has a graph in fp16 beside the one in fp32. EfficientAD's
teachers are of drawn weights: a network takes the same time whatever its weights are, but it judges nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PRESETS = {"small": "paper", "medium": "paper_medium"}
SIDE = 256
GOOD = 24
# Of drawn teachers nobody expects good scores, only a graph: the largest that `edgead export` takes.
TOLERANCE = "0.1"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu_networks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a model in each of its folders")
    folder = parser.parse_args(arguments).folder

    from edgead.synthetic import write_dataset

    data = write_dataset(folder / "line", train_good=GOOD, test_good=1, per_defect=1)
    learn = ["train", data, "--false-reject-rate", "0.2"]
    failed = [] if _made(folder / "patchcore", data, learn) else ["patchcore"]
    for size, preset in PRESETS.items():
        teacher = _draw_teacher(size, folder / f"{size}.safetensors")
        settings = ["--preset", preset, "--set", "steps=5", "--set", f"image_size=[{SIDE},{SIDE}]"]
        name = f"efficient_ad_{size}"
        if not _made(folder / name, data, [*learn, "--detector", "efficient_ad", "--weights", teacher, *settings]):
            failed.append(name)
    if failed:
        sys.exit(f"not made: {', '.join(failed)}")


def _draw_teacher(size: str, file: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    from edgead.workstation.methods.efficient_ad.student_teacher import CHANNELS, build_pdn

    torch.manual_seed(0)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(build_pdn(size, CHANNELS).state_dict(), file)
    return file


def _made(model: Path, data: Path, learn: list[object]) -> bool:
    """Train one and add its graph in fp16; False, with what edgead says on standard error, where that fails."""
    export = ["export", model, data, "--precision", "fp16", "--tolerance", TOLERANCE]
    return _edgead(*learn, "-o", model) and _edgead(*export)


def _edgead(*arguments: object) -> bool:
    command = [sys.executable, "-c", "from edgead.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, check=False).returncode == 0
