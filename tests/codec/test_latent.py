from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from codec_cases import SMALL, coded_by_grids, tables_of
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.latent import (
    CoarseState,
    atoms_base,
    coarse_state,
    decode_atom_mask,
    decode_atom_symbols,
    decode_atoms_symbols,
    decode_coarse,
    encode_atom,
    encode_atoms,
    encode_coarse,
    no_reference,
    quantise_atom,
    rebuild_atom,
    window_of,
    z_grid,
)
from discover_stream.codec.mask import bounds_of, write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.codec.scales import KEY, REFRESH, STILL
from discover_stream.training.conditional import TrainableConditional
from discover_stream.types import BitstreamError


def random_z(codec: CodecModel, seed: int, rows: int, columns: int, spread: float = 5.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    shape = (codec.network.config.z_channels, rows, columns)
    return np.rint(random.normal(0, spread, shape) * random.choice([1, 1, 1, 8], shape)).astype(np.int64)


def random_mask(seed: int, rows: int, columns: int) -> CellMask:
    random = np.random.default_rng(seed)
    mask = random.random((rows, columns)) < random.choice([0.1, 0.5, 0.9, 1.0])
    mask[random.integers(rows), random.integers(columns)] = True
    return mask


def coarse_of(codec: CodecModel, seed: int, rows: int, columns: int, quality: int = 5) -> CoarseState:
    return coarse_state(codec, random_z(codec, seed, rows, columns), quality)


def random_target(codec: CodecModel, seed: int, coarse: CoarseState, spread: float = 6.0) -> torch.Tensor:
    """y of a whole frame."""
    generator = torch.Generator().manual_seed(seed)
    shape = codec.network.config.y_channels, *coarse.features.shape[2:]
    return torch.randn(1, *shape, generator=generator) * spread


def gained(codec: CodecModel, y: torch.Tensor, quality: int) -> torch.Tensor:
    """y' of y, in whose units symbols are."""
    return y * codec.network.gain(torch.tensor([quality]))


def regained(codec: CodecModel, y_hat: torch.Tensor, quality: int) -> torch.Tensor:
    """y'^ of y^."""
    return y_hat / codec.network.ungain(torch.tensor([quality]))


def base_of(codec: CodecModel, symbols: np.ndarray, mask: CellMask, quality: int) -> np.ndarray:
    """(M, h, w) what the frame's z says of an atom's window, by whole grids."""
    window = window_of(mask)
    return codec.scales.base(symbols, quality, STILL)[:, window.rows, window.columns]


@given(st.integers(1, 8192), st.integers(1, 8192))
def test_the_hyper_latent_covers_the_picture(width: int, height: int) -> None:
    rows, columns = z_grid(width, height)
    assert 64 * (rows - 1) < height <= 64 * rows
    assert 64 * (columns - 1) < width <= 64 * columns


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0, 1, 5, 60, 500]))
def test_the_coarse_atom_comes_back(codec: CodecModel, seed: int, rows: int, columns: int, spread: float) -> None:
    symbols = random_z(codec, seed, rows, columns, spread)
    data = encode_coarse(codec, symbols)
    assert np.array_equal(decode_coarse(codec, data, rows, columns), symbols)


def test_the_coarse_state_adds_the_medians(codec: CodecModel) -> None:
    symbols, config = random_z(codec, 1, 2, 3), codec.network.config
    state = coarse_state(codec, symbols, 3)
    assert state.quality == 3
    assert torch.equal(state.z_hat[0], torch.from_numpy(symbols).float() + codec.medians)
    psi, psi_r = state.features.split([config.hyper_channels, config.reference_channels], dim=1)
    assert psi.shape == (1, config.hyper_channels, 8, 12)
    assert torch.equal(psi, codec.network.h_s(state.z_hat))
    assert not psi_r.any()
    assert float(psi.std()) > 1


