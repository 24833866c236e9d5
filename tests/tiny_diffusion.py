"""Diffusion decoders with random weights, small enough for unit tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from discover_stream.generation.diffusion import Diffusion, DiffusionShape, build_control, build_prior, build_schedule
from discover_stream.generation.text import TagEmbedding

TINY = DiffusionShape(latent_channels=4, widths=(8, 16), text_width=8, heads=2, groups=4)


def tiny_diffusion() -> Diffusion:
    """The prior frozen, the control module as it is before training."""
    torch.manual_seed(0)
    prior = build_prior(TINY).eval().requires_grad_(False)
    return Diffusion(prior, build_control(prior).eval(), build_schedule(), TagEmbedding(TINY.text_width))


def tiny_kl() -> AutoencoderKL:
    """Stable Diffusion's autoencoder."""
    torch.manual_seed(2)
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def stable_folder(root: Path) -> Path:
    """Stable Diffusion 2.1's classes and layout, tiny and with random weights."""
    torch.manual_seed(1)
    UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
    ).save_pretrained(root / "unet")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(root / "scheduler")
    letters = [chr(code) for code in range(97, 123)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), ",</w>"]
    (root / "tokenizer").mkdir(parents=True)
    (root / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt"), model_max_length=12)
    tokenizer.save_pretrained(root / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(root / "text_encoder")
    tiny_kl().save_pretrained(root / "vae")
    return root
