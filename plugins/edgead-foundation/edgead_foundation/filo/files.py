"""Files of FiLo's learnt modules, with the authors' names; nothing is unpickled but tensors."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgead.errors import SettingsError
from edgead.workstation.backbones.state_dict import load_named

SOURCE = "filo_train_on_mvtec.pth"
LEARNT = ("linear", "shapes", "narrow", "widen", "words.good", "words.anomalous")
"""Parts of `FiloNetwork` that are learnt."""

_NAMES = {
    "linear": "decoder_linear.fc",
    "shapes": "decoder_cov.fc",
    "narrow": "adapter.fc.0",
    "widen": "adapter.fc.2",
    "good": "normal_prompt_learner",
    "anomalous": "abnormal_prompt_learner",
    "tokens": "ctx",
    "first": "meta_net.linear1",
    "second": "meta_net.linear2",
}


def authors_name(name: str) -> str:
    """Return the authors' name for a learnt entry of the network's state dict."""
    part, *rest = name.split(".")
    if part == "shapes":
        number, _, shape, end = rest
        return f"{_NAMES[part]}_{shape}.{number}.{end}"
    if part == "words":
        return ".".join(_NAMES.get(each, each) for each in rest)
    return ".".join([_NAMES[part], *rest])


def is_learnt(name: str) -> bool:
    """Whether an entry of the network's state dict is learnt by FiLo and does not belong to CLIP."""
    return name.startswith(LEARNT)


def load_learnt(network: nn.Module, file: Path) -> None:
    """Load the authors' learnt modules into a network; CLIP is not changed, even if the file contains it.

    Raises SettingsError: the file is no such file, or was learnt with another CLIP; the message says what was found and
        what to do.
    """
    state = load_named(file, "filo", "what was learnt", SOURCE)
    try:
        learnt = {name: state[authors_name(name)].float() for name in network.state_dict() if is_learnt(name)}
        network.load_state_dict(learnt, strict=False)
    except (KeyError, RuntimeError) as error:
        shown = ", ".join(sorted(map(str, state))[:4]) or "none"
        raise SettingsError(
            f"{file} holds nothing that FiLo has learnt with this CLIP ({' '.join(str(error).split())[:200]}); its "
            f"entries begin with {shown}. Give {SOURCE} or filo_train_on_visa.pth of FantasticGNU/FiLo on the Hugging "
            "Face Hub, and the CLIP and the layers that it was learnt with"
        ) from error
