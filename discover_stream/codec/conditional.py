"""Atoms of the conditional codec: from latents to bytes and back, for encoder and decoder alike.

An atom's payload is up to two coder strings: its own z, where it has one, and its symbols of y. Symbols are
ordered by pass (`scales`), within a pass by channel, then in row order. Tables of a pass follow from z and from
the symbols of the passes before it, integers only; means are added afterwards, in fp32, pass by pass.

::

    z string --> z^ --exact--> base ----+--> tables of pass 1 --> symbols --+
                                        +--> tables of pass 2 <--- sizes ---+--> symbols --> ...
    then      z^, reference --> psi, psi_r --> means of pass 1 --> y' of pass 1 --> means of pass 2 --> ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discover_stream.codec.atom_rows import AtomRows, places_in
from discover_stream.codec.atoms import CellMask
from discover_stream.codec.entropy import LIMIT, SymbolReader, SymbolWriter, plane_tables
from discover_stream.codec.exact_scales import Grid
from discover_stream.codec.model import CodecModel
from discover_stream.codec.network import Z_TO_Y, checkerboard
from discover_stream.codec.scales import MAGNITUDE_LIMIT

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AtomShape:
    """What both sides know of an atom before its strings.

    Attributes:
        mask: (h, w) of the atom's own grid, true for its cells. Where z is the atom's own, h and w are multiples of 4,
            so that it covers them.
        quality: 1..8.
        kind: part of a still frame, key or refresh (`scales.KINDS`).
        top: row of the atom's first cell in the grid that the checkerboard belongs to; 0 with a grid of its own.
        left: its column.
    """

    mask: CellMask
    quality: int
    kind: int
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class Known:
    """What both sides know of an atom's place before its symbols of y.

    Attributes:
        z: (N, h/4, w/4) symbols of z: the atom's own; zeros where it has none.
        reference: (1, L + 1, 2h, 2w) flagged latent of the reference, see `Transforms.with_flag`.
    """

    z: Integers
    reference: Tensor


@dataclass(frozen=True)
class _Pass:
    group: int
    channels: slice
    second: bool
    cells: CellMask


def z_shape(model: CodecModel, mask: CellMask) -> tuple[int, int, int]:
    """Shape of the symbols of z of an atom with a mask (h, w)."""
    return model.network.config.z_channels, mask.shape[0] // Z_TO_Y, mask.shape[1] // Z_TO_Y


def z_symbols(model: CodecModel, z: Tensor) -> Integers:
    """Symbols (N, hz, wz) of a z (1, N, hz, wz) as the analysis gives it."""
    symbols: Integers = (z[0] - model.medians).round().clamp(1 - LIMIT, LIMIT - 1).numpy().astype(np.int64)
    return symbols


def encode_z(model: CodecModel, symbols: Integers) -> bytes:
    """Symbols of z (N, hz, wz) as one coder string."""
    return encode_zs(model, [symbols])[0]


def decode_z(model: CodecModel, string: bytes, shape: tuple[int, int, int]) -> Integers:
    """Symbols of z of the given shape; see `encode_z`. Raises BitstreamError."""
    return decode_zs(model, [string], [shape])[0]


def encode_zs(model: CodecModel, symbols: Sequence[Integers]) -> list[bytes]:
    """Coder strings of the z of several atoms, see `encode_z`."""
    return model.z_coder.encode_all([part.ravel() for part in symbols], [plane_tables(part.shape) for part in symbols])


def decode_zs(model: CodecModel, strings: Sequence[bytes], shapes: Sequence[tuple[int, int, int]]) -> list[Integers]:
    """Symbols of z of several atoms, see `decode_z`. Raises BitstreamError."""
    found = model.z_coder.decode_all(strings, [plane_tables(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(found, shapes, strict=True)]


def features_of(model: CodecModel, known: Known) -> tuple[Tensor, Tensor, Tensor]:
    """(psi and psi_r (1, hyper + reference, h, w), psi_r (1, reference, h, w), M(z^) (1, 64, h, w))."""
    z_hat = (torch.from_numpy(known.z).float() + model.medians)[None]
    psi, coarse = model.network.hyper_features(z_hat)
    psi_r = model.network.reference_features(known.reference)
    return torch.cat([psi, psi_r], dim=1), psi_r, coarse


Atom = tuple[Known, AtomShape]


def encode_y(model: CodecModel, known: Known, shape: AtomShape, y: Tensor) -> tuple[bytes, Integers]:
    """The coder string of an atom's y, and its symbols; see `quantise` and `encode_symbols`."""
    symbols = quantise(model, features_of(model, known)[0], shape, y)
    return encode_symbols(model, [(known, shape)], [symbols])[0], symbols


