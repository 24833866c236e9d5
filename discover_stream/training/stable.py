"""Stable Diffusion for training: from a folder, or with random weights of the sizes that a configuration names.

Random weights teach nothing. They show that the recipe builds, learns and stores with sizes of your choosing, which
needs no download.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from discover_stream.generation.diffusion import Diffusion, build_control
from discover_stream.generation.text import ClipText
from discover_stream.generation.weights import load_stable
from discover_stream.training.config_models import StableModels, StableWidths
from discover_stream.types import InputError

TOKENS = 77
SCALING = 0.18215
"""What Stable Diffusion multiplies latents with."""


def stable_models(models: StableModels) -> tuple[AutoencoderKL, Diffusion]:
    """The autoencoder and the diffusion model, frozen; the control module fresh, to be trained.

    Raises:
        InputError: the folder lacks a part.
    """
    if models.folder is not None:
        diffusion, vae = load_stable(models.folder), _load_vae(models.folder)
        # Stable Diffusion's own spacing would begin a single step at timestep 1, where nothing is noise.
        schedule = DDIMScheduler.from_config(diffusion.schedule.config, timestep_spacing="trailing")
        diffusion = dataclasses.replace(diffusion, schedule=schedule)
    else:
        vae, diffusion = random_vae(models.widths), random_diffusion(models.widths)
    diffusion.control.requires_grad_(True).train()
    return vae.requires_grad_(False).eval(), diffusion


def _load_vae(folder: str) -> AutoencoderKL:
    try:
        vae, info = AutoencoderKL.from_pretrained(
            folder, subfolder="vae", local_files_only=True, output_loading_info=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: vae cannot be loaded ({reason}); name a folder in diffusers' layout") from None
    if wrong := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        raise InputError(f"{folder}: vae has missing, foreign or misshapen weights ({wrong[0]}); fetch it again")
    return vae


def random_vae(widths: StableWidths) -> AutoencoderKL:
    """Stable Diffusion's autoencoder as configured."""
    levels = len(widths.vae)
    return AutoencoderKL(
        block_out_channels=widths.vae,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=widths.vae_layers,
        latent_channels=widths.latent_channels,
        norm_num_groups=widths.groups,
        scaling_factor=SCALING,
        sample_size=512,
    )


def random_diffusion(widths: StableWidths) -> Diffusion:
    """Stable Diffusion 2.1-base's UNet, text encoder and noise schedule as configured."""
    plain = len(widths.unet) - 1
    prior = UNet2DConditionModel(
        in_channels=widths.latent_channels,
        out_channels=widths.latent_channels,
        block_out_channels=widths.unet,
        down_block_types=("CrossAttnDownBlock2D",) * plain + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * plain,
        layers_per_block=widths.unet_layers,
        cross_attention_dim=widths.text_width,
        # diffusers' name for the *number* of heads.
        attention_head_dim=widths.heads,
        use_linear_projection=True,
        norm_num_groups=widths.groups,
        sample_size=64,
    )
    schedule = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        timestep_spacing="trailing",
        set_alpha_to_one=False,
        clip_sample=False,
    )
    prior.requires_grad_(False).eval()
    return Diffusion(prior, build_control(prior), schedule, random_text(widths))


def random_text(widths: StableWidths) -> ClipText:
    """A CLIP text encoder with random weights; its tokens are letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters), ",</w>"]
    with TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}))
        merges.write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=TOKENS)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=widths.text_width,
        intermediate_size=4 * widths.text_width,
        num_hidden_layers=widths.text_layers,
        num_attention_heads=widths.text_heads,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return ClipText(tokenizer, CLIPTextModel(config).requires_grad_(False).eval())


def move(diffusion: Diffusion, device: torch.device) -> None:
    """Move a diffusion model with its text encoder."""
    for part in (diffusion.prior, diffusion.control, cast(Any, diffusion.text)):
        part.to(device)
