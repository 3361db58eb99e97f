"""Numbers of MemoryOut: what the authors' code computes from weights, frames and features drawn by their names.

`python plugins/edgead-video/tests/memoryout_authors.py CODE OUT`, with the repository's `tests` on PYTHONPATH, writes
the fixture; it needs timm and einops. CODE is a copy of qzfm/sib_vad_code, which has no licence: nothing of it is here.
Sizes are replaced in its text, as it has them in its lines, and float32 by float64. InternVL, which is frozen there, is
left out: what it would give is drawn.
"""

from __future__ import annotations

import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from authors import numbers
from torch import Tensor, nn

COMMIT = "466ca7ed66f612409aa3bd9ec27fb20cda767f62"
GRID, PATCH, DIM, LAYERS, BOTTLENECK = (4, 4), 14, 32, 4, 3
EXPERTS, CHOSEN = 63, 7
SEEN, SEMANTIC, BATCH = 24, 20, 2
SIDE = GRID[0] * PATCH
SMALLER = {
    "model/unet.py": {
        "128": f"{DIM // 2}",
        "self.temporal_project = nn.Linear(1024, 256)": f"self.temporal_project = nn.Linear({4 * DIM}, {DIM})",
        "1024": f"{SEEN}",
        "1025": "17",
        "32*32": "16",
        "768": f"{SEMANTIC}",
        "256": f"{DIM}",
        "num_patches=32 ** 2": "num_patches=4 ** 2",
        "to(torch.float)": "to(torch.float64)",
    },
    "model/decoder.py": {
        "2:1026": "2:18",
        "h=32, w=32": "h=4, w=4",
        "4*decoder_embed_dim, 768": f"4*{DIM}, {SEMANTIC}",
    },
    "model/motion_encoder.py": {"448": f"{SIDE}", "32 ** 2": "4 ** 2"},
    "model/moe.py": {"float32": "float64"},
    "model/attention.py": {},
    "model/model_utils.py": {},
    "utils/loss.py": {},
}


def frames() -> Tensor:
    """Five normal frames of each clip."""
    return torch.from_numpy(numbers("frames", (BATCH, 5, 3, SIDE, SIDE)))


def semantic() -> Tensor:
    """Semantic features of each clip."""
    return torch.from_numpy(numbers("semantic", (BATCH, SEMANTIC)))


def features(name: str) -> Tensor:
    """Features of each of four frames, `seen` or `appearance`."""
    return torch.from_numpy(numbers(name, (BATCH, 4, 17, SEEN)))


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight by its name in the authors' code."""
    x = numbers(name, shape)
    if "gammas" in name:
        return 0.5 + 0.2 * x
    if name.endswith("bias") or "token" in name:
        return 0.3 * x
    if len(shape) == 1:  # the gain of a normalisation
        return 1 + 0.3 * x
    return x / np.sqrt(np.prod(shape[1:]))


class Drawn(nn.Module):
    """In the place of InternVL."""

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        assert len(pixels) == BATCH * 4
        return {"visual_feature": features("seen").flatten(0, 1), "patch_embed": features("appearance").flatten(0, 1)}


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    torch.set_default_dtype(torch.float64)
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in SMALLER.items():
            text = (Path(code) / name).read_text()
            for theirs, smaller in sizes.items():
                assert theirs in text, f"{name} has no {theirs}"
                text = text.replace(theirs, smaller)
            target = Path(folder) / name
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
        sys.path.insert(0, folder)
        sys.modules["model.internvl_model"] = types.ModuleType("model.internvl_model")
        sys.modules["model.internvl_model"].InternVLModel = Drawn  # type: ignore[attr-defined]
        from model.moe import MoEGate
        from model.unet import UNet
        from utils.loss import loss_diff, loss_similarity

    network = UNet(decoder_layers=LAYERS, bottle_dim=BOTTLENECK)
    state = network.state_dict()
    for name in state.keys() - {"decoder.decoder_pos_embed", "motion_encoder.motion_pos_embed"}:
        state[name] = torch.from_numpy(np.asarray(parameter(name, tuple(state[name].shape))))
    network.load_state_dict(state)
    given, came = frames()[:, :4], frames()[:, 4]
    network.eval()
    with torch.no_grad():
        frame, again = network(given, semantic()[:, None, None])
    found = {
        "frame": frame[:, :, ::5, ::3],
        "semantic": again,
        "squared_errors": torch.mean((came - frame) ** 2, dim=[1, 2, 3]),  # as eval.py has them
        "semantic_errors": 1 - torch.nn.functional.cosine_similarity(semantic(), again, dim=1),
    }

    uneven: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, MoEGate):
            module.register_forward_hook(lambda _, __, given: uneven.append(given[2]))
    network.train()
    frame, again = network(given, semantic()[:, None, None])
    motion = loss_diff(frame, came, given[:, -1])
    loss = torch.nn.functional.mse_loss(frame, came) + loss_similarity(again, semantic()) + motion  # train_w_diff.py
    loss.backward()
    norms = {name: p.grad.norm() for name, p in network.named_parameters() if p.requires_grad}
    found |= {"motion_loss": motion, "loss": loss, "balance_loss": torch.stack(uneven).sum()}
    found["gradient_norms"] = torch.stack([norms[name] for name in sorted(norms)])
    np.savez_compressed(out, **{name: x.detach().numpy() for name, x in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
