"""What the authors' code of S3AD makes of the outputs of a head that are drawn.

`python tests/s3ad_authors.py CODE OUT` writes the fixture, with CODE a copy of shiyi-mu/S3AD-Code. Of
`get_bboxes` the lines run that make a score of the head's outputs; what builds boxes of it, and needs their CUDA
operators, does not.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from authors import numbers

SOURCE = "visualDet3D/networks/heads/detection_3d_head.py"
ANCHORS, CLASSES = 200, 4
SCORES = ("RBAF", "RBA", "MSPF", "MSP")


def outputs() -> torch.Tensor:
    """Logits of the head, float32 (anchors, classes + 2): the classes, one that is not used here, the foreground."""
    return torch.from_numpy(3 * numbers("s3ad.logits", (ANCHORS, CLASSES + 2))).float()


def main(code: str, out: str) -> None:
    """Run the authors' lines for each of their scores, and write the numbers."""
    lines = Path(code, SOURCE).read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if 'if self.ood_score_type == "MSP"' in line)
    end = next(i for i, line in enumerate(lines) if i > begin and line.strip() == "else:")
    program = compile(textwrap.dedent("\n".join(lines[begin:end])), SOURCE, "exec")
    sigmoids = outputs().sigmoid()
    found = {"sigmoids": sigmoids.numpy()}
    for name in SCORES:
        given = {
            "self": SimpleNamespace(ood_score_type=name, balance_weights=[1.0] * CLASSES),
            "torch": torch,
            "cls_score": sigmoids[:, :CLASSES],
            "fg_score": sigmoids[:, CLASSES + 1 : CLASSES + 2],
        }
        exec(program, given)
        found[name] = given["ood_score"].numpy()[:, 0]
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
