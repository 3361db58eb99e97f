"""Unbalanced prompts of SeaS: one new word for the part, four for each type of defect."""

from __future__ import annotations

from typing import Any

import torch

from edgead.errors import SettingsError

PART = "ob1"
WORDS = 4
"""Number of new words for a type of defect."""
BEGINS_AS = {"part": "object", "defect": "defect"}
"""Known words whose embeddings the new words begin with."""

# "<start> a ob1 with sks1 sks2 sks3 sks4"
NORMAL = 2
ANOMALOUS = slice(4, 4 + WORDS)


def good_prompt() -> str:
    """Make the prompt of a part without a defect."""
    return f"a {PART}"


def defect_prompt(number: int) -> str:
    """Make the prompt of a part with a type of defect, numbered from 0."""
    words = " ".join(f"sks{WORDS * number + i + 1}" for i in range(WORDS))
    return f"a {PART} with {words}"


def add_words(tokenizer: Any, text_encoder: Any, types: int) -> None:
    """Add the new words for a number of defect types to a tokenizer and a text encoder, in place.

    Raises SettingsError: some words exist already, or a known word that new words start from is missing.
    """
    defects = [f"sks{i + 1}" for i in range(WORDS * types)]
    if tokenizer.add_tokens([PART, *defects]) != 1 + len(defects):
        raise SettingsError(
            f"the tokenizer knows {PART} or sks1 already: give the folder of a model that is not trained"
        )
    text_encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for kind, words in (("part", [PART]), ("defect", defects)):
            known = tokenizer.encode(BEGINS_AS[kind], add_special_tokens=False)
            if len(known) != 1:
                raise SettingsError(f"the tokenizer has {len(known)} tokens for {BEGINS_AS[kind]!r} instead of one")
            embeddings[tokenizer.convert_tokens_to_ids(words)] = embeddings[known[0]].clone()
    _check_places(tokenizer)


def _check_places(tokenizer: Any) -> None:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(defect_prompt(0)).input_ids)
    if tokens[NORMAL] != PART or tokens[ANOMALOUS] != defect_prompt(0).split()[-WORDS:]:
        raise SettingsError(f"the tokenizer makes {' '.join(tokens)} of a prompt: give the one of Stable Diffusion")
