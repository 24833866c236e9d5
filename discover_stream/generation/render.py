"""From z_c^ to a picture that says where each of its cells comes from.

A `Renderer` has a generator (the shipped denoiser, or a control module on a frozen prior) and the second half of a VAE.
It renders whole pictures, or only what is active of many pictures at once, into pictures that are there already::

    z_c^, provenance --> windows --> sample --> bound the change --> decode --> feather into the canvas
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderTiny
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from discover_stream.generation.canvas import to_pixels
from discover_stream.generation.denoiser import build_denoiser
from discover_stream.generation.generators import ConcatGenerator, ControlGenerator, Generator
from discover_stream.generation.norms import NORMS_FILE, fix_norms, read_norms
from discover_stream.generation.picture_decoder import KlDecoder, PictureDecoder, TinyDecoder
from discover_stream.generation.sampling import ChangeBounds, SamplePlan, bounded
from discover_stream.generation.sheets import Piece, Rendered, RenderJob, Sheet, sizes, stack
from discover_stream.generation.vae import VaeShape, build_vae
from discover_stream.generation.weights import CONTROL_FILE, load_nano, load_stable, load_stable_vae
from discover_stream.generation.windows import Nested, Placed, Window, WindowOptions, batches, plan_tiles, plan_windows
from discover_stream.types import InputError, Profile, Provenance

__all__ = ["DEFAULT_STEPS", "PLANS", "RenderJob", "Rendered", "Renderer", "load_network", "load_vae"]

VAE_FILE = "vae.safetensors"
DENOISER_FILE = "denoiser.safetensors"
PLANS: Mapping[Profile, SamplePlan] = {"machine": SamplePlan(1), "human": SamplePlan(1)}
"""How each profile is sampled. The papers take 8 and 50 steps; with the shipped weights more than one step
draws texture that was not there (see their model card), so people get one as well."""
DEFAULT_STEPS: dict[Profile, int] = {profile: plan.steps for profile, plan in PLANS.items()}
"""Diffusion steps of each profile."""

WHOLE_AT_ONCE = 36_000
"""Latents of a picture (1080p has 32,640) up to which it is decoded in one piece; larger ones in tiles."""
TILE, TILE_REACH, SEAM = 96, 16, 4
"""Side of a tile, what is sampled around it, and what of that is decoded, in latents."""
BATCH_LATENTS = 16_384
"""Latents that go through the networks at once: what bounds memory."""


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
    """The generative half of the decoder.

    Attributes:
        generator: samples clean latents.
        decoder: makes pixels of them.
        bounds: by how much sampling may change what was received.
        windows: how windows are laid.
        local: whether windows decode as the whole picture does (the norms are fixed). Where they do not, pictures with
            a canvas are decoded whole, too, before they are pasted.
    """

    generator: Generator
    decoder: PictureDecoder
    bounds: ChangeBounds = field(default_factory=ChangeBounds)
    windows: WindowOptions = field(default_factory=WindowOptions)
    local: bool = False

    def __post_init__(self) -> None:
        if self.windows.reach < self.decoder.reach or self.windows.align % self.generator.align:
            raise InputError(
                f"windows with a reach of {self.windows.reach}, aligned to {self.windows.align} latents, do not suit"
                f" networks that want {self.decoder.reach} and {self.generator.align}"
            )

    @property
    def vae(self) -> Any:
        """The autoencoder, of diffusers."""
        return self.decoder.vae

    @classmethod
    def load(cls, weights: Path, *, fixed: bool = True) -> Renderer:
        """Load a renderer from a folder.

        With `unet` in it, it is Stable Diffusion in diffusers' layout, and a control module in `controlnet`. Otherwise
        it is of the `nano` size: `vae.safetensors`, and either `prior.safetensors` and `control.safetensors` or
        `denoiser.safetensors`. `norms.safetensors`, where it is there, fixes the norms.

        Args:
            weights: the folder.
            fixed: false leaves the norms as training has them.

        Raises:
            InputError: see `load_network`.
        """
        generator: Generator
        decoder: PictureDecoder
        if (weights / "unet").is_dir():
            generator = ControlGenerator(load_stable(weights, weights / "controlnet"))
            decoder = KlDecoder(load_stable_vae(weights))
        else:
            decoder = TinyDecoder(load_vae(weights / VAE_FILE))
            if (weights / CONTROL_FILE).exists():
                generator = ControlGenerator(load_nano(weights))
            else:
                denoiser = build_denoiser()
                load_network(denoiser, weights / DENOISER_FILE)
                generator = ConcatGenerator(denoiser)
        norms = weights / NORMS_FILE
        return cls.of(generator, decoder, norms if fixed and norms.exists() else None)

    @classmethod
    def of(cls, generator: Generator, decoder: PictureDecoder, norms: Path | None = None) -> Renderer:
        """A renderer of finished parts; their norms are fixed, in place, where statistics are given.

        Raises:
            InputError: the parts have latents of different sizes, or the statistics are of other weights.
        """
        if generator.channels != decoder.channels:
            raise InputError(
                f"the generator's latents have {generator.channels} channels and the VAE's {decoder.channels};"
                " use the files of one release"
            )
        networks = {**generator.networks, **decoder.networks}
        if norms is not None:
            generator = generator.with_clock(fix_norms(networks, read_norms(norms)))
        for network in (*generator.networks.values(), decoder.vae):
            network.to(memory_format=torch.channels_last)
        windows = WindowOptions(align=generator.align, reach=max(decoder.reach, generator.align // 2))
        return cls(generator, decoder, windows=windows, local=norms is not None)

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
        """Turn a received latent into a whole picture.

        Args:
            latent: (1, L, h, w) z_c^ of the padded picture.
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
        provenance = np.where(sent, Provenance.SENT, Provenance.MISSING).astype(np.uint8)
        job = RenderJob(latent, provenance, width, height, camera)
        return self.render_many([job], SamplePlan(steps), generate=generate)[0]

    @torch.inference_mode()
    def render_many(self, jobs: Sequence[RenderJob], plan: SamplePlan, *, generate: bool = True) -> list[Rendered]:
        """Render pictures of any cameras and sizes; windows of equal size go through the networks together.

        A picture does not depend on what else is rendered with it, but for rounding.

        Args:
            jobs: what to render.
            plan: how to sample.
            generate: false leaves the sampling out, see `render`.

        Raises:
            InputError: a picture's latent, provenance or canvas does not fit its size.
        """
        sheets = [Sheet(job, generate) for job in jobs]
        pieces = [Piece(sheet, nested) for sheet in sheets for nested in self._windows(sheet)]
        if generate:
            placed = [
                Placed(piece.shape, window) for piece, window in zip(pieces, sizes(pieces, BATCH_LATENTS), strict=True)
            ]
            for batch in batches(placed, 0, BATCH_LATENTS):
                self._sample([(pieces[index], window) for index, window in batch], plan)
        self._decode(pieces)
        done: list[Rendered] = []
        for sheet in sheets:
            done.append(sheet.finished([piece for piece in pieces if piece.sheet is sheet], done, self.windows.margin))
        return done

    def _windows(self, sheet: Sheet) -> tuple[Nested, ...]:
        """What to decode of a picture."""
        rows, columns = sheet.job.latent.shape[2:]
        active = sheet.active_latents
        if active is not None and not active.any():
            return ()
        whole = Nested(Window(0, 0, rows, columns), Window(0, 0, rows, columns))
        # Without fixed norms, pictures are decoded whole; but memory bounds them, too, at the price of seams.
        found = (whole,) if active is None or not self.local else plan_windows(active, self.windows)
        if max(nested.outer.area for nested in found) <= WHOLE_AT_ONCE:
            return found
        tiles = plan_tiles(rows, columns, TILE, TILE_REACH, SEAM)
        shape, margin = (rows, columns), self.windows.margin
        return tuple(tile for tile in tiles if active is None or active[tile.inner.grown(margin, shape).slices()].any())

    def _sample(self, batch: Sequence[tuple[Piece, Window]], plan: SamplePlan) -> None:
        """Sample the latents of windows of one size."""
        sheets, weight = [piece.sheet for piece, _ in batch], next(self.decoder.vae.parameters())
        received = stack([sheet.job.latent for sheet in sheets], batch).to(weight.device)
        provenance = stack([sheet.latent_provenance for sheet in sheets], batch).to(weight.device)
        sent = (provenance > int(Provenance.GENERATED)).float()
        noise = stack([sheet.noise() for sheet in sheets], batch).to(weight.device)
        sampled = self.generator.sample(received, sent, noise, [sheet.job.tags for sheet in sheets], plan)
        latents = bounded(sampled, received, provenance, self.bounds)
        for index, (piece, window) in enumerate(batch):
            piece.latent, piece.window = latents[index : index + 1], window
            kept = piece.nested.kept or piece.nested.inner
            here = (index, slice(None), *kept.within(window).slices())
            counted = piece.sheet.counted[0, :, *kept.slices()].to(weight.device)
            piece.sheet.changes.add(latents[here], received[here], counted)

    def _decode(self, pieces: Sequence[Piece]) -> None:
        """Turn the latents of windows into pixels, those of one size and position together."""
        groups: dict[tuple[int, int, Window], list[tuple[Piece, Window]]] = {}
        for piece in pieces:
            seen = piece.nested.inner.grown(self.decoder.reach, piece.shape)
            if piece.nested.inner == piece.nested.outer:
                seen = piece.nested.outer
            kind = (seen.rows, seen.columns, piece.nested.inner.within(seen))
            groups.setdefault(kind, []).append((piece, seen))
        for (rows, columns, inner), members in groups.items():
            each = max(1, BATCH_LATENTS // (rows * columns))
            for start in range(0, len(members), each):
                batch = members[start : start + each]
                cut = [(piece, seen.within(piece.window)) for piece, seen in batch]
                latent = stack([piece.latent for piece, _ in cut], cut).to(next(self.decoder.vae.parameters()))
                for (piece, _), image in zip(cut, to_pixels(self.decoder.decode(latent, inner)), strict=True):
                    piece.pixels = image