def decode_y(model: CodecModel, known: Known, shape: AtomShape, string: bytes) -> Integers:
    """Symbols (M, h, w) of an atom, zero outside its mask; see `decode_symbols`. Raises BitstreamError."""
    return decode_symbols(model, [(known, shape)], [string])[0]


def quantise(model: CodecModel, features: Tensor, shape: AtomShape, y: Tensor) -> Integers:
    """Symbols (M, h, w) of an atom, zero outside its mask.

    Args:
        model: the codec.
        features: (1, hyper + reference, h, w) that the means look at, see `features_of`.
        shape: see `AtomShape`.
        y: (1, M, h, w) of the atom's grid, not quantised, before its gain.
    """
    quality = torch.tensor([shape.quality])
    target = y.float() * model.network.gain(quality)
    symbols = torch.zeros_like(target)

    def residual_of(step: _Pass, mean: Tensor) -> Tensor:
        residual = (target[:, step.channels] - mean).round().clamp(1 - LIMIT, LIMIT - 1)
        chosen = residual * torch.from_numpy(step.cells).float()
        symbols[:, step.channels] += chosen
        return chosen

    walk(model, features, shape, residual_of)
    return symbols[0].numpy().astype(np.int64)


def encode_symbols(model: CodecModel, atoms: Sequence[Atom], symbols: Sequence[Integers]) -> list[bytes]:
    """Coder strings of atoms with a z of their own (or none), of one frame or of many, all at once.

    Args:
        model: the codec.
        atoms: what is known of each, and its shape; the reference is not looked at.
        symbols: (M, h, w) each, zero outside the mask, see `quantise`.
    """
    return write_strings(model, [shape for _, shape in atoms], own_base(model, atoms), symbols)


def decode_symbols(model: CodecModel, atoms: Sequence[Atom], strings: Sequence[bytes]) -> list[Integers]:
    """Symbols (M, h, w) of atoms, zero outside their masks; see `encode_symbols`. Raises BitstreamError."""
    return read_strings(model, [shape for _, shape in atoms], own_base(model, atoms), strings)


def own_base(model: CodecModel, atoms: Sequence[Atom]) -> Grid:
    """What the z of each atom says of its own cells: (cells of all atoms, M), see `ExactContextScales.base_rows`."""
    if not atoms:
        return np.zeros((0, model.network.config.y_channels))
    said, own = model.scales.base_rows([known.z for known, _ in atoms])
    places, first = [], 0
    for _, shape in atoms:
        places.append(places_in(shape.mask, first))
        first += shape.mask.size // Z_TO_Y**2
    return base_at(said, own, np.concatenate(places))


def base_at(said: Grid, own: npt.NDArray[np.intp], places: npt.NDArray[np.intp]) -> Grid:
    """(cells, M) of cells at places (see `places_in`), from what `ExactContextScales.base_rows` gives."""
    position, cell = np.divmod(places, Z_TO_Y**2)
    base: Grid = said[own[position], cell]
    return base


def write_strings(
    model: CodecModel, shapes: Sequence[AtomShape], base: Grid, symbols: Sequence[Integers]
) -> list[bytes]:
    """Coder strings of atoms, all at once: each the same as it would be alone.

    Args:
        model: the codec.
        shapes: of the atoms.
        base: (cells of all atoms, M) what z says of them, without the bias of quality and kind.
        symbols: (M, h, w) each, zero outside the mask, see `quantise`.
    """
    if not shapes:
        return []
    path = _EntropyPath(model, shapes, base)
    values = path.rows.gather(symbols)
    writer = SymbolWriter(model.y_coder, len(shapes))
    for group, channels, second in path.passes():
        part = values[path.rows.of_pass(second), channels]
        tables = path.tables(group, channels, second)
        counts = [count * part.shape[1] for count in path.rows.counts(second)]
        writer.put(path.rows.coding_order(part, second), tables, counts)
        path.learn(channels, second, part)
    return writer.strings()


def read_strings(
    model: CodecModel, shapes: Sequence[AtomShape], base: Grid, strings: Sequence[bytes]
) -> list[Integers]:
    """Symbols (M, h, w) of atoms, zero outside their masks; see `write_strings`. Integers only.

    Raises:
        BitstreamError: one of the strings is not the coding of such symbols.
    """
    if not shapes:
        return []
    path = _EntropyPath(model, shapes, base)
    values = np.zeros((len(path.rows), model.network.config.y_channels), dtype=np.int64)
    reader = SymbolReader(model.y_coder, strings)
    for group, channels, second in path.passes():
        size = channels.stop - channels.start
        tables = path.tables(group, channels, second)
        flat = reader.take(tables, [count * size for count in path.rows.counts(second)])
        part = path.rows.from_coding_order(flat, size, second)
        values[path.rows.of_pass(second), channels] = part
        path.learn(channels, second, part)
    reader.finish()
    return path.rows.grids(values)


