"""Text towers of CLIP, which encode texts as directions to compare images with.

Network and tokenizer are OpenCLIP's, and equal OpenAI's. Texts are encoded once, on the workstation: the exported graph
contains their embeddings as constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.process.installation import install_command

HEAD_WIDTH = 64
"""Channels of a head in every published CLIP; a file does not say how many heads it has."""
DEPTH, LENGTH, VOCABULARY = 12, 77, 49408
"""Blocks of the text towers of `edgead_foundation.backbones.names`; tokens of a text; words of the vocabulary."""


class TextTower(nn.Module):
    """Text tower of CLIP.

    `network` (nn.Module): network of OpenCLIP.
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network
        self.eval().requires_grad_(False)

    @classmethod
    def of(cls, state: Mapping[str, Tensor], *, quick_gelu: bool) -> TextTower:
        """Build a tower from tensors by OpenAI's names, which give its sizes.

        `quick_gelu`: whether to use the activation of OpenAI's trainings; OpenCLIP's use GELU.
        Raises SettingsError: OpenCLIP is not installed, or the tensors are no text tower of CLIP.
        """
        try:
            network = _network(_sizes(state), quick_gelu=quick_gelu)
            network.load_state_dict(dict(state))
        except (KeyError, RuntimeError, ValueError) as error:
            raise SettingsError(
                f"these are no weights of a text tower of CLIP ({' '.join(str(error).split())[:200]}): give a whole "
                "CLIP of OpenAI or OpenCLIP"
            ) from error
        return cls(network)

    @classmethod
    def untrained(cls, width: int, *, quick_gelu: bool) -> TextTower:
        """Build a tower with random weights, as deep as published towers; embeddings are as wide as tokens."""
        heads = max(1, width // HEAD_WIDTH)
        sizes = {"width": width, "heads": heads, "layers": DEPTH, "output_dim": width, "vocab_size": VOCABULARY}
        return cls(_network({"context_length": LENGTH, **sizes}, quick_gelu=quick_gelu))

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Tokenise texts, int64 (n, length), padded with zeros.

        Raises SettingsError: a text is longer than the tower allows.
        """
        length = self.network.context_length
        tokenizer = _tokenizer()
        for text in texts:
            found = len(tokenizer.encode(text))
            if found > length - 2:  # begin and end take two tokens
                raise SettingsError(f"{text!r} has {found} tokens, and CLIP reads {length - 2}: say it in fewer words")
        return tokenizer(list(texts), length)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (n, length) -> their embeddings, before positions, float32 (n, length, width)."""
        return self.network.token_embedding(tokens)

    def encode_embedded(self, embedded: Tensor, tokens: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """Encode texts whose token embeddings are given, such as learnt ones.

        `embedded` (Tensor of shape (n, length, width)): embeddings before positions are added.
        `tokens` (Tensor of shape (n, length)): tokens, of which the highest marks the end of a text.
        `deep` (sequence of Tensor of shape (m, width)): replacements of the m tokens after the first token, before the
            second block, the third, and so on.
        Returns Tensor of shape (n, d): embeddings, not scaled to length 1.
        """
        network = self.network
        x = embedded + network.positional_embedding
        for number, block in enumerate(network.transformer.resblocks):
            if 1 <= number <= len(deep):
                replacing = deep[number - 1].expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], replacing, x[:, 1 + replacing.shape[1] :]], dim=1)
            x = block(x, attn_mask=network.attn_mask)
        x = network.ln_final(x)
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ network.text_projection


def _sizes(state: Mapping[str, Tensor]) -> dict[str, int]:
    length, width = state["positional_embedding"].shape
    names = [name.split(".") for name in state if name.startswith("transformer.resblocks.")]
    return {
        "context_length": length,
        "vocab_size": len(state["token_embedding.weight"]),
        "width": width,
        "heads": max(1, width // HEAD_WIDTH),
        "layers": len({parts[2] for parts in names}),
        "output_dim": state["text_projection"].shape[1],
    }


def _network(sizes: Mapping[str, int], *, quick_gelu: bool) -> Any:
    transformer = _open_clip().transformer
    return transformer.TextTransformer(**sizes, act_layer=transformer.QuickGELU if quick_gelu else nn.GELU)


def _open_clip() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise SettingsError(f"detectors from words need {error.name}: {install_command('vit')}") from error
    return open_clip


@cache
def _tokenizer() -> Any:
    return _open_clip().tokenizer.SimpleTokenizer()
