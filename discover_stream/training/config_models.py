"""The models of a training configuration: which size, how wide, and where frozen ones come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from discover_stream.codec.transforms import TransformConfig
from discover_stream.config_log import Section
from discover_stream.generation.diffusion import DiffusionShape
from discover_stream.generation.vae import VaeShape

Width = Annotated[int, Field(ge=1, le=4096)]
Depth = Annotated[int, Field(ge=1, le=64)]


class CodecWidths(Section):
    """Channels of the codec (`codec.transforms`); names of the papers in brackets."""

    stem_channels: Width = Field(default=32, title="Of the analysis at 1/2 (N)")
    analysis_channels: Width = Field(default=64, title="Of the analysis at 1/4 (N)")
    wide_channels: Width = Field(default=96, title="Of the analysis at 1/8, and of the synthesis' end (N)")
    y_channels: Width = Field(default=96, title="Of the latent y (M)")
    z_channels: Width = Field(default=32, title="Of the hyper-latent z (N)")
    groups: tuple[Width, ...] = Field(default=(32, 64), min_length=1, max_length=16, title="ELIC's uneven groups of y")
    hyper_channels: Width = Field(default=96, title="Of the features that z gives")
    reference_channels: Width = Field(default=64, title="Of the features that a reference gives")
    synthesis_channels: Width = Field(default=128, title="Of the synthesis' beginning")
    qualities: int = Field(default=8, ge=1, le=8, title="Qualities, each with gains of its own")
    elic: bool = Field(default=False, title="Elic2022Official's depth: three residual blocks a level, attention")

    @model_validator(mode="after")
    def _together(self) -> CodecWidths:
        if sum(self.groups) != self.y_channels:
            raise ValueError(f"groups {self.groups} must add up to y_channels, {self.y_channels}; change one of them")
        return self

    def shape(self, latent_channels: int) -> TransformConfig:
        """As the codec takes it, for a VAE of so many channels."""
        return TransformConfig(**self.model_dump(), latent_channels=latent_channels)


class VaeWidths(Section):
    """Of the `nano` autoencoder."""

    width: Width = Field(default=64, title="Channels of every layer")
    encoder_blocks: tuple[Depth, Depth, Depth] = Field(default=(1, 1, 3), title="Residual blocks at 1/2, 1/4, 1/8")
    decoder_blocks: tuple[Depth, Depth, Depth] = Field(default=(4, 2, 1), title="Residual blocks at 1/8, 1/4, 1/2")

    @property
    def shape(self) -> VaeShape:
        """As the autoencoder takes it."""
        return VaeShape(self.width, self.encoder_blocks, self.decoder_blocks)


class PriorWidths(Section):
    """Of the `nano` diffusion prior; the control module copies its encoder."""

    widths: tuple[Width, ...] = Field(
        default=(40, 80, 112), min_length=2, max_length=6, title="Of the levels, finest first"
    )
    layers: Depth = Field(default=1, title="Residual blocks of a level")
    text_width: Width = Field(default=96, title="Of a tag's vector")
    heads: Depth = Field(default=4, title="Of the attention to tags")
    groups: Depth = Field(default=8, title="Of the group norms")

    @property
    def shape(self) -> DiffusionShape:
        """As the prior takes it."""
        return DiffusionShape(
            widths=self.widths, layers=self.layers, text_width=self.text_width, heads=self.heads, groups=self.groups
        )


class NanoModels(Section):
    """The models this project trains itself, from the autoencoder on."""

    size: Literal["nano"]
    codec: CodecWidths = Field(default=CodecWidths(), title="The codec")
    vae: VaeWidths = Field(default=VaeWidths(), title="The autoencoder")
    prior: PriorWidths = Field(default=PriorWidths(), title="The diffusion prior")


class StableWidths(Section):
    """Of Stable Diffusion, where it is built with random weights; the defaults are those of 2.1-base."""

    latent_channels: Width = Field(default=4, title="Of the VAE's latent")
    vae: tuple[Width, ...] = Field(default=(128, 256, 512, 512), min_length=4, max_length=4, title="Levels of the VAE")
    vae_layers: Depth = Field(default=2, title="Residual blocks of a level of the VAE")
    unet: tuple[Width, ...] = Field(
        default=(320, 640, 1280, 1280), min_length=4, max_length=4, title="Levels of the UNet"
    )
    unet_layers: Depth = Field(default=2, title="Residual blocks of a level of the UNet")
    heads: tuple[Depth, ...] = Field(default=(5, 10, 20, 20), min_length=4, max_length=4, title="Heads of its levels")
    text_width: Width = Field(default=1024, title="Of the text encoder")
    text_layers: Depth = Field(default=23, title="Of the text encoder")
    text_heads: Depth = Field(default=16, title="Of the text encoder")
    groups: Depth = Field(default=32, title="Of the group norms")


class StableModels(Section):
    """The papers' models: Stable Diffusion, frozen, with a codec and a control module that learn."""

    size: Literal["sd21"]
    folder: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        title="Stable Diffusion 2.1-base in diffusers' layout; null for random weights, which teach nothing",
    )
    codec: CodecWidths = Field(title="The codec")
    widths: StableWidths = Field(default=StableWidths(), title="Sizes of random weights; a folder brings its own")


ModelsConfig = Annotated[NanoModels | StableModels, Field(discriminator="size")]
