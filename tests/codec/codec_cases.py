"""Codecs with seeded random weights, and atoms for them: the bitstream's rules do not depend on what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from tiny_training import SMALL_CODEC as SMALL
from torch import Tensor, nn

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.conditional import AtomShape, Known, z_shape
from discover_stream.codec.entropy import SymbolWriter
from discover_stream.codec.exact_scales import Grid
from discover_stream.codec.model import CodecModel
from discover_stream.codec.scales import KINDS, MAGNITUDE_LIMIT, STILL
from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_codec
from discover_stream.types import Image


def noise_picture(height: int, width: int, seed: int) -> Image:
    """Blocks of several sizes and noise, (height, width, 3) uint8: busy at every scale."""
    random = np.random.default_rng(seed)
    picture = random.normal(128, 12, (height, width, 3))
    for size in (48, 16, 5):
        blocks = random.normal(0, 30, (-(-height // size), -(-width // size), 3))
        picture += blocks.repeat(size, 0).repeat(size, 1)[:height, :width]
    return np.clip(picture, 0, 255).astype(np.uint8)


@torch.no_grad()
def random_codec(config: TransformConfig, seed: int) -> TrainableConditional:
    """A codec with random weights, scaled so that symbols are large, varied, and sometimes escape.

    Scale indices are spread over the table; they follow from z and, as they do not before training, from context.
    """
    torch.manual_seed(seed)
    codec = TrainableConditional(config).eval()
    picture = torch.from_numpy(noise_picture(256, 256, seed)).permute(2, 0, 1)[None].float() / 255
    network, one = codec.network, torch.tensor([4])

    def rescale(layer: nn.Module, values: Tensor, wanted: float) -> None:
        cast(Tensor, layer.weight).mul_(wanted / values.std())

    psi_r = torch.zeros(1, config.reference_channels, 16, 16)
    rescale(network.g_a[-1], network.g_a(picture), 5.0)
    y, z = network.analyse(picture, psi_r)
    rescale(network.h_a[-1], z, 6.0)
    symbols = network.analyse(picture, psi_r)[1].round()
    rescale(network.h_s[-1], network.h_s(symbols), 2.0)
    features, mask = torch.cat([network.h_s(symbols), psi_r], 1), torch.ones(1, 1, *y.shape[2:])
    scaled = y * network.gain(one)
    for group, net in enumerate(network.context.nets):
        known = scaled[:, : sum(config.groups[: group + 1])]
        means = network.context.means(group, features, known, mask, second=True)
        rescale(cast(nn.Sequential, net)[-1], means, 2.0)
    branch = codec.scales
    # Hidden units of any size up to the clamp, indices all over the table.
    branch.first.weight.mul_(6)
    rescale(branch.third, branch.base(symbols, one, torch.tensor([STILL])), 14.0)
    branch.third.bias.fill_(14)
    branch.bias.normal_(0, 3)
    for pair in branch.context.values():
        layers = cast(nn.ModuleDict, pair)
        hidden, out = cast(nn.Linear, layers["hidden"]), cast(nn.Linear, layers["out"])
        sizes = (torch.randn(5, 500, hidden.in_features // 2) * 4).round().abs().clamp(max=MAGNITUDE_LIMIT)
        units = hidden(torch.cat([sizes[0], sizes[1:].sum(0)], 1)).clamp_min(0)
        out.weight.normal_()
        rescale(out, units @ out.weight.T, 6.0)
        out.bias.copy_(-(units @ out.weight.T).mean(0))
    return codec


def write_random_codec(folder: Path, seed: int, config: TransformConfig = SMALL) -> Path:
    """The weights file of a `random_codec`."""
    path = folder / f"codec-{seed}.safetensors"
    with torch.no_grad():
        export_codec(random_codec(config, seed), path, latent_space="test")
    return path


def random_atom(model: CodecModel, seed: int, rows: int, columns: int) -> tuple[Known, AtomShape, Tensor]:
    """Any atom of 4 rows x 4 columns cells: what is known of it, its shape, and its y (1, M, 4 rows, 4 columns)."""
    random = np.random.default_rng(seed)
    mask = random.random((4 * rows, 4 * columns)) < random.uniform(0.1, 1.2)
    quality, kind, top, left = (int(random.integers(*ends)) for ends in ((1, 9), (0, KINDS), (0, 2), (0, 2)))
    shape = AtomShape(mask, quality, kind, top, left)
    z = np.rint(random.normal(0, 3, z_shape(model, mask))).astype(np.int64) * int(random.integers(0, 2))
    present = torch.tensor([min(1, shape.kind)])
    channels = model.network.config.latent_channels
    reference = torch.from_numpy(random.normal(0, 1, (1, channels, 8 * rows, 8 * columns))).float()
    y_shape = 1, model.network.config.y_channels, 4 * rows, 4 * columns
    y = torch.from_numpy(random.normal(0, random.uniform(0.1, 30), y_shape)).float()
    return Known(z, model.network.with_flag(reference, present)), shape, y


def tables_of(model: CodecModel, base: Grid, symbols: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
    """Table numbers (M, h, w) of an atom's symbols, pass by pass over whole grids: found without rows of cells.

    Args:
        model: the codec.
        base: (M, h, w) of `ExactContextScales.base`, cut to the atom's grid.
        symbols: (M, h, w), zero outside the atom.
        top: row of the grid's first cell in the checkerboard.
        left: its column.
    """
    others = np.add.outer(np.arange(base.shape[1]) + top, np.arange(base.shape[2]) + left) % 2 == 1
    tables, start = np.zeros(base.shape, dtype=np.uint8), 0
    for group, size in enumerate(model.network.config.groups):
        stop = start + size
        for second, cells in ((False, ~others), (True, others)):
            sizes = np.abs(symbols[: stop if second else start])
            # Of its own group, a pass knows anchors only.
            sizes[start:, others] = 0
            tables[start:stop, cells] = model.scales.indices(base, group, second, sizes)[:, cells]
        start = stop
    return tables


def coded_by_grids(
    model: CodecModel, base: Grid, symbols: np.ndarray, mask: CellMask, top: int = 0, left: int = 0
) -> bytes:
    """The coder string of an atom with a mask (h, w); arguments as for `tables_of`."""
    tables = tables_of(model, base, symbols, top, left)
    others = np.add.outer(np.arange(mask.shape[0]) + top, np.arange(mask.shape[1]) + left) % 2 == 1
    writer, start = SymbolWriter(model.y_coder), 0
    for size in model.network.config.groups:
        for cells in (mask & ~others, mask & others):
            part = symbols[start : start + size, cells].ravel()
            writer.put(part, tables[start : start + size, cells].ravel(), [part.size])
        start += size
    return writer.strings()[0]