def test_still_mode_sees_an_absent_reference(codec: CodecModel) -> None:
    """Its features are those that the network has for a reference which is not there."""
    shape = 1, codec.network.config.latent_channels, 16, 24
    flagged = codec.network.with_flag(torch.randn(shape), torch.tensor([0]))
    assert torch.equal(no_reference(codec, 8, 12), codec.network.reference_features(flagged))


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3), st.integers(1, 8))
def test_an_atom_is_coded_with_what_z_says_of_its_cells(
    codec: CodecModel, seed: int, rows: int, columns: int, quality: int
) -> None:
    """Tables found again from grids of the whole frame: its exact branch, its checkerboard, the atom's own symbols."""
    z = random_z(codec, seed, rows, columns, (5.0, 0.3, 0.0)[seed % 3])
    coarse = coarse_state(codec, z, quality)
    # The picture may end before its last positions of z do.
    mask = random_mask(seed, 4 * rows - seed % 4, 4 * columns - seed % 3)
    symbols = quantise_atom(codec, coarse, random_target(codec, seed, coarse), mask)
    string = decode_atom_mask(encode_atom(codec, coarse, random_target(codec, seed, coarse), mask), *mask.shape)[1]
    window, base = window_of(mask), base_of(codec, z, mask, quality)
    assert string == coded_by_grids(codec, base, symbols, window.mask, window.rows.start, window.columns.start)
    bias = codec.scales.bias(quality, STILL)
    assert np.array_equal(atoms_base(codec, coarse, [mask]) + bias, base[:, window.mask].T)


def test_a_few_bytes_cannot_claim_a_huge_picture(codec: CodecModel) -> None:
    symbols = random_z(codec, 2, 2, 2)
    data = encode_coarse(codec, symbols)
    for rows, columns in ((64, 128), (128, 128)):
        with pytest.raises(BitstreamError, match="cannot describe"):
            decode_coarse(codec, data, rows, columns)
        with pytest.raises(BitstreamError, match="cannot describe"):
            decode_coarse(codec, b"", rows, columns)


def test_the_likeliest_huge_picture_is_still_a_picture(codec: CodecModel) -> None:
    """The bound on coarse bytes must not refuse what an encoder writes: here, the fewest bytes possible."""
    channels = codec.network.config.z_channels
    likeliest = np.array(
        [
            min(
                range(-3, 4),
                key=lambda value: len(codec.z_coder.encode(np.full(400, value), np.full(400, channel))),
            )
            for channel in range(channels)
        ]
    )
    symbols = np.broadcast_to(likeliest[:, None, None], (channels, 64, 128))
    data = encode_coarse(codec, symbols)
    assert np.array_equal(decode_coarse(codec, data, 64, 128), symbols)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9))
def test_a_window_is_the_atom_and_a_halo(seed: int, rows: int, columns: int) -> None:
    mask = random_mask(seed, rows, columns)
    window = window_of(mask)
    inner_rows, inner_columns = bounds_of(mask)
    assert window.mask.sum() == mask.sum()
    assert np.array_equal(window.mask, mask[window.rows, window.columns])
    assert window.rows == slice(max(0, inner_rows.start - 1), min(rows, inner_rows.stop + 1))
    assert window.columns == slice(max(0, inner_columns.start - 1), min(columns, inner_columns.stop + 1))


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_an_atom_decodes_to_its_part_of_y(codec: CodecModel, seed: int, rows: int, columns: int, quality: int) -> None:
    coarse = coarse_of(codec, seed, 2, 2, quality)
    mask, target = random_mask(seed, rows, columns), random_target(codec, seed, coarse)
    payload = encode_atom(codec, coarse, target, mask)
    read, string = decode_atom_mask(payload, rows, columns)
    assert np.array_equal(read, mask)
    symbols = decode_atom_symbols(codec, coarse, string, read)
    window, values = rebuild_atom(codec, coarse, symbols, read)
    assert symbols.shape == (codec.network.config.y_channels, *window.mask.shape)
    assert not symbols[:, ~window.mask].any()
    inside = torch.from_numpy(window.mask)
    wanted = gained(codec, window.of(target), quality)
    assert bool((values[..., ~inside] == 0).all())
    assert float((regained(codec, values, quality) - wanted)[..., inside].abs().max()) <= 0.5 + 1e-4


