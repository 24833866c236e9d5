"""The diffusion step on a composite of stream mode, in the cells that were carried over from earlier frames.

A composite is no output of the VAE, and going through it would cost more detail than a step can mend. So the picture is
decoded twice, with the step and without it, and what the step changes is added to the composite::

    composite --VAE--> z_c --+--> sample, bound --> decode --+
                             |                               - --> added to the composite, feathered
                             +--------------------> decode --+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from discover_stream.generation.canvas import Canvas, ProvenanceMap
from discover_stream.generation.picture_decoder import PictureDecoder
from discover_stream.generation.render import Renderer
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.sheets import Rendered, RenderJob
from discover_stream.generation.vae import encode_picture
from discover_stream.types import Image, Provenance

STRIDE = 64
"""Pixels that sides of pictures are padded to multiples of, as the codec does."""
HARMONISED = (Provenance.PROPAGATED, Provenance.GENERATED)


@dataclass(frozen=True, eq=False)
class Composed:
    """A composite.

    Attributes:
        camera: its name; seeds the noise.
        image: (H, W, 3) uint8 RGB.
        provenance: (rows, columns) of its cells.
        plate: id of the plate it stands on; seeds the noise, too.
        tags: "bus, car" as a condition.
    """

    camera: str
    image: Image
    provenance: ProvenanceMap
    plate: int = 0
    tags: str = ""


@torch.inference_mode()
def harmonise(renderer: Renderer, pictures: Sequence[Composed], plan: SamplePlan) -> list[Rendered]:
    """Composites with what the diffusion step changes where they were carried over from earlier frames.

    What was sent, the plate, and what is missing stay as they are, but for the feather; provenance does not change.

    Args:
        renderer: of any size.
        pictures: of any cameras.
        plan: how to sample.
    """
    active = [np.isin(picture.provenance, [int(kind) for kind in HARMONISED]) for picture in pictures]
    found = [Rendered(picture.image, picture.provenance) for picture in pictures]
    chosen = [index for index, cells in enumerate(active) if cells.any()]
    jobs = []
    for index in chosen:
        picture = pictures[index]
        height, width = picture.image.shape[:2]
        canvas = Canvas(picture.image, picture.provenance, active[index])
        latent = latent_of(renderer.decoder, picture.image)
        jobs.append(
            RenderJob(latent, picture.provenance, width, height, picture.camera, picture.plate, picture.tags, canvas)
        )
    stepped = renderer.render_many(jobs, plan)
    plain = renderer.render_many(jobs, plan, generate=False)
    for index, one, other in zip(chosen, stepped, plain, strict=True):
        apart = one.image.astype(np.int16) - other.image
        image = np.clip(pictures[index].image + apart, 0, 255).astype(np.uint8)
        found[index] = replace(one, image=image, provenance=pictures[index].provenance)
    return found


def latent_of(decoder: PictureDecoder, image: Image) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, L, H'/8, W'/8) z_c in float32, sides padded by their last row and column."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="edge")
    weight = next(decoder.vae.parameters())
    picture = torch.from_numpy(padded).permute(2, 0, 1)[None].float().div_(255).to(weight)
    picture = picture.contiguous(memory_format=torch.channels_last)
    if isinstance(decoder.vae, AutoencoderKL):
        scale = float(decoder.vae.config["scaling_factor"])
        return cast(Tensor, decoder.vae.encode(picture.mul(2).sub(1)).latent_dist.mode().mul(scale).float().cpu())
    return encode_picture(decoder.vae, picture).float().cpu()
