"""Atoms of the codec with random weights: its rules do not depend on what was learned."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_cases import coded_by_grids, random_atom, write_random_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.conditional import (
    AtomShape,
    Known,
    decode_symbols,
    decode_y,
    decode_z,
    decode_zs,
    encode_symbols,
    encode_y,
    encode_z,
    encode_zs,
    rebuild,
)
from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.transforms import TransformConfig
from discover_stream.types import BitstreamError, Image


@torch.inference_mode()
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3))
def test_atoms_come_back_exactly(codec: CodecModel, seed: int, rows: int, columns: int) -> None:
    known, shape, y = random_atom(codec, seed, rows, columns)
    string, symbols = encode_y(codec, known, shape, y)
    assert np.array_equal(decode_y(codec, known, shape, string), symbols)
    assert not symbols[:, ~shape.mask].any()
    assert np.array_equal(decode_z(codec, encode_z(codec, known.z), known.z.shape), known.z)  # type: ignore[arg-type]


@torch.inference_mode()
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3)), max_size=5))
def test_atoms_of_many_frames_at_once_are_those_of_one_by_one(
    codec: CodecModel, drawn: list[tuple[int, int, int]]
) -> None:
    cases = [random_atom(codec, *one) for one in drawn]
    atoms = [(known, shape) for known, shape, _ in cases]
    alone = [encode_y(codec, *case) for case in cases]
    strings = [string for string, _ in alone]
    assert encode_symbols(codec, atoms, [symbols for _, symbols in alone]) == strings
    found = decode_symbols(codec, atoms, strings)
    assert all(np.array_equal(numbers, symbols) for numbers, (_, symbols) in zip(found, alone, strict=True))
    zs = [known.z for known, _ in atoms]
    z_strings = encode_zs(codec, zs)
    assert z_strings == [encode_z(codec, z) for z in zs]
    assert all(map(np.array_equal, decode_zs(codec, z_strings, [z.shape for z in zs]), zs))  # type: ignore[misc]


@torch.inference_mode()
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3))
def test_strings_are_what_the_exact_branch_says_of_each_atom_by_itself(
    codec: CodecModel, seed: int, rows: int, columns: int
) -> None:
    """The table of every symbol, found again from grids, pass by pass, without rows shared by atoms."""
    known, shape, y = random_atom(codec, seed, rows, columns)
    string, symbols = encode_y(codec, known, shape, y)
    base = codec.scales.base(known.z, shape.quality, shape.kind)
    assert coded_by_grids(codec, base, symbols, shape.mask, shape.top, shape.left) == string


@torch.inference_mode()
def test_the_widths_of_sd21_take_the_same_path(tmp_path: Path, picture_of: Callable[[int, int, int], Image]) -> None:
    """N and M of ELIC as CompressAI has it, five groups of channels."""
    wide = TransformConfig(
        stem_channels=192,
        analysis_channels=192,
        wide_channels=192,
        y_channels=320,
        z_channels=192,
        groups=(16, 16, 32, 64, 192),
        hyper_channels=384,
        synthesis_channels=192,
        latent_channels=4,
    )
    model = load_codec(write_random_codec(tmp_path, 3, wide))
    picture = torch.from_numpy(picture_of(64, 128, 3)).permute(2, 0, 1)[None].float() / 255
    reference = model.network.with_flag(torch.zeros(1, 4, 8, 16), torch.tensor([0]))
    y, z = model.network.analyse(picture, model.network.reference_features(reference))
    y, numbers = y * (8 / y.std()), (z * (3 / z.std()))[0].round().numpy().astype(np.int64)
    known = Known(decode_z(model, encode_z(model, numbers), numbers.shape), reference)
    assert np.array_equal(known.z, numbers)
    left = np.zeros((4, 8), dtype=bool)
    left[1:, :5] = True
    atoms = [(known, AtomShape(left, 3, 0)), (known, AtomShape(~left, 8, 0))]
    alone = [encode_y(model, *atom, y) for atom in atoms]
    assert min(np.unique(symbols).size for _, symbols in alone) > 10
    found = decode_symbols(model, atoms, [string for string, _ in alone])
    assert all(np.array_equal(numbers, symbols) for numbers, (_, symbols) in zip(found, alone, strict=True))
    assert rebuild(model, *atoms[0], found[0]).shape == (1, 4, 8, 16)


@torch.inference_mode()
def test_symbols_do_not_depend_on_floats_of_the_decoder(codec: CodecModel) -> None:
    """A reference that is a little off, as on another machine, moves pixels a little and no symbol at all."""
    known, shape, y = random_atom(codec, 7, 2, 2)
    shape = AtomShape(shape.mask, 4, 1)
    reference = torch.randn(1, 16, 16, 16)
    present = torch.tensor([1])
    ours = Known(known.z, codec.network.with_flag(reference, present))
    theirs = Known(known.z, codec.network.with_flag(reference + 1e-5 * torch.randn_like(reference), present))
    string, symbols = encode_y(codec, ours, shape, y)
    found = decode_y(codec, theirs, shape, string)
    assert np.array_equal(found, symbols)
    apart = (rebuild(codec, ours, shape, symbols) - rebuild(codec, theirs, shape, found)).abs().max()
    assert 0 < float(apart) < 1e-3


@torch.inference_mode()
def test_cells_outside_the_mask_leave_no_trace(codec: CodecModel) -> None:
    known, shape, y = random_atom(codec, 11, 2, 2)
    soiled = y + 90 * torch.from_numpy(~shape.mask).float()
    assert encode_y(codec, known, shape, y)[0] == encode_y(codec, known, shape, soiled)[0]


@torch.inference_mode()
def test_tables_follow_from_symbols_already_decoded(codec: CodecModel) -> None:
    """With context, a string of large symbols is shorter than tables from z alone would make it."""
    known, shape, y = random_atom(codec, 3, 2, 2)
    _, symbols = encode_y(codec, known, shape, y)
    first = codec.scales.indices(codec.scales.base(known.z, shape.quality, shape.kind), 1, True, np.zeros((12, 8, 8)))
    second = codec.scales.indices(codec.scales.base(known.z, shape.quality, shape.kind), 1, True, np.abs(symbols))
    assert (first != second).any()


@torch.inference_mode()
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.data())
def test_damaged_strings_raise_one_error_or_decode_to_other_symbols(
    codec: CodecModel, seed: int, data: st.DataObject
) -> None:
    known, shape, y = random_atom(codec, seed, 1, 2)
    string, symbols = encode_y(codec, known, shape, y)
    if not string:
        return
    position = data.draw(st.integers(0, len(string) - 1))
    damaged = bytearray(string)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_y(codec, known, shape, bytes(damaged))
    except BitstreamError:
        return
    assert not np.array_equal(found, symbols)


def test_every_sequence_of_symbols_has_one_string(codec: CodecModel) -> None:
    known, shape, y = random_atom(codec, 2, 2, 1)
    with torch.inference_mode():
        string, symbols = encode_y(codec, known, shape, y)
    with pytest.raises(BitstreamError, match="not the coding"):
        decode_y(codec, known, shape, string + b"\0")
    for wrong in (string[:-1], string + b"\1"):
        with contextlib.suppress(BitstreamError):
            assert not np.array_equal(decode_y(codec, known, shape, wrong), symbols)
    empty = AtomShape(np.zeros_like(shape.mask), 4, 0)
    assert not decode_y(codec, known, empty, b"").any()
    with pytest.raises(BitstreamError, match="empty"):
        decode_y(codec, known, empty, b"\1")


def test_a_fresh_process_with_two_threads_finds_the_same_symbols(
    codec: CodecModel, codec_path: Path, tmp_path: Path
) -> None:
    known, shape, y = random_atom(codec, 21, 3, 3)
    with torch.inference_mode():
        string, symbols = encode_y(codec, known, shape, y)
    np.savez(tmp_path / "atom.npz", z=known.z, reference=known.reference.numpy(), mask=shape.mask)
    program = f"""
import sys; from pathlib import Path; import numpy as np; import torch
torch.set_num_threads(2)
from discover_stream.codec.conditional import AtomShape, Known, decode_y
from discover_stream.codec.model import load_codec
codec = load_codec(Path({str(codec_path)!r}))
stored = np.load({str(tmp_path / "atom.npz")!r})
known = Known(stored["z"], torch.from_numpy(stored["reference"]).contiguous(memory_format=torch.channels_last))
shape = AtomShape(stored["mask"], {shape.quality}, {shape.kind}, {shape.top}, {shape.left})
found = decode_y(codec, known, shape, bytes.fromhex(sys.argv[1]))
np.save({str(tmp_path / "found.npy")!r}, found)
"""
    subprocess.run([sys.executable, "-c", program, string.hex()], check=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), symbols)
