from __future__ import annotations

import contextlib
import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.atoms import CellMask
from discover_stream.codec.bits import BitWriter
from discover_stream.codec.latent import (
    CoarseState,
    coarse_state,
    coarse_states,
    decode_atom_mask,
    decode_atom_symbols,
    decode_atoms_symbols,
    decode_coarse,
    encode_atom,
    encode_atoms,
    encode_coarse,
    rebuild_atom,
    window_of,
    z_grid,
)
from discover_stream.codec.mask import bounds_of, write_mask
from discover_stream.codec.model import CodecModel
from discover_stream.training.codec import TrainableCodec
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
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *coarse.indices.shape, generator=generator) * spread


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
    symbols = random_z(codec, 1, 2, 3)
    state = coarse_state(codec, symbols, 3)
    assert torch.allclose(state.z_hat[0], torch.from_numpy(symbols).float() + codec.medians)
    assert state.psi.shape == (1, codec.network.config.hyper_channels, 8, 12)
    assert state.indices.shape == (codec.network.config.y_channels, 8, 12)
    assert np.ptp(state.indices) > 10


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
    assert symbols.shape == (codec.network.config.y_channels, mask.sum())
    window, values = rebuild_atom(codec, coarse, symbols, read)
    inside = torch.from_numpy(window.mask)
    wanted = target[:, :, window.rows, window.columns]
    assert bool((values[..., ~inside] == 0).all())
    assert float((values - wanted)[..., inside].abs().max()) <= 0.5 + 1e-4


def test_atoms_use_the_whole_table_and_its_escapes(codec: CodecModel) -> None:
    """The random codec really walks the paths that the other tests rely on."""
    coarse = coarse_of(codec, 3, 3, 3)
    mask = np.ones((12, 12), dtype=bool)
    payload = encode_atom(codec, coarse, random_target(codec, 3, coarse), mask)
    symbols = decode_atom_symbols(codec, coarse, decode_atom_mask(payload, 12, 12)[1], mask)
    scales = coarse.indices[:, :12, :12][:, mask]
    assert len(np.unique(scales)) > 20
    assert (np.abs(symbols) > 40).sum() == 0 < (np.abs(symbols[scales == 0]) > 3).sum()
    assert len(np.unique(symbols)) > 20


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_an_atom_does_not_depend_on_what_lies_outside_it(codec: CodecModel, seed: int) -> None:
    coarse = coarse_of(codec, seed, 2, 2)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    other = torch.where(torch.from_numpy(mask), target, random_target(codec, seed + 1, coarse, 90))
    assert encode_atom(codec, coarse, target, mask) == encode_atom(codec, coarse, other, mask)


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_training_quantises_as_the_codec_does(codec: CodecModel, float_codec: TrainableCodec, seed: int) -> None:
    trained = copy.deepcopy(float_codec)
    trained.network.load_state_dict(codec.network.state_dict())
    coarse = coarse_of(codec, seed, 2, 2)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        # In training the means are bfloat16; here they must be the very same.
        patch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
        expected, _ = trained.quantise(target, coarse.psi, torch.from_numpy(mask).float()[None, None])
    _, string = decode_atom_mask(encode_atom(codec, coarse, target, mask), 8, 8)
    window, values = rebuild_atom(codec, coarse, decode_atom_symbols(codec, coarse, string, mask), mask)
    inside = torch.from_numpy(window.mask)
    difference = (values - expected[:, :, window.rows, window.columns])[..., inside].abs()
    # Kernels differ with the size of the window, so a residual near a half may round the other way.
    assert float((difference > 1e-3).float().mean()) < 0.01


@pytest.mark.parametrize("row", [0, 3])
@pytest.mark.parametrize("column", [2, 5])
def test_the_anchors_are_those_of_the_frame(codec: CodecModel, row: int, column: int) -> None:
    """One cell without residuals is its own mean: of the first pass where row + column is even."""
    coarse = coarse_of(codec, 8, 2, 2)
    mask = np.zeros((8, 8), dtype=bool)
    mask[row, column] = True
    symbols = np.zeros((codec.network.config.y_channels, 1), dtype=np.int64)
    window, values = rebuild_atom(codec, coarse, symbols, mask)
    cell = torch.from_numpy(mask[window.rows, window.columns]).float()[None, None]
    known = torch.zeros(1, 0, *window.mask.shape)
    for group, size in enumerate(codec.network.config.groups):
        before = torch.cat([known, torch.zeros(1, size, *window.mask.shape)], 1)
        psi = coarse.psi[:, :, window.rows, window.columns]
        mean = codec.network.context.means(group, psi, before, cell, second=(row + column) % 2 == 1)
        known = torch.cat([known, mean * cell], 1)
    assert torch.allclose(values, known)
    assert float(values.abs().max()) > 0.1


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_an_atom_needs_no_more_of_the_coarse_state_than_its_window(codec: CodecModel, seed: int) -> None:
    coarse = coarse_of(codec, seed, 2, 2)
    mask, target = random_mask(seed, 8, 8), random_target(codec, seed, coarse)
    window = window_of(mask)
    near = torch.zeros(8, 8, dtype=torch.bool)
    near[window.rows, window.columns] = True
    blind = CoarseState(
        z_hat=torch.full_like(coarse.z_hat, 9.0),
        psi=torch.where(near, coarse.psi, torch.full_like(coarse.psi, 9.0)),
        indices=np.where(mask, coarse.indices, 0),
    )
    assert encode_atom(codec, coarse, target, mask) == encode_atom(codec, blind, target, mask)


def test_a_residual_beyond_sixteen_bits_is_cut_not_refused(codec: CodecModel) -> None:
    coarse = coarse_of(codec, 4, 1, 1)
    mask = np.ones((2, 2), dtype=bool)
    target = torch.full((1, *coarse.indices.shape), 1e9)
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


def test_coarse_states_of_several_cameras_are_those_of_one_by_one(codec: CodecModel) -> None:
    frames = [random_z(codec, seed, rows, columns) for seed, rows, columns in ((1, 1, 1), (2, 2, 3), (3, 4, 1))]
    for state, symbols, quality in zip(coarse_states(codec, frames, [1, 8, 4]), frames, (1, 8, 4), strict=True):
        alone = coarse_state(codec, symbols, quality)
        assert np.array_equal(state.indices, alone.indices)
        assert torch.equal(state.psi, alone.psi)
        assert torch.equal(state.z_hat, alone.z_hat)