def test_atoms_use_the_whole_table_and_its_escapes(codec: CodecModel) -> None:
    """The random codec really walks the paths that the other tests rely on."""
    z = random_z(codec, 3, 3, 3)
    coarse, mask = coarse_state(codec, z, 5), np.ones((12, 12), dtype=bool)
    payload = encode_atom(codec, coarse, random_target(codec, 3, coarse), mask)
    symbols = decode_atom_symbols(codec, coarse, decode_atom_mask(payload, 12, 12)[1], mask)
    base = base_of(codec, z, mask, 5)
    scales, without = tables_of(codec, base, symbols), tables_of(codec, base, np.zeros_like(symbols))
    assert len(np.unique(scales)) > 40
    assert len(np.unique(without)) > 40
    assert (scales != without).mean() > 0.3
    assert (np.abs(symbols) > 40).sum() == 0 < (np.abs(symbols[scales == 0]) > 3).sum()
    assert len(np.unique(symbols)) > 20


def test_tables_are_those_of_still_frames(codec: CodecModel) -> None:
    """Kinds of atoms have biases of their own."""
    biases = [codec.scales.bias(5, kind).tolist() for kind in (STILL, KEY, REFRESH)]
    assert biases[STILL] not in biases[1:]
    assert window_of(np.ones((1, 1), dtype=bool)).shape(5).kind == STILL


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_an_atom_does_not_depend_on_what_lies_outside_it(codec: CodecModel, seed: int) -> None:
    coarse = coarse_of(codec, seed, 2, 2)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    other = torch.where(torch.from_numpy(mask), target, random_target(codec, seed + 1, coarse, 90))
    assert encode_atom(codec, coarse, target, mask) == encode_atom(codec, coarse, other, mask)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_training_quantises_as_the_codec_does(
    codec: CodecModel, float_codec: TrainableConditional, seed: int, quality: int
) -> None:
    # In training the means are bfloat16; here they must be the very same.
    trained = TrainableConditional(SMALL, contextlib.nullcontext)
    trained.network.load_state_dict(codec.network.state_dict())
    trained.scales.load_state_dict(float_codec.scales.state_dict())
    z = random_z(codec, seed, 2, 2)
    coarse = coarse_state(codec, z, quality)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    scaled = gained(codec, target, quality)
    with torch.no_grad():
        base = trained.scales.base(torch.from_numpy(z)[None].float(), torch.tensor([quality]), torch.tensor([STILL]))
        sent = torch.from_numpy(mask).float()[None, None]
        expected, bits = trained.passes(scaled, coarse.features, base, sent, torch.zeros_like(scaled), False)
    _, string = decode_atom_mask(encode_atom(codec, coarse, target, mask), 8, 8)
    symbols = decode_atom_symbols(codec, coarse, string, mask)
    window, values = rebuild_atom(codec, coarse, symbols, mask)
    inside = torch.from_numpy(window.mask)
    difference = (regained(codec, values, quality) - window.of(expected))[..., inside].abs()
    # Kernels differ with the size of the window, so a residual near a half may round the other way.
    assert float((difference > 1e-3).float().mean()) < 0.01
    assert float(bits) > 0


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("column", [2, 5])
def test_the_anchors_are_those_of_the_frame(codec: CodecModel, row: int, column: int) -> None:
    """One cell without residuals is its own mean: of the first pass where row + column is even."""
    coarse = coarse_of(codec, 8, 2, 2)
    mask = np.zeros((8, 8), dtype=bool)
    mask[row, column] = True
    window = window_of(mask)
    symbols = np.zeros((codec.network.config.y_channels, *window.mask.shape), dtype=np.int64)
    values = regained(codec, rebuild_atom(codec, coarse, symbols, mask)[1], 5)
    cell = torch.from_numpy(window.mask).float()[None, None]
    known = torch.zeros(1, 0, *window.mask.shape)
    for group, size in enumerate(codec.network.config.groups):
        before = torch.cat([known, torch.zeros(1, size, *window.mask.shape)], 1)
        second = (row + column) % 2 == 1
        mean = codec.network.context.means(group, window.of(coarse.features), before, cell, second=second)
        known = torch.cat([known, mean * cell], 1)
    assert torch.allclose(values, known, atol=1e-6)
    assert float(values.abs().max()) > 0.1


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_an_atom_needs_no_more_of_the_coarse_state_than_its_window(codec: CodecModel, seed: int) -> None:
    coarse = coarse_of(codec, seed, 2, 2)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    window = window_of(mask)
    near = torch.zeros(8, 8, dtype=torch.bool)
    near[window.rows, window.columns] = True
    # Of what z says, not even the halo is needed: (rows of z, columns of z, rows of cells, columns of cells, M).
    said = coarse.said[coarse.own].reshape(2, 2, 4, 4, -1)
    own = mask.reshape(2, 4, 2, 4).transpose(0, 2, 1, 3)[..., None]
    blind = dataclasses.replace(
        coarse,
        z_hat=torch.full_like(coarse.z_hat, 9.0),
        features=torch.where(near, coarse.features, torch.full_like(coarse.features, 9.0)),
        said=np.where(own, said, 2.0**40).reshape(4, 16, -1),
        own=np.arange(4),
    )
    payload = encode_atom(codec, coarse, target, mask)
    assert encode_atom(codec, blind, target, mask) == payload
    string = decode_atom_mask(payload, 8, 8)[1]
    symbols = decode_atom_symbols(codec, blind, string, mask)
    assert np.array_equal(symbols, decode_atom_symbols(codec, coarse, string, mask))
    assert torch.equal(rebuild_atom(codec, blind, symbols, mask)[1], rebuild_atom(codec, coarse, symbols, mask)[1])


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_symbols_need_integers_of_the_coarse_state_only(codec: CodecModel, seed: int) -> None:
    """Floats of a decoder may be anything: they move its picture, not what it reads."""
    coarse = coarse_of(codec, seed, 2, 2)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    nothing = torch.full((0,), float("nan"))
    blind = dataclasses.replace(coarse, z_hat=nothing, features=nothing)
    string = decode_atom_mask(encode_atom(codec, coarse, target, mask), 8, 8)[1]
    symbols = quantise_atom(codec, coarse, target, mask)
    assert np.array_equal(decode_atom_symbols(codec, blind, string, mask), symbols)


