"""Process that trains for the daemon: it reads an order from standard input and writes JSON lines to standard output.

The process runs at the lowest priority and on one core, so that verdicts do not wait for it. It ends when its standard
input closes, so it never outlives the daemon.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from edgead import kernels
from edgead.adapt.commission.collect import as_sent, find_blurred, sharpness
from edgead.adapt.commission.run import DETECTOR
from edgead.adapt.methods.method import AUTO
from edgead.adapt.training.auto import suited_preset
from edgead.adapt.training.from_folder import planned_stages, train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.adapt.training.preset import preset_settings
from edgead.adapt.two_products import TwoProducts
from edgead.artifact.folder import Artifact
from edgead.artifact.training_hashes import find_folds
from edgead.calibration.group_conformal import have_several
from edgead.calibration.outliers import stand_apart
from edgead.dataset.groups import AUTO as GROUPED
from edgead.dataset.groups import NONE
from edgead.dataset.places import Place, read_region
from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.files.atomic import new_folder
from edgead.files.disk import FULL, writing
from edgead.images.files import load_image, write_image
from edgead.images.overlay import draw_heat
from edgead.types import scaled_score

_LOWEST_PRIORITY = 19
_MAP_PX = 960
MODEL, MAPS, RESULT = "model", "maps", "result.json"
_DRAW = "draw heat maps"
_PLANNED = (*planned_stages(DETECTOR, AUTO), _DRAW)


class TwoProductsError(EdgeadError):
    """Images that look like two products; `images` are the names of the smaller cluster."""

    def __init__(self, images: list[str]):
        super().__init__(f"{len(images)} images look like another product than the rest")
        self.images = images


def main() -> None:
    """Read the order, train, and report the progress and the result or error."""
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_daemon, daemon=True).start()
    os.nice(_LOWEST_PRIORITY)
    kernels.set_threads(1)
    cv2.setNumThreads(1)
    _say(**_end_of(order))


def _end_of(order: dict[str, Any]) -> dict[str, Any]:
    """Train; return the message about the end."""
    try:
        learn_order(order, _report)
    except TwoProductsError as error:
        return {"two_products": error.images}
    except EdgeadError as error:
        return {"problem": str(error)}
    except OSError as error:
        if error.errno not in FULL:
            return {"problem": str(error)}
        return {"problem": f"{error.filename} cannot be written: {error.strerror}; free some space, or discard drafts"}
    return {"finished": True}


def _report(stage: str, done: int, total: int) -> None:
    """Report the progress of a stage; when it is over, announce the next, which may report nothing for a long time."""
    following = _PLANNED[_PLANNED.index(stage) + 1 :] if done >= total and stage in _PLANNED else ()
    if following:
        stage, done, total = following[0], 0, 1
    _say(stage=stage, done=done, total=total)


def learn_order(order: dict[str, Any], progress: Any) -> None:
    """Train a model on images of good parts; write it with the scores and heat maps of the images.

    `order`: `images` (paths), `files` (names of original files by the name of the image), `frame_size`, `region`,
        `ignored` (numbers, see `edgead.dataset.places.read_ignored`), `preset`, `data` (source of the images),
        `one_product` (a person says that all images show one product) and `folder`, which is created with the model,
        the heat maps and the result, or not at all.
    `progress` (callable): called with (stage, done, total).
    Raises TwoProductsError: the images look like two products, and nobody says that they show one.
    """
    paths = [Path(path) for path in order["images"]]
    made = Path(order["folder"])
    with writing(made), new_folder(made) as unfinished, as_sent(paths, order["files"]) as (folder, name_of):
        good = _good_images(order, folder, name_of)
        preset = suited_preset() if order["preset"] == AUTO else order["preset"]
        settings, account = preset_settings(good, DETECTOR, preset)
        apart: list[str] = []

        def ask(two: TwoProducts) -> None:
            apart.extend(name_of[two.paths[number]] for number in two.heap)
            if not order["one_product"]:
                raise TwoProductsError(apart)

        artifact, _ = train_from_folder(
            good, unfinished / MODEL, settings, precision=AUTO, progress=progress, found_two=ask
        )
        result = {"preset": preset, "input": account, **_shown(artifact, name_of, apart, unfinished, progress)}
        (unfinished / RESULT).write_text(json.dumps(result), encoding="utf-8")


def _good_images(order: dict[str, Any], folder: Path, name_of: Mapping[Path, str]) -> GoodImages:
    ignore: list[Place] = [",".join(map(str, numbers)) for numbers in order["ignored"]]
    roi = None
    if order["region"] is not None:
        height, width = order["frame_size"]
        roi, outside = read_region(order["region"], (height, width))
        ignore += [] if outside is None else [outside]
    group = GROUPED if order["files"] else NONE
    facts = {"data": order["data"], "commissioned": {}}
    return GoodImages(folder, paths=list(name_of), roi=roi, ignore=tuple(ignore), group=group, facts=facts)


def _shown(
    artifact: Artifact, name_of: Mapping[Path, str], apart: list[str], folder: Path, progress: Any
) -> dict[str, Any]:
    """Score parts as if not learnt, draw heat maps, return facts; odd parts are `apart` or have outlying scores."""
    parts: list[dict[str, Any]] = []
    fastest_ms = float("inf")
    folds = find_folds(artifact, list(name_of))
    with Detector.load(artifact.path, runtime="onnxruntime", threads=1) as detector:
        limits = detector.graph.calibration
        assert limits is not None
        for number, (path, name) in enumerate(name_of.items(), 1):
            image = load_image(path)
            begin_ns = time.perf_counter_ns()
            verdict = detector.predict_left_out(image, folds[path])
            fastest_ms = min(fastest_ms, (time.perf_counter_ns() - begin_ns) / 1e6)
            write_image(folder / MAPS / f"{Path(name).stem}.jpg", _small(draw_heat(image, verdict)))
            score = verdict.image_score
            parts.append(
                {"name": name, "score": score, "scaled_score": scaled_score(score, limits.typical, limits.reject)}
            )
            progress(_DRAW, number, len(name_of))
    high = set(stand_apart([part["score"] for part in parts]))
    for number, part in enumerate(parts):
        part["odd"] = number in high or part["name"] in apart
    sharpnesses = [sharpness(load_image(path)) for path in name_of]
    training = artifact.manifest.training
    return {
        "learnt": training["training_images"],
        "calibrated": training["calibration_images"],
        "false_reject_rate": limits.false_reject_rate,
        "review": scaled_score(limits.review, limits.typical, limits.reject),
        "groups": len(set(limits.groups)) if have_several(limits.groups) else 0,
        "frame_ms": fastest_ms,
        "blurred": [list(name_of.values())[number] for number in find_blurred(sharpnesses)],
        "parts": sorted(parts, key=lambda part: (not part["odd"], -part["score"])),
    }


def _small(image: Any) -> Any:
    height, width = image.shape[:2]
    if width <= _MAP_PX:
        return image
    return cv2.resize(image, (_MAP_PX, max(1, round(height * _MAP_PX / width))), interpolation=cv2.INTER_AREA)


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _end_with_the_daemon() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)
