"""Numbers of the authors' code of FiLo, from weights, images and boxes that are drawn by their names.

`python tests/filo_authors.py CODE OUT` writes the fixture, with CODE a copy of CASIA-IVA-Lab/FiLo (Apache-2.0).
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from authors import numbers
from towers_authors import draw
from words_authors import MEAN, STD, draw_masks, have_package

SIDE, LARGER, PATCH = 64, 96, 16
"""Positions are for images of `SIDE`; these have `LARGER`."""
WIDTH, DEPTH, HEADS, EMBEDDED = 64, 10, 2, 32
"""Of the image tower; embeddings are as wide as tokens of the text."""
TEXT_DEPTH, CONTEXT = 2, 12
LAYERS = (6, 7, 9, 10)
IMAGES, STEPS, ADAPTER_STEPS, STRIDE = 2, 3, 2, 4
PRODUCTS = ("metal nut", "pill")
"""Of the images; the second is defective."""
CAPTION = ("anomaly", "damage", "broken", "defect", "contamination", "bent lead", "scratch")
QUERIES, TOKENS = 6, 17
"""Boxes of one image, and words that each is compared with."""
THRESHOLD, LARGEST = 0.25, 0.7


def draw_images() -> np.ndarray:
    """uint8 RGB (2, side, side, 3)."""
    coarse = np.clip(128 + 50 * numbers("filo images", (IMAGES, LARGER // 8, LARGER // 8, 3)), 0, 255)
    return coarse.round().astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def draw_state(names: list[str], shapes: list[str]) -> dict[str, torch.Tensor]:
    """Weights by the authors' names; convolutions of decoders are large beside their biases."""
    drawn = {name: draw(name, tuple(map(int, shape.split()))) for name, shape in zip(names, shapes, strict=True)}
    return {name: 12 * x if name.startswith("decoder_cov") and x.ndim == 4 else x for name, x in drawn.items()}


