"""The conditional codec with random weights: its rules do not depend on what was learned."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.conditional import (
    AtomShape,
    Known,
    decode_y,
    decode_z,
    encode_y,
    encode_z,
    rebuild,
    z_shape,
)
from discover_stream.codec.conditional_model import ConditionalModel, load_conditional
from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_conditional
from discover_stream.types import BitstreamError, InputError

CONFIG = TransformConfig(
    stem_channels=8,
    analysis_channels=8,
    wide_channels=8,
    y_channels=12,
    z_channels=6,
    groups=(4, 8),
    hyper_channels=16,
    reference_channels=8,
    synthesis_channels=16,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    codec = TrainableConditional(CONFIG)
    with torch.no_grad():
        codec.scales.third.weight.mul_(20)
        for pair in codec.scales.context.values():
            pair["out"].weight.normal_(0, 0.5)  # type: ignore[index]
    path = tmp_path_factory.mktemp("codec") / "codec.safetensors"
    export_conditional(codec, path, latent_space="test")
    return path


@pytest.fixture(scope="module")
def model(file: Path) -> ConditionalModel:
    return load_conditional(file)


def random_atom(model: ConditionalModel, seed: int, rows: int, columns: int) -> tuple[Known, AtomShape, torch.Tensor]:
    random = np.random.default_rng(seed)
    mask = random.random((4 * rows, 4 * columns)) < random.uniform(0.1, 1)
    shape = AtomShape(mask, int(random.integers(1, 9)), int(random.integers(0, 3)), *random.integers(0, 2, 2))
    z = np.rint(random.normal(0, 3, z_shape(model, mask))).astype(np.int64) * int(random.integers(0, 2))
    present = torch.tensor([min(1, shape.kind)])
    reference = torch.from_numpy(random.normal(0, 1, (1, 16, 8 * rows, 8 * columns))).float()
    y = torch.from_numpy(random.normal(0, random.uniform(0.1, 30), (1, 12, 4 * rows, 4 * columns))).float()
    return Known(z, model.network.with_flag(reference, present)), shape, y


@torch.inference_mode()
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 3))
def test_atoms_come_back_exactly(model: ConditionalModel, seed: int, rows: int, columns: int) -> None:
    known, shape, y = random_atom(model, seed, rows, columns)
    string, symbols = encode_y(model, known, shape, y)
    assert np.array_equal(decode_y(model, known, shape, string), symbols)
    assert not symbols[:, ~shape.mask].any()
    assert np.array_equal(decode_z(model, encode_z(model, known.z), known.z.shape), known.z)  # type: ignore[arg-type]


@torch.inference_mode()
def test_symbols_do_not_depend_on_floats_of_the_decoder(model: ConditionalModel) -> None:
    """A reference that is a little off, as on another machine, moves pixels a little and no symbol at all."""
    known, shape, y = random_atom(model, 7, 2, 2)
    shape = AtomShape(shape.mask, 4, 1)
    reference = torch.randn(1, 16, 16, 16)
    present = torch.tensor([1])
    ours = Known(known.z, model.network.with_flag(reference, present))
    theirs = Known(known.z, model.network.with_flag(reference + 1e-5 * torch.randn_like(reference), present))
    string, symbols = encode_y(model, ours, shape, y)
    found = decode_y(model, theirs, shape, string)
    assert np.array_equal(found, symbols)
    apart = (rebuild(model, ours, shape, symbols) - rebuild(model, theirs, shape, found)).abs().max()
    assert 0 < float(apart) < 1e-3


@torch.inference_mode()
def test_cells_outside_the_mask_leave_no_trace(model: ConditionalModel) -> None:
    known, shape, y = random_atom(model, 11, 2, 2)
    soiled = y + 90 * torch.from_numpy(~shape.mask).float()
    assert encode_y(model, known, shape, y)[0] == encode_y(model, known, shape, soiled)[0]


@torch.inference_mode()
def test_tables_follow_from_symbols_already_decoded(model: ConditionalModel) -> None:
    """With context, a string of large symbols is shorter than tables from z alone would make it."""
    known, shape, y = random_atom(model, 3, 2, 2)
    _, symbols = encode_y(model, known, shape, y)
    first = model.scales.indices(model.scales.base(known.z, shape.quality, shape.kind), 1, True, np.zeros((12, 8, 8)))
    second = model.scales.indices(model.scales.base(known.z, shape.quality, shape.kind), 1, True, np.abs(symbols))
    assert (first != second).any()


@torch.inference_mode()
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.data())
def test_damaged_strings_raise_one_error_or_decode_to_other_symbols(
    model: ConditionalModel, seed: int, data: st.DataObject
) -> None:
    known, shape, y = random_atom(model, seed, 1, 2)
    string, symbols = encode_y(model, known, shape, y)
    if not string:
        return
    position = data.draw(st.integers(0, len(string) - 1))
    damaged = bytearray(string)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_y(model, known, shape, bytes(damaged))
    except BitstreamError:
        return
    assert not np.array_equal(found, symbols)


def test_every_sequence_of_symbols_has_one_string(model: ConditionalModel) -> None:
    known, shape, y = random_atom(model, 2, 2, 1)
    with torch.inference_mode():
        string, symbols = encode_y(model, known, shape, y)
    with pytest.raises(BitstreamError, match="not the coding"):
        decode_y(model, known, shape, string + b"\0")
    for wrong in (string[:-1], string + b"\1"):
        with contextlib.suppress(BitstreamError):
            assert not np.array_equal(decode_y(model, known, shape, wrong), symbols)
    empty = AtomShape(np.zeros_like(shape.mask), 4, 0)
    assert not decode_y(model, known, empty, b"").any()
    with pytest.raises(BitstreamError, match="empty"):
        decode_y(model, known, empty, b"\1")


def test_a_fresh_process_with_two_threads_finds_the_same_symbols(
    model: ConditionalModel, file: Path, tmp_path: Path
) -> None:
    known, shape, y = random_atom(model, 21, 3, 3)
    with torch.inference_mode():
        string, symbols = encode_y(model, known, shape, y)
    np.savez(tmp_path / "atom.npz", z=known.z, reference=known.reference.numpy(), mask=shape.mask)
    program = f"""
import sys; from pathlib import Path; import numpy as np; import torch
torch.set_num_threads(2)
from discover_stream.codec.conditional import AtomShape, Known, decode_y
from discover_stream.codec.conditional_model import load_conditional
model = load_conditional(Path({str(file)!r}))
stored = np.load({str(tmp_path / "atom.npz")!r})
known = Known(stored["z"], torch.from_numpy(stored["reference"]).contiguous(memory_format=torch.channels_last))
shape = AtomShape(stored["mask"], {shape.quality}, {shape.kind}, {shape.top}, {shape.left})
found = decode_y(model, known, shape, bytes.fromhex(sys.argv[1]))
np.save({str(tmp_path / "found.npy")!r}, found)
"""
    subprocess.run([sys.executable, "-c", program, string.hex()], check=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), symbols)


def test_files_of_another_structure_are_refused(file: Path, tmp_path: Path) -> None:
    from discover_stream.codec.model import MODEL_FILE, shipped_weights

    with pytest.raises(InputError, match="another structure"):
        load_conditional(shipped_weights() / MODEL_FILE)
    with pytest.raises(InputError, match="no codec weights"):
        load_conditional(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="not readable"):
        load_conditional(cut)
