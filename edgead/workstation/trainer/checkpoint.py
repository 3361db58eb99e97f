"""Checkpoints of a training: one file for each stage, written atomically, and used only by the same training."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.optim import Optimizer

from edgead.errors import SettingsError
from edgead.files.atomic import UNFINISHED, write_whole

EVERY_S = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learner:
    """State that a training changes, all of which a checkpoint must store.

    `module`: everything that is trained or updated (running means); several networks go into an `nn.ModuleDict`.
    `stage`: name in progress and of the checkpoint's file; a training of several loops names each of them.
    """

    module: nn.Module
    optimizers: Sequence[Optimizer]
    stage: str = "train"


class Checkpoint:
    """Folder that keeps a training's state until its model is complete.

    `folder`: folder, made when the first state is saved.
    `belongs_to`: plain JSON of everything that determines the result (detector, settings with the seed, data, device,
        versions). A state saved with other content is not used.
    `every_s`: seconds between two saved states, the most that a stopped training loses.
    `earlier_seconds`: time that earlier runs of the training took, up to the loaded state.
    """

    def __init__(self, folder: Path, belongs_to: dict[str, Any], *, every_s: float = EVERY_S):
        self.folder = folder
        self.every_s = every_s
        self.earlier_seconds = 0.0
        self._belongs_to = json.loads(json.dumps(belongs_to))  # in the form in which it is read back
        self._started = self._saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._saved >= self.every_s

    def save(self, learner: Learner, step: int) -> None:
        """Write the state after `step` steps atomically."""
        tensors, groups = _collect(learner)
        seconds = self.earlier_seconds + time.monotonic() - self._started
        header = {"belongs_to": self._belongs_to, "step": step, "seconds": seconds, "optimizers": groups}
        text = json.dumps(header)
        content = serialize(tensors, {"header": text, "sha256": _sha256(text, tensors)})
        write_whole(self._file(learner), content)
        self._saved = time.monotonic()

    def load(self, learner: Learner) -> int:
        """Restore the state of an earlier run of the same training; return its number of steps.

        If there is none, or it is damaged or belongs to another training, nothing is changed, 0 is returned and
        the reason is logged.

        Raises SettingsError: a state of this training does not fit the learner.
        """
        file = self._file(learner)
        if not file.exists():
            return 0
        try:
            header, tensors = _read(file)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            logger.warning("%s is damaged (%s): training starts again", file, error)
            return 0
        other = header["belongs_to"]
        differences = sorted(key for key in {*other, *self._belongs_to} if other.get(key) != self._belongs_to.get(key))
        if differences:
            logger.warning("%s is of a training with other %s: training starts again", file, ", ".join(differences))
            return 0
        try:
            _restore(learner, tensors, header["optimizers"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise SettingsError(f"{file} does not fit this training ({error}): remove {self.folder}") from error
        self.earlier_seconds = header["seconds"]
        return header["step"]

    def remove(self) -> None:
        """Remove the saved states, and the folder if it is then empty."""
        for file in [*self.folder.glob("*.safetensors"), *self.folder.glob(f"*{UNFINISHED}")]:
            file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            if not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _file(self, learner: Learner) -> Path:
        return self.folder / f"{learner.stage.replace(' ', '_')}.safetensors"


def _collect(learner: Learner) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Collect all tensors by name, and the optimizers' other state as plain JSON."""
    tensors = {f"module.{name}": value for name, value in learner.module.state_dict().items()}
    others = []
    for number, optimizer in enumerate(learner.optimizers):
        state = optimizer.state_dict()
        plain: dict[str, dict[str, Any]] = {}
        for index, values in state["state"].items():
            named = {f"optimizer{number}.{index}.{key}": value for key, value in values.items()}
            tensors |= {name: value for name, value in named.items() if isinstance(value, Tensor)}
            plain |= {name: value for name, value in named.items() if not isinstance(value, Tensor)}
        others.append({"param_groups": state["param_groups"], "state": plain})
    # safetensors refuses tensors that share memory or are not contiguous.
    cpu = torch.device("cpu")
    copies = {name: value.detach().to(cpu, copy=True).contiguous() for name, value in tensors.items()}
    return copies, others


def _restore(learner: Learner, tensors: dict[str, Tensor], others: list[dict[str, Any]]) -> None:
    module = {name.removeprefix("module."): value for name, value in tensors.items() if name.startswith("module.")}
    learner.module.load_state_dict(module)
    for number, (optimizer, other) in enumerate(zip(learner.optimizers, others, strict=True)):
        state: dict[int, dict[str, Any]] = {}
        prefix = f"optimizer{number}."
        for name, value in {**tensors, **other["state"]}.items():
            if name.startswith(prefix):
                index, key = name.removeprefix(prefix).split(".", 1)
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": other["param_groups"]})


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    if metadata["sha256"] != _sha256(metadata["header"], tensors):
        raise ValueError("its sha256 differs")
    return json.loads(metadata["header"]), tensors


def _sha256(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0")
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
