"""Attention maps of a prompt's words, from the cross-attention of a U-Net that predicts noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

SIDES = {1: 2, 2: 4}
"""Down blocks whose maps SeaS takes, and the factor from a map's side to that of the latents: 32 and 16 of 64."""


class CrossAttentionMaps:
    """Recorder of the cross-attention in a `UNet2DConditionModel` of diffusers, within a `with`.

    A word's map is the softmax of the word's scores over the pixels, not over the words, as in the authors' code of
    SeaS: it shows which pixels the word prefers, and sums to 1. It is averaged over heads, and over layers of the first
    block of a resolution in the down path; the authors' code ignores the up path.

    `maps`: maps (n, words, h, w) of the last prediction, by side of the latents divided by side of the maps: 2 and 4.
    """

    def __init__(self, unet: nn.Module):
        self._unet = unet
        self._hooks: list[Any] = []
        self._recorded: dict[int, list[Tensor]] = {}

    def __enter__(self) -> CrossAttentionMaps:
        for number, divisor in SIDES.items():
            self._recorded[divisor] = []
            layers = self._unet.get_submodule(f"down_blocks.{number}.attentions").children()
            for layer in layers:
                attention = layer.get_submodule("transformer_blocks.0.attn2")
                self._hooks.append(attention.register_forward_pre_hook(self._recorder(divisor), with_kwargs=True))
        self._hooks.append(self._unet.register_forward_pre_hook(self._forget))
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @property
    def maps(self) -> dict[int, Tensor]:
        return {divisor: torch.stack(layers).mean(dim=0) for divisor, layers in self._recorded.items()}

    def _forget(self, unet: nn.Module, given: tuple[Any, ...]) -> None:
        for layers in self._recorded.values():
            layers.clear()

    def _recorder(self, divisor: int) -> Any:
        def record(attention: Any, given: tuple[Any, ...], options: dict[str, Any]) -> None:
            hidden = given[0] if given else options["hidden_states"]
            words = options["encoder_hidden_states"]
            maps = word_maps(attention.to_q(hidden), attention.to_k(words), attention.heads)
            self._recorded[divisor].append(maps)

        return record


def word_maps(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Compute word maps: softmax over pixels, averaged over heads, (n, h w, d), (n, words, d) -> (n, words, h, w)."""
    q, k = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (queries, keys))
    scores = k @ q.transpose(2, 3) / math.sqrt(q.shape[-1])
    side = math.isqrt(queries.shape[1])
    return scores.softmax(dim=-1).mean(dim=1).unflatten(2, (side, side))