def test_a_residual_beyond_sixteen_bits_is_cut_not_refused(codec: CodecModel) -> None:
    coarse = coarse_of(codec, 4, 1, 1)
    mask = np.ones((2, 2), dtype=bool)
    target = torch.full_like(random_target(codec, 4, coarse), 1e9)
    symbols = decode_atom_symbols(
        codec, coarse, decode_atom_mask(encode_atom(codec, coarse, target, mask), 2, 2)[1], mask
    )
    assert (symbols == 32767).all()


@settings(max_examples=60)
@given(st.binary(max_size=120), st.integers(1, 8), st.integers(1, 8))
def test_any_payload_decodes_to_finite_values_or_is_refused(
    codec: CodecModel, payload: bytes, rows: int, columns: int
) -> None:
    coarse = coarse_of(codec, 5, 2, 2)
    try:
        mask, string = decode_atom_mask(payload, rows, columns)
        symbols = decode_atom_symbols(codec, coarse, string, mask)
    except BitstreamError:
        return
    _, values = rebuild_atom(codec, coarse, symbols, mask)
    assert bool(values.isfinite().all())


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.binary(max_size=60))
def test_any_string_behind_a_mask_decodes_to_finite_values_or_is_refused(
    codec: CodecModel, seed: int, string: bytes
) -> None:
    coarse = coarse_of(codec, 6, 2, 2)
    writer = BitWriter()
    write_mask(writer, random_mask(seed, 2, 3))
    mask, rest = decode_atom_mask(writer.bytes() + string, 2, 3)
    assert rest == string
    try:
        symbols = decode_atom_symbols(codec, coarse, rest, mask)
    except BitstreamError:
        return
    assert bool(rebuild_atom(codec, coarse, symbols, mask)[1].isfinite().all())


def test_atoms_of_a_frame_at_once_are_those_of_one_by_one(codec: CodecModel) -> None:
    coarse = coarse_of(codec, 5, 2, 3)
    target = random_target(codec, 5, coarse)
    masks = [random_mask(seed, 8, 12) for seed in range(6)]
    payloads = encode_atoms(codec, coarse, target, masks)
    assert payloads == [encode_atom(codec, coarse, target, mask) for mask in masks]
    strings = [decode_atom_mask(payload, 8, 12)[1] for payload in payloads]
    found = decode_atoms_symbols(codec, coarse, strings, masks)
    for symbols, string, mask in zip(found, strings, masks, strict=True):
        assert np.array_equal(symbols, decode_atom_symbols(codec, coarse, string, mask))
    assert encode_atoms(codec, coarse, target, []) == []
    assert decode_atoms_symbols(codec, coarse, [], []) == []
