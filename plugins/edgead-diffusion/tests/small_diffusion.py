"""A Stable Diffusion with random weights, so small that tests learn and sample with it."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import torch
import transformers

SIDE = 64
KNOWN_WORDS = ("a", "with", "object", "defect", "*")


def write_tokenizer(folder: Path) -> int:
    """CLIP's tokenizer with single letters and a few words; returns the number of its tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789*-"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in KNOWN_WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append(" ".join(pieces[:2]))
            pieces[:2] = ["".join(pieces[:2])]
            vocabulary.append(pieces[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(vocabulary))}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]))
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 40, "unk_token": "<|endoftext|>", **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(numbers)


def write_model(path: Path) -> None:
    """Write a folder as diffusers does, with random weights."""
    torch.manual_seed(0)
    words = write_tokenizer(path / "tokenizer")
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    config = transformers.CLIPTextConfig(vocab_size=words, max_position_embeddings=40, **text, **ends)
    transformers.CLIPTextModel(config).save_pretrained(path / "text_encoder")
    widths = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4}
    unet = {"sample_size": 8, "attention_head_dim": 2, "cross_attention_dim": 16, "layers_per_block": 2}
    diffusers.UNet2DConditionModel(**unet, **widths).save_pretrained(path / "unet")
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    diffusers.AutoencoderKL(**widths, **blocks, sample_size=SIDE).save_pretrained(path / "vae")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    diffusers.DDPMScheduler(**schedule, clip_sample=False).save_pretrained(path / "scheduler")