class _EntropyPath:
    """Table numbers of the symbols of several atoms, pass by pass, from integers both sides know by then."""

    def __init__(self, model: CodecModel, shapes: Sequence[AtomShape], base: Grid) -> None:
        self._scales = model.scales
        self._groups = model.network.config.groups
        self.rows = AtomRows([shape.mask for shape in shapes], [(shape.top, shape.left) for shape in shapes])
        biases = np.stack([model.scales.bias(shape.quality, shape.kind) for shape in shapes])
        self._base = base + self.rows.spread(biases)
        # Sizes of symbols as the context sees them; the last row is that of a neighbour that does not exist.
        self._sizes = np.zeros((len(self.rows) + 1, self._base.shape[1]), dtype=np.uint8)

    def passes(self) -> Iterator[tuple[int, slice, bool]]:
        """Group, its channels, and whether the cells are the others (not anchors), of each pass in coding order."""
        start = 0
        for group, size in enumerate(self._groups):
            for second in (False, True):
                yield group, slice(start, start + size), second
            start += size

    def tables(self, group: int, channels: slice, second: bool) -> npt.NDArray[np.uint8]:
        """Table numbers of a pass in coding order, flat; symbols of all passes before it must be learnt."""
        cells = self.rows.of_pass(second)
        seen = self._sizes[:, : channels.stop if second else channels.start]
        above, below, left, right = self.rows.around[:, cells]
        around = seen[above] + seen[below] + seen[left] + seen[right]
        features = np.concatenate([seen[cells, : channels.start], around], axis=1)
        index = self._scales.indices_of_rows(self._base[cells, channels], group, second, features.astype(np.float64))
        return self.rows.coding_order(index, second)

    def learn(self, channels: slice, second: bool, symbols: Integers) -> None:
        """Take note of the symbols of a pass, (cells, channels)."""
        self._sizes[self.rows.of_pass(second), channels] = np.minimum(np.abs(symbols), MAGNITUDE_LIMIT)


def rebuild(model: CodecModel, known: Known, shape: AtomShape, symbols: Integers) -> Tensor:
    """z_c^ (1, L, 2h, 2w) of an atom from its symbols (M, h, w)."""
    features, psi_r, coarse = features_of(model, known)
    y_hat = rebuild_y(model, features, shape, symbols)
    mask = torch.from_numpy(shape.mask).float()[None, None]
    return model.network.synthesise(y_hat, mask, coarse, psi_r, known.reference)


def rebuild_y(model: CodecModel, features: Tensor, shape: AtomShape, symbols: Integers) -> Tensor:
    """y^ (1, M, h, w) of an atom from its symbols (M, h, w), zero outside its mask; arguments as for `quantise`."""
    numbers = torch.from_numpy(symbols).float()[None]

    def residual_of(step: _Pass, _mean: Tensor) -> Tensor:
        return numbers[:, step.channels] * torch.from_numpy(step.cells).float()

    return walk(model, features, shape, residual_of) * model.network.ungain(torch.tensor([shape.quality]))


def passes_of(model: CodecModel, shape: AtomShape) -> Iterator[_Pass]:
    """The passes of an atom, in the order of its string: each group at the anchors, then at the others."""
    height, width = shape.mask.shape
    anchors = checkerboard(height, width, shape.top, shape.left)[0, 0].numpy() > 0
    start = 0
    for group, size in enumerate(model.network.config.groups):
        for second in (False, True):
            yield _Pass(group, slice(start, start + size), second, shape.mask & (anchors != second))
        start += size


def walk(
    model: CodecModel, features: Tensor, shape: AtomShape, residual_of: Callable[[_Pass, Tensor], Tensor]
) -> Tensor:
    """Rebuild y' (1, M, h, w) of an atom pass by pass, zero outside its mask.

    `residual_of` gives the symbols of a pass, zero outside its cells: an encoder makes them from the means
    it is handed, a decoder has them.
    """
    mask = torch.from_numpy(shape.mask).float()[None, None]
    known = torch.zeros(1, 0, *shape.mask.shape)
    part = known
    for step in passes_of(model, shape):
        size = step.channels.stop - step.channels.start
        if not step.second:
            part = torch.zeros(1, size, *shape.mask.shape)
        seen = torch.cat([known, part], dim=1)
        mean = model.network.context.means(step.group, features, seen, mask, second=step.second)
        part = part + residual_of(step, mean) + mean * torch.from_numpy(step.cells).float()
        if step.second:
            known = torch.cat([known, part], dim=1)
    return known
