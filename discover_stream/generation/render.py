"""From z_c^ to a picture that says where each of its cells comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderTiny, UNet2DModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from discover_stream.generation.denoiser import build_denoiser, denoise
from discover_stream.generation.vae import VaeShape, build_vae, decode_latent
from discover_stream.types import Image, InputError, Profile, Provenance

VAE_FILE = "vae.safetensors"
DENOISER_FILE = "denoiser.safetensors"
DEFAULT_STEPS: dict[Profile, int] = {"machine": 1, "human": 1}
"""Diffusion steps of each profile. The papers take 8 and 50; with the shipped weights more than one step
draws texture that was not there (see their model card), so people get one as well."""

MAX_STEPS = 1000

ProvenanceMap = npt.NDArray[np.uint8]
"""(rows, columns) of the picture's cells, values of `Provenance`."""


@dataclass(frozen=True)
class Rendered:
    """A picture (H, W, 3) uint8 RGB and the provenance of its cells."""

    image: Image
    provenance: ProvenanceMap


def load_network(network: nn.Module, file: Path) -> None:
    """Fill a network from a safetensors file, strictly; half-precision files become float32.

    Raises:
        InputError: the file is missing, damaged, or of another structure.
    """
    try:
        state = {key: value.float() for key, value in load_file(file).items()}
        network.load_state_dict(state, strict=True)
    except FileNotFoundError:
        raise InputError(f"{file}: no weights here; reinstall the package or name another folder") from None
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: not usable as weights ({reason}); fetch the file again") from None
    network.requires_grad_(False).eval()


def load_vae(file: Path) -> AutoencoderTiny:
    """The autoencoder in a safetensors file, in the shape that the file names.

    Raises:
        InputError: see `load_network`.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            shape = VaeShape.of(opened.metadata() or {})
    except FileNotFoundError:
        shape = VaeShape()  # load_network says that there is no file
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: not usable as weights ({reason}); fetch the file again") from None
    vae = build_vae(shape)
    load_network(vae, file)
    return vae


@dataclass(frozen=True)
class Renderer:
    """The generative half of the decoder."""

    vae: AutoencoderTiny
    denoiser: UNet2DModel

    @classmethod
    def load(cls, weights: Path) -> Renderer:
        """Load `vae.safetensors` and `denoiser.safetensors` from a folder.

        Raises:
            InputError: see `load_network`.
        """
        vae, denoiser = load_vae(weights / VAE_FILE), build_denoiser()
        load_network(denoiser, weights / DENOISER_FILE)
        return cls(
            vae.to(memory_format=torch.channels_last),
            denoiser.to(memory_format=torch.channels_last),
        )

    @torch.inference_mode()
    def render(
        self,
        latent: Tensor,
        sent: npt.NDArray[np.bool_],
        *,
        width: int,
        height: int,
        camera: str,
        steps: int,
        generate: bool = True,
    ) -> Rendered:
        """Turn a received latent into a picture.

        Args:
            latent: (1, 16, h, w) z_c^ of the padded picture.
            sent: (rows, columns) of the picture's cells, true where an atom was received.
            width: of the picture in pixels.
            height: of the picture in pixels.
            camera: seeds the diffusion noise.
            steps: of diffusion, 1..1000.
            generate: false leaves the diffusion out: sent cells as received, the others as blurred
                as the coarse atom alone has them, with provenance `MISSING`.

        Raises:
            InputError: `steps` is out of range.
        """
        if not 1 <= steps <= MAX_STEPS:
            raise InputError(f"steps {steps} is not in 1..{MAX_STEPS}")
        rows, columns = sent.shape
        provenance = np.where(sent, Provenance.SENT, Provenance.GENERATED if generate else Provenance.MISSING)
        if generate:
            field = torch.zeros(1, 1, latent.shape[2], latent.shape[3])
            fine = np.repeat(np.repeat(sent, 2, axis=0), 2, axis=1)
            field[0, 0, : rows * 2, : columns * 2] = torch.from_numpy(fine).float()
            latent = denoise(self.denoiser, latent, field, camera, steps)
        picture = decode_latent(self.vae, latent)[0, :, :height, :width]
        pixels = picture.clamp(0, 1).mul(255).round().to(torch.uint8)
        image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
        return Rendered(image, provenance.astype(np.uint8))