def draw_boxes(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of words (6, 17) and boxes (6, 4), centre and size in shares of the image, of one image."""
    logits = 1.6 * numbers(f"filo logits {number}", (QUERIES, TOKENS)) - (3.2 if number % 4 else 6)
    where = 1 / (1 + np.exp(-numbers(f"filo boxes {number}", (QUERIES, 4))))
    size = where[:, 2:] ** 0.25 if number % 3 == 1 else 0.6 * where[:, 2:]
    return logits.astype(np.float32), np.concatenate([where[:, :2], size], axis=1).astype(np.float32)


class WordTokenizer:
    """Each word is a token, and begin and end have one."""

    def __init__(self) -> None:
        self.words = ["[CLS]", "[SEP]", "."]

    def __call__(self, text: str) -> dict[str, list[int]]:
        found = ["[CLS]", *text.replace(".", " . ").split(), "[SEP]"]
        self.words += [word for word in dict.fromkeys(found) if word not in self.words]
        return {"input_ids": [self.words.index(word) for word in found]}

    def decode(self, tokens: list[int]) -> str:
        return " ".join(self.words[token] for token in tokens)


def _normalised(images: np.ndarray) -> torch.Tensor:
    scaled = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (scaled - mean) / std


def _resize(of: Any, small: Callable[..., tuple[Any, ...]]) -> None:
    """Let a class of the authors, whose sizes are numbers in their code, be built with other ones."""
    build = of.__init__
    of.__init__ = lambda self, *arguments: build(self, *small(*arguments))


def _model(module: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The authors' network with small towers, and the names and shapes of its weights."""
    clip_module = importlib.import_module("models.vv_open_clip.model")
    vision = clip_module.CLIPVisionCfg(
        layers=DEPTH, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH, image_size=SIDE
    )
    text = clip_module.CLIPTextCfg(width=EMBEDDED, heads=1, layers=TEXT_DEPTH)
    small = clip_module.CLIP(EMBEDDED, vision, text)
    stored = small.state_dict()
    names = sorted(name for name in stored if name != "logit_scale")
    found = {"names": np.array(names), "shapes": np.array([" ".join(map(str, stored[n].shape)) for n in names])}
    state = {**stored, **draw_state(found["names"].tolist(), found["shapes"].tolist())}
    # As its factory does: built for the larger image, without QuickGELU, and positions resized.
    vision.image_size = LARGER
    clip = clip_module.CLIP(EMBEDDED, vision, text)
    clip_module.resize_pos_embed(state, clip)
    clip.load_state_dict(state)
    tokenizer = importlib.import_module("models.vv_open_clip.tokenizer").tokenize
    module.open_clip = types.SimpleNamespace(
        create_model_and_transforms=lambda *_, **__: (clip, None, None), get_tokenizer=lambda _: tokenizer
    )
    for name in ("CovLayer", "LinearLayer"):
        _resize(getattr(module, name), lambda _, __, count: (WIDTH, EMBEDDED, count))
    _resize(module.Adapter, lambda _: (EMBEDDED,))
    for name in ("PromptLearner_normal", "PromptLearner_abnormal"):
        _resize(getattr(module, name), lambda a, b, c, d, _, count, device: (a, b, c, d, EMBEDDED, count, device))
    arguments = types.SimpleNamespace(
        clip_model="", clip_pretrained="", image_size=LARGER, features_list=list(LAYERS), n_ctx=CONTEXT, device="cpu"
    )
    model = module.FiLo(list(PRODUCTS), arguments, "cpu")
    learnt = {name: value for name, value in model.state_dict().items() if not name.startswith(("clip_", "text_"))}
    found["learnt_names"] = np.array(list(learnt))
    found["learnt_shapes"] = np.array([" ".join(map(str, value.shape)) for value in learnt.values()])
    model.load_state_dict({**model.state_dict(), **_learnt(found)})
    return model.eval(), found


def _learnt(found: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return draw_state(found["learnt_names"].tolist(), found["learnt_shapes"].tolist())


def _items(number: int) -> dict[str, Any]:
    return {"img": _normalised(draw_images()[number : number + 1]), "cls_name": [PRODUCTS[0]]}


@torch.no_grad()
def _judged(model: Any, positions: list[str] | None) -> dict[str, np.ndarray]:
    """As in the authors' test.py, before what lies outside of boxes is lowered."""
    import torchvision

    blur = torchvision.transforms.GaussianBlur(3, 4.0)
    scores, maps = [], []
    for number in range(IMAGES):
        shares, layers = model(_items(number), with_adapter=True, positions=positions)
        blurred = torch.stack([blur((each[:, 1, :, :] - each[:, 0, :, :] + 1) / 2) for each in layers]).mean(dim=0)
        scores.append((shares.flatten()[1].item() + blurred.max().item()) / 2)
        maps.append(blurred[0].numpy()[::STRIDE, ::STRIDE])
    return {"image_scores": np.array(scores), "maps": np.stack(maps)}


def _trained(model: Any, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As in the authors' train.py: first all but the adapter, then the adapter, one image a step."""
    from utils.loss import BinaryDiceLoss, FocalLoss

    model.load_state_dict({**model.state_dict(), **_learnt(found)})
    decoders = [{"params": part.parameters(), "lr": 1e-4} for part in (model.decoder_cov, model.decoder_linear)]
    prompts = (model.normal_prompt_learner, model.abnormal_prompt_learner)
    groups = [*decoders, *({"params": part.parameters(), "lr": 1e-3} for part in prompts)]
    optimizer = torch.optim.AdamW(groups, betas=(0.5, 0.999))
    focal, dice, losses = FocalLoss(), BinaryDiceLoss(), []
    for step in range(STEPS):
        number = step % IMAGES
        _, maps = model({**_items(number), "cls_name": [PRODUCTS[number]]}, with_adapter=False)
        mask = torch.from_numpy(draw_masks(LARGER)[number])[None, None].squeeze()
        loss = 0
        for each in maps:
            loss += focal(each, mask) + dice(each[:, 1, :, :], mask) + dice(each[:, 0, :, :], 1 - mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    optimizer, adapted = torch.optim.AdamW(model.adapter.parameters(), lr=1e-5, betas=(0.5, 0.999)), []
    for step in range(ADAPTER_STEPS):
        number = step % IMAGES
        items = {**_items(number), "cls_name": [PRODUCTS[number]]}
        shares, _ = model(items, only_train_adapter=True, with_adapter=True)
        loss = torch.nn.functional.cross_entropy((shares[:, 0, ...] / 0.07).squeeze(), torch.tensor(number))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        adapted.append(loss.item())
    judged = _judged(model, None)
    return {"losses": np.array(losses), "adapter_losses": np.array(adapted), "learnt_maps": judged["maps"]}


def _script(code: Path) -> dict[str, Any]:
    """Functions and tables of the authors' test.py, whose other lines run it."""
    tree = ast.parse((code / "test.py").read_text())
    wanted = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name in ("get_grounding_output", "check_elements_in_array"))
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "location")
    ]
    utilities = ast.parse((code / "models/GroundingDINO/groundingdino/util/utils.py").read_text())
    wanted += [node for node in utilities.body if getattr(node, "name", "") == "get_phrases_from_posmap"]
    found: dict[str, Any] = {"torch": torch, "Dict": dict, "AutoTokenizer": object}
    exec(compile(ast.Module(wanted, []), "test.py", "exec"), found)  # noqa: S102
    return found


def _boxes(script: dict[str, Any]) -> dict[str, np.ndarray]:
    """As in the authors' test.py: which boxes are kept, where the best is, what is lowered; for 518 pixels."""
    side, positions, outside, kept = 518, [], [], []
    for number in range(12):
        logits, where = map(torch.from_numpy, draw_boxes(number))
        model = _Located(logits, where)
        caption = " . ".join(CAPTION)
        boxes, phrases = script["get_grounding_output"](
            model, torch.zeros(3, 1, 1), caption, THRESHOLD, THRESHOLD, category="", area_thr=LARGEST
        )
        best, most, mask = None, 0.0, np.zeros((side, side), bool)
        for place, phrase in enumerate(phrases):
            if not script["check_elements_in_array"](list(CAPTION), phrase):
                continue
            boxes[place] = boxes[place] * torch.Tensor([side] * 4)
            boxes[place][:2] -= boxes[place][2:] / 2
            boxes[place][2:] += boxes[place][:2]
            score = float(re.search(r"\((.*?)\)", phrase).group(1))  # type: ignore[union-attr]
            if score >= most:
                best, most = boxes[place], score
        for left, top, right, bottom in boxes.tolist():
            mask[int(top) : int(bottom), int(left) : int(right)] = True
        centre = (259, 259) if best is None else ((best[0] + best[2]) / 2, (best[1] + best[3]) / 2)
        names = [
            name
            for name, ((x1, y1), (x2, y2)) in script["location"].items()
            if x1 <= centre[0] <= x2 and y1 <= centre[1] <= y2
        ]
        positions.append(names[0] if names else "")
        outside.append((~mask).sum())
        kept.append("|".join(phrases))
    return {"positions": np.array(positions), "outside": np.array(outside), "phrases": np.array(kept)}


class _Located:
    """A Grounding DINO that has found boxes."""

    def __init__(self, logits: torch.Tensor, boxes: torch.Tensor):
        self.found = {"pred_logits": logits[None], "pred_boxes": boxes[None]}
        self.tokenizer = WordTokenizer()

    def to(self, _: str) -> _Located:
        return self

    def __call__(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        return self.found


def main(code: Path, out: Path) -> None:
    """Run the authors' code and write its numbers."""
    sys.path.insert(0, str(code))
    have_package("models", code / "models")
    have_package("matplotlib", code)  # it draws nothing here
    sys.modules["matplotlib"].pyplot = None  # type: ignore[attr-defined]
    module = importlib.import_module("models.FiLo")
    model, found = _model(module)
    found["details"] = np.array(
        ["|".join(module.visa_anomaly_detail_gpt.get(p, ()) or module.mvtec_anomaly_detail_gpt[p]) for p in PRODUCTS]
    )
    for name, positions in {"all": None, "top right": ["top right"], "center": ["center"]}.items():
        found |= {f"{name}/{key}": value for key, value in _judged(model, positions).items()}
    found |= {f"boxes/{key}": value for key, value in _boxes(_script(code)).items()}
    found |= _trained(model, found)
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
