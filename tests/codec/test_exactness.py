"""What is sent is what is decoded: by any subscriber, elsewhere, from its bytes alone, however it computes.

The decoder is another process: a wheel's installed package, isolated Python, outside the checkout. Symbols must be
equal; latents may differ by rounding of floats. DISCOVER_EXAMPLES=100 tries more, and larger, frames.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from codec_cases import random_atom
from exactness import KEYS, LARGEST, Case, Elsewhere, cases, decibels, recording, subsets
from hypothesis import HealthCheck, given, settings

from discover_stream.codec.atoms import cell_grid, cells_of
from discover_stream.codec.conditional import decode_symbols, encode_symbols, encode_z, features_of, quantise, rebuild
from discover_stream.codec.model import CodecModel, load_codec, shipped_weights
from discover_stream.codec.packet import packet_bytes, parse_packet, route
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import decode_latent
from discover_stream.types import BitstreamError, Box, Frame, Image, Region

EXAMPLES = int(os.environ.get("DISCOVER_EXAMPLES", "4"))
PIXELS = LARGEST**2 if "DISCOVER_EXAMPLES" in os.environ else 2**15
LATENTS_AGREE = 1e-4
PICTURES_AGREE_DB = 60
Pictures = Callable[[int, int, int], Image]
some = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """A decoder in another process, from an installed wheel."""
    place = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "--target",
        place,
        wheel,
    ]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    decoder = Elsewhere(place, tmp_path_factory.mktemp("elsewhere"))
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def shipped() -> CodecModel:
    return load_codec()


def check_every_subset(
    codec: CodecModel, elsewhere: Elsewhere, picture_of: Pictures, case: Case, path: str | None
) -> None:
    """Encode a frame; every subset of its tasks must decode elsewhere. `path` is that of the codec there."""
    frame = Frame("gate", 3, 10**18, picture_of(case.height, case.width, case.seed))
    with recording() as written:
        packet = encode_frame(codec, frame, case.scene, KEYS, quality=case.quality)
    sent = {atom.payload: symbols for atom, symbols in zip(packet.atoms, written.atoms, strict=True)}
    parts = subsets(packet)
    data = [packet_bytes(route(packet, keys)) for keys in parts]
    answer = elsewhere.ask(
        "still", model=path, packets=data, latents=True, pictures=False, batch=1,
        threads=case.threads, channels_last=case.channels_last,
    )  # fmt: skip
    grid = cell_grid(case.width, case.height)
    for index, keys in enumerate(parts):
        z_symbols, atoms = answer["symbols"][index]
        assert np.array_equal(z_symbols, written.z[0])
        for payload, symbols in atoms.items():
            assert np.array_equal(symbols, sent[payload])
        wanted = np.zeros(grid, dtype=bool)
        for task in case.scene:
            for region in case.scene[task] if KEYS[task] in keys else ():
                wanted[cells_of(region.box.clipped(case.width, case.height), *grid)] = True
        assert np.array_equal(answer["sent"][index], wanted)
    for index in (0, len(parts) - 1):
        here = decode_packet(codec, parse_packet(data[index])).latent.numpy()
        assert np.abs(here - answer["latents"][index]).max() < LATENTS_AGREE


@some
@given(cases(PIXELS))
def test_every_subset_of_a_shipped_codecs_frame_decodes_elsewhere(
    shipped: CodecModel, elsewhere: Elsewhere, picture_of: Pictures, case: Case
) -> None:
    check_every_subset(shipped, elsewhere, picture_of, case, None)


@some
@given(cases(4 * PIXELS))
def test_every_subset_decodes_elsewhere_whatever_was_learned(
    codec: CodecModel, codec_path: Path, elsewhere: Elsewhere, picture_of: Pictures, case: Case
) -> None:
    """With random weights: symbols of every size, tables of every index, escapes."""
    check_every_subset(codec, elsewhere, picture_of, case, str(codec_path))


@pytest.mark.parametrize("size", [(LARGEST, 33), (17, 2047), (611, 511)])
def test_long_and_large_frames_decode_elsewhere(
    codec: CodecModel, codec_path: Path, elsewhere: Elsewhere, picture_of: Pictures, size: tuple[int, int]
) -> None:
    width, height = size
    boxes = Box(3, 5, width - 2, height - 1), Box(width / 3, 0, width / 2, height), Box(1, 1, 2, 2)
    scene = {task: [Region(1, 0.5, box, 4)] for task, box in zip(KEYS, boxes, strict=True)}
    case = Case(width, height, scene, quality=8, seed=1, threads=2, channels_last=False)
    check_every_subset(codec, elsewhere, picture_of, case, str(codec_path))


def test_latents_and_pictures_agree_however_they_are_computed(
    shipped: CodecModel, elsewhere: Elsewhere, picture_of: Pictures
) -> None:
    """Eight frames at once or one by one, with one thread or two, in either memory format."""
    frames = [Frame("gate", seq, 10**18, picture_of(70, 100, seq)) for seq in range(8)]
    scene = {"vehicles": [Region(1, 0.9, Box(20, 20, 75, 60), 1)], "signs": [Region(0, 0.5, Box(50, 3, 95, 40))]}
    packets = [encode_frame(shipped, frame, scene, KEYS, quality=quality) for quality, frame in enumerate(frames, 1)]
    data = [packet_bytes(packet) for packet in packets]
    with torch.inference_mode():
        latents = [decode_packet(shipped, packet).latent for packet in packets]
        vae = load_vae(shipped_weights() / "vae.safetensors")
        pictures = [decode_latent(vae, latent)[0].clamp(0, 1).numpy() for latent in latents]
    for threads, batch, channels_last in ((1, 1, False), (2, 8, True), (2, 8, False)):
        answer = elsewhere.ask(
            "still", model=None, packets=data, latents=True, pictures=True,
            threads=threads, batch=batch, channels_last=channels_last,
        )  # fmt: skip
        for index in range(len(frames)):
            assert np.abs(answer["latents"][index] - latents[index].numpy()).max() < LATENTS_AGREE
            assert decibels(answer["pictures"][index], pictures[index]) > PICTURES_AGREE_DB


@pytest.mark.parametrize("size", ["codec_path", "nano_path"])
def test_atoms_with_a_z_of_their_own_decode_elsewhere(
    elsewhere: Elsewhere, request: pytest.FixtureRequest, size: str
) -> None:
    """Atoms of any shape and kind, alone or eight at once: the same strings and symbols, nearly the same latents."""
    path = request.getfixturevalue(size)
    model = load_codec(path)
    random = np.random.default_rng(3)
    count = 8 * max(1, EXAMPLES // 4) if size == "codec_path" else 8
    sent, atoms, symbols, latents = [], [], [], []
    with torch.inference_mode():
        for seed in range(count):
            known, shape, y = random_atom(model, seed, int(random.integers(1, 3)), int(random.integers(1, 4)))
            atoms.append((known, shape))
            symbols.append(quantise(model, features_of(model, known)[0], shape, y))
            latents.append(rebuild(model, known, shape, symbols[-1]).numpy())
    strings = encode_symbols(model, atoms, symbols)
    # What an atom is coded with does not depend on what is coded beside it.
    assert strings == [encode_symbols(model, [atom], [part])[0] for atom, part in zip(atoms, symbols, strict=True)]
    for index, (known, shape) in enumerate(atoms):
        z = encode_z(model, known.z) if index % 2 else known.z
        place = (shape.mask, shape.quality, shape.kind, shape.top, shape.left)
        sent.append((*place, z, known.reference.numpy(), strings[index]))
    for threads, batch, channels_last in ((1, 1, True), (2, 8, False), (2, 3, True)):
        answer = elsewhere.ask(
            "atoms", model=str(path), atoms=sent,
            threads=threads, batch=batch, channels_last=channels_last,
        )  # fmt: skip
        for index, (known, _) in enumerate(atoms):
            assert np.array_equal(answer["z"][index], known.z)
            assert np.array_equal(answer["symbols"][index], symbols[index])
            wide = max(1.0, float(np.abs(latents[index]).max()))
            assert np.abs(answer["latents"][index] - latents[index]).max() < LATENTS_AGREE * wide


def test_a_damaged_string_in_a_batch_is_refused(codec: CodecModel) -> None:
    with torch.inference_mode():
        drawn = [random_atom(codec, seed, 2, 2) for seed in range(3)]
        symbols = [quantise(codec, features_of(codec, known)[0], shape, y) for known, shape, y in drawn]
    atoms = [(known, shape) for known, shape, _ in drawn]
    strings = encode_symbols(codec, atoms, symbols)
    with pytest.raises(BitstreamError):
        decode_symbols(codec, atoms, [strings[0], strings[1] + b"\1\2\3\4\5", strings[2]])
    for found, expected in zip(decode_symbols(codec, atoms, strings), symbols, strict=True):
        assert np.array_equal(found, expected)
