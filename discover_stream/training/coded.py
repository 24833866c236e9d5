"""What a trained codec really sends of a picture and gives back: bytes and a latent, through its integer tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.conditional import AtomShape, Known, decode_y, encode_y, encode_z, rebuild, z_symbols
from discover_stream.codec.mask import write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.scales import KEY, STILL


@dataclass(frozen=True)
class CodedCells:
    """An atom on its way: what a decoder makes of it, and what it costs.

    Attributes:
        latent: (1, L, 2h, 2w) z_c^.
        bytes: of z, y and the mask; length fields and the packet around them are left out.
    """

    latent: Tensor
    bytes: int


@torch.no_grad()
def code_cells(
    model: CodecModel, picture: Tensor, mask: CellMask, quality: int, reference: Tensor | None = None
) -> CodedCells:
    """Code cells of a picture as one atom, decode them from the bytes, and check that nothing changed on the way.

    Args:
        model: the codec.
        picture: (1, 3, H, W) RGB 0..1, sides divisible by 64.
        mask: (H/16, W/16) cells to send.
        quality: from 1 on.
        reference: (1, L, H/8, W/8) latent that both sides know; None for a still picture.
    """
    network = model.network
    present = torch.tensor([int(reference is not None)])
    shape = (1, network.config.latent_channels, picture.shape[2] // 8, picture.shape[3] // 8)
    flagged = network.with_flag(torch.zeros(shape) if reference is None else reference, present)
    y, z = network.analyse(picture, network.reference_features(flagged))
    symbols_z = z_symbols(model, z)
    known = Known(symbols_z, flagged)
    atom = AtomShape(mask, quality, STILL if reference is None else KEY)
    string, symbols = encode_y(model, known, atom, y)
    if not np.array_equal(decode_y(model, known, atom, string), symbols):
        raise RuntimeError("conditional codec: what was decoded is not what was coded")
    writer = BitWriter()
    write_mask(writer, mask)
    size = len(string) + len(encode_z(model, symbols_z)) + len(writer.bytes())
    return CodedCells(rebuild(model, known, atom, symbols), size)
