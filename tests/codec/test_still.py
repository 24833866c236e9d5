from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import crc32c
import numpy as np
import pytest
import torch
from exactness import recording, subsets
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec import still
from discover_stream.codec.atoms import cell_grid, cells_of
from discover_stream.codec.latent import (
    coarse_state,
    decode_atom_mask,
    decode_atom_symbols,
    decode_coarse,
    z_grid,
)
from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import (
    Packet,
    PacketAtom,
    packet_bytes,
    packet_size,
    parse_packet,
    route,
    stripped,
)
from discover_stream.codec.scales import STILL
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.types import BitstreamError, Box, Frame, Image, Region

Pictures = Callable[[int, int, int], Image]
KEYS = {"vehicles": 900, "pedestrians": 77, "everything": 40000, "signs": 5}


def symbols_of(codec: CodecModel, packet: Packet) -> tuple[np.ndarray, dict[bytes, np.ndarray]]:
    """Symbols of z and, by their bytes, of the atoms of a packet."""
    rows, columns = cell_grid(packet.width, packet.height)
    z = decode_coarse(codec, packet.coarse, *z_grid(packet.width, packet.height))
    coarse = coarse_state(codec, z, packet.quality)
    atoms = {}
    for atom in packet.atoms:
        mask, string = decode_atom_mask(atom.payload, rows, columns)
        atoms[atom.payload] = decode_atom_symbols(codec, coarse, string, mask)
    return z, atoms


def canvas_of(codec: CodecModel, packet: Packet, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor]:
    """y^ and the mask as a decode hands them to the synthesis."""
    seen: list[torch.Tensor] = []
    synthesise = codec.network.synthesise

    def listen(scaled: torch.Tensor, mask: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.extend((scaled.clone(), mask.clone()))
        return synthesise(scaled, mask, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(codec.network, "synthesise", listen)
        decode_packet(codec, packet)
    return seen[0], seen[1]


def routed(packet: Packet, keys: tuple[int, ...]) -> Packet:
    """What a subscriber of `keys` reads, over the wire."""
    return parse_packet(packet_bytes(route(packet, keys)))


coordinate = st.one_of(st.integers(-20, 230).map(float), st.integers(-200, 2300).map(lambda tenths: tenths / 10))
box = st.builds(Box, coordinate, coordinate, coordinate, coordinate)
region = st.builds(Region, st.integers(0, 150), st.floats(0, 1), box, st.integers(0, 40))
scenes = st.dictionaries(st.sampled_from(sorted(KEYS)), st.lists(region, max_size=3), min_size=1, max_size=3)


def frame(image: Image, seq: int = 3) -> Frame:
    return Frame("gate", seq, 1_700_000_000_000_000_123, image)


@settings(max_examples=12)
@given(st.tuples(st.integers(1, 200), st.integers(1, 200)), scenes, st.integers(1, 8), st.integers(0, 2**31))
def test_every_subset_decodes_to_the_encoders_symbols(
    codec: CodecModel,
    picture_of: Pictures,
    sides: tuple[int, int],
    scene: dict[str, list[Region]],
    quality: int,
    seed: int,
) -> None:
    height, width = sides
    with recording() as written:
        packet = encode_frame(codec, frame(picture_of(height, width, seed)), scene, KEYS, quality=quality)
    sent_symbols = {atom.payload: symbols for atom, symbols in zip(packet.atoms, written.atoms, strict=True)}
    rows, columns = cell_grid(width, height)
    patch = pytest.MonkeyPatch()
    whole, whole_mask = canvas_of(codec, packet, patch)
    for keys in subsets(packet):
        part = routed(packet, keys)
        z_symbols, atoms = symbols_of(codec, part)
        assert np.array_equal(z_symbols, written.z[0])
        for payload, symbols in atoms.items():
            assert np.array_equal(symbols, sent_symbols[payload])
        # Exactly the cells that the boxes of these tasks touch.
        names = [task for task in scene if KEYS[task] in keys]
        wanted = np.zeros((rows, columns), dtype=bool)
        for task in names:
            for listed in scene[task]:
                wanted[cells_of(listed.box.clipped(width, height), rows, columns)] = True
        latent = decode_packet(codec, part)
        assert np.array_equal(latent.sent, wanted)
        assert bool(latent.latent.isfinite().all())
        canvas, mask = canvas_of(codec, part, patch)
        sent = torch.zeros_like(mask[0, 0]).bool()
        sent[:rows, :columns] = torch.from_numpy(wanted)
        assert torch.equal(mask[0, 0].bool(), sent)
        assert torch.equal(canvas[..., sent], whole[..., sent])
        assert bool((canvas[..., ~sent] == 0).all())
        assert bool((whole_mask[0, 0].bool() | ~sent).all())


@settings(max_examples=10)
@given(scenes, st.integers(0, 2**31))
def test_regions_come_with_the_tasks_that_see_them(
    codec: CodecModel, picture_of: Pictures, scene: dict[str, list[Region]], seed: int
) -> None:
    packet = encode_frame(codec, frame(picture_of(100, 120, seed)), scene, KEYS, quality=2)
    for task, listed in scene.items():
        part = routed(packet, (KEYS[task],))
        visible = [r for r in listed if (cut := r.box.clipped(120, 100)).x0 < cut.x1 and cut.y0 < cut.y1]
        got = sorted((r.labels[0][1], r.track, round(r.score / 63, 6)) for r in part.regions)
        assert got == sorted((r.label, r.track, round(round(r.score * 63) / 63, 6)) for r in visible)
        covered = np.zeros(cell_grid(120, 100), dtype=bool)
        for r in part.regions:
            covered[cells_of(r.box, *covered.shape)] = True
        assert np.array_equal(decode_packet(codec, part).sent, covered)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 200), (17, 33), (64, 64), (65, 128), (16, 15)])
def test_odd_sizes(codec: CodecModel, picture_of: Pictures, height: int, width: int) -> None:
    scene = {"vehicles": [Region(1, 0.5, Box(0, 0, width, height), 9)], "signs": []}
    packet = encode_frame(codec, frame(picture_of(height, width, 1)), scene, KEYS, quality=8)
    assert (packet.width, packet.height) == (width, height)
    assert packet.tasks == (5, 900)
    latent = decode_packet(codec, parse_packet(packet_bytes(packet)))
    rows, columns = z_grid(width, height)
    assert latent.latent.shape == (1, codec.network.config.latent_channels, rows * 8, columns * 8)
    assert latent.sent.shape == cell_grid(width, height)
    assert latent.sent.all()
    coarse_only = decode_packet(codec, routed(packet, (5,)))
    assert not coarse_only.sent.any()


SCENE = {
    "vehicles": [Region(3, 0.9, Box(10, 12, 90, 70), 1), Region(7, 0.4, Box(60, 40, 110, 96), 2)],
    "pedestrians": [Region(0, 0.7, Box(70, 50, 86, 90), 3)],
    "everything": [Region(5, 0.9, Box(10, 12, 90, 70), 1), Region(1, 0.7, Box(70, 50, 86, 90), 3)],
}


@pytest.fixture(scope="module")
def packet(codec: CodecModel, picture_of: Pictures) -> Packet:
    return encode_frame(codec, frame(picture_of(99, 130, 4)), SCENE, KEYS, quality=4, incarnation=2)


def test_a_cell_is_coded_once_and_every_byte_is_accounted_for(packet: Packet) -> None:
    assert len({atom.payload for atom in packet.atoms}) == len(packet.atoms) > 3
    rows, columns = cell_grid(packet.width, packet.height)
    masks = [decode_atom_mask(atom.payload, rows, columns)[0] for atom in packet.atoms]
    assert np.sum(masks, axis=0).max() == 1
    size = packet_size(packet)
    assert size.total == len(packet_bytes(packet))
    for key in packet.tasks:
        position = packet.tasks.index(key)
        part = packet_size(route(packet, {key}))
        own = [len(atom.payload) for atom in packet.atoms if position in atom.tasks]
        assert part.atoms == sum(own)
        assert part.coarse == size.coarse
        assert part.total < size.total


def test_shared_regions_are_written_once(packet: Packet) -> None:
    assert len(packet.regions) == 3
    shared = [region for region in packet.regions if len(region.labels) == 2]
    assert {region.track for region in shared} == {1, 3}
    assert packet.tasks == (77, 900, 40000)
    car = next(region for region in shared if region.track == 1)
    assert car.labels == ((1, 3), (2, 5))


def test_a_packet_decodes_where_there_is_nothing_but_its_bytes(
    codec: CodecModel, codec_path: Path, packet: Packet, tmp_path: Path
) -> None:
    data = packet_bytes(route(packet, {77}))
    (tmp_path / "packet").write_bytes(data)
    program = """
import sys
import numpy as np
import torch
from discover_stream.codec.model import load_codec
from discover_stream.codec.packet import parse_packet
from discover_stream.codec.still import decode_packet
from pathlib import Path
torch.set_num_threads(2)
codec = load_codec(Path(sys.argv[1]))
frame = decode_packet(codec, parse_packet(Path("packet").read_bytes(), camera="gate"))
base = codec.scales.base(np.load("z.npy"), 3, 0)
indices = codec.scales.indices(base, 1, True, np.load("sizes.npy"))
np.savez("decoded.npz", latent=frame.latent.numpy(), sent=frame.sent, base=base, indices=indices)
"""
    # A hyper-latent large enough for numpy's matrix products to use threads, of which there it has one.
    z = np.random.default_rng(0).integers(-40, 41, (codec.network.config.z_channels, 40, 60))
    sizes = np.random.default_rng(1).integers(0, 20, (codec.network.config.y_channels, 160, 240))
    np.save(tmp_path / "z.npy", z)
    np.save(tmp_path / "sizes.npy", sizes)
    run = subprocess.run(
        [sys.executable, "-c", program, str(codec_path)],
        cwd=tmp_path,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    here = decode_packet(codec, parse_packet(data))
    there = np.load(tmp_path / "decoded.npz")
    assert np.array_equal(there["sent"], here.sent)
    assert here.sent.any()
    base = codec.scales.base(z, 3, STILL)
    assert np.array_equal(there["base"], base)
    assert np.array_equal(there["indices"], codec.scales.indices(base, 1, True, sizes))
    assert np.allclose(there["latent"], here.latent.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 2), (2, 1)])
def test_symbols_do_not_depend_on_the_number_of_threads(
    nano_codec: CodecModel, picture_of: Pictures, encoder: int, decoder: int
) -> None:
    scene = {**SCENE, "signs": [Region(0, 1.0, Box(0, 0, 1e6, 1e6))]}
    torch.set_num_threads(encoder)
    with recording() as written:
        data = packet_bytes(encode_frame(nano_codec, frame(picture_of(200, 190, 5)), scene, KEYS, quality=6))
    torch.set_num_threads(decoder)
    z_symbols, atoms = symbols_of(nano_codec, parse_packet(data))
    assert np.array_equal(z_symbols, written.z[0])
    assert all(map(np.array_equal, atoms.values(), written.atoms))
    assert len(atoms) == len(written.atoms)
    assert np.unique(np.concatenate([symbols.ravel() for symbols in written.atoms])).size > 20
    assert bool(decode_packet(nano_codec, parse_packet(data)).latent.isfinite().all())


def test_the_order_of_atoms_does_not_matter(codec: CodecModel, packet: Packet) -> None:
    backwards = dataclasses.replace(packet, atoms=packet.atoms[::-1])
    one, two = decode_packet(codec, packet), decode_packet(codec, backwards)
    assert torch.equal(one.latent, two.latent)
    assert np.array_equal(one.sent, two.sent)


def test_a_packet_of_another_model_is_refused(other_codec: CodecModel, packet: Packet) -> None:
    with pytest.raises(BitstreamError, match=f"camera gate, seq 3: made with model {packet.model.hex()}"):
        decode_packet(other_codec, packet, camera="gate")


def test_two_atoms_with_the_same_cell_are_refused(codec: CodecModel, packet: Packet) -> None:
    twice = dataclasses.replace(packet, atoms=(*packet.atoms, packet.atoms[0]))
    with pytest.raises(BitstreamError, match="camera gate, seq 3: two atoms hold the same cell"):
        decode_packet(codec, twice, camera="gate")


@settings(max_examples=60)
@given(st.data())
def test_mutated_atoms_are_refused_or_decode_to_something_finite(
    codec: CodecModel, packet: Packet, data: st.DataObject
) -> None:
    index = data.draw(st.integers(-1, len(packet.atoms) - 1))
    payload = bytearray(packet.coarse if index < 0 else packet.atoms[index].payload)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del payload[data.draw(st.integers(0, len(payload) - 1)) :]
    if index < 0:
        forged = dataclasses.replace(packet, coarse=bytes(payload))
    else:
        atoms = list(packet.atoms)
        atoms[index] = PacketAtom(atoms[index].tasks, bytes(payload))
        forged = dataclasses.replace(packet, atoms=tuple(atoms))
    try:
        decoded = decode_packet(codec, parse_packet(packet_bytes(forged)))
    except BitstreamError:
        return
    assert bool(decoded.latent.isfinite().all())


def test_a_tiny_packet_cannot_ask_for_a_huge_picture(codec: CodecModel, packet: Packet) -> None:
    for coarse in (packet.coarse, b""):
        forged = dataclasses.replace(packet, width=8192, height=4096, regions=(), atoms=(), coarse=coarse)
        with pytest.raises(BitstreamError, match="cannot describe a picture of this size"):
            decode_packet(codec, parse_packet(packet_bytes(forged)))


def test_every_changed_byte_of_an_encoded_frame_is_refused(codec: CodecModel, picture_of: Pictures) -> None:
    scene = {"vehicles": [Region(1, 0.5, Box(3, 3, 20, 20), 9)], "signs": []}
    data = packet_bytes(encode_frame(codec, frame(picture_of(30, 30, 2)), scene, KEYS, quality=3))
    for place in range(len(data)):
        for change in (1, 16, 255):
            damaged = bytearray(data)
            damaged[place] ^= change
            with pytest.raises(BitstreamError):
                decode_packet(codec, parse_packet(bytes(damaged)))
    damaged = bytearray(data)
    damaged[8] ^= 1
    damaged[2:6] = crc32c.crc32c(bytes(damaged[6:]), crc32c.crc32c(data[:2])).to_bytes(4, "little")
    with pytest.raises(BitstreamError, match="made with model"):
        decode_packet(codec, parse_packet(bytes(damaged)))


def test_the_same_box_twice_in_one_task_is_two_regions(codec: CodecModel, picture_of: Pictures) -> None:
    one = Region(4, 0.5, Box(1, 1, 9, 9))
    scene = {"vehicles": [one, dataclasses.replace(one, label=6)], "signs": [dataclasses.replace(one, label=8)]}
    packet = encode_frame(codec, frame(picture_of(20, 20, 0)), scene, KEYS, quality=4)
    assert [region.labels for region in packet.regions] == [((0, 8), (1, 4)), ((1, 6),)]
    assert len(packet.atoms) == 1


def test_boxes_of_any_extent_are_cut_to_the_picture(codec: CodecModel, picture_of: Pictures) -> None:
    inf = float("inf")
    scene = {
        "vehicles": [Region(0, 1.0, Box(-inf, -inf, inf, inf)), Region(0, 1.0, Box(500, 0, 600, 20))],
        "signs": [Region(0, 7.5, Box(33, 17, 48, 400)), Region(0, -3.0, Box(5.5, 5.5, 5.5, 9))],
    }
    packet = encode_frame(codec, frame(picture_of(18, 33, 0)), scene, KEYS, quality=4)
    assert [(region.box, region.score) for region in packet.regions] == [(Box(0, 0, 33, 18), 63)]
    assert decode_packet(codec, routed(packet, (900,))).sent.all()
    assert not decode_packet(codec, routed(packet, (5,))).sent.any()


def test_a_frame_without_tasks_is_its_coarse_atom(codec: CodecModel, picture_of: Pictures) -> None:
    packet = encode_frame(codec, frame(picture_of(40, 50, 0)), {}, {}, quality=4)
    assert (packet.tasks, packet.regions, packet.atoms) == ((), (), ())
    assert not decode_packet(codec, parse_packet(packet_bytes(packet))).sent.any()


def test_a_read_only_picture_in_any_memory_order_is_encoded_alike(
    codec: CodecModel, picture_of: Pictures, recwarn: pytest.WarningsRecorder
) -> None:
    image = picture_of(70, 40, 0)
    fortran = np.asfortranarray(image)
    flipped = image[:, ::-1].copy()[:, ::-1]
    expected = packet_bytes(encode_frame(codec, frame(image), SCENE, KEYS, quality=4))
    for other in (fortran, flipped):
        other.flags.writeable = False
        assert packet_bytes(encode_frame(codec, frame(other), SCENE, KEYS, quality=4)) == expected
    assert not recwarn.list


def test_pictures_are_padded_with_their_last_row_and_column(picture_of: Pictures) -> None:
    image = picture_of(65, 30, 0)
    tensor = still.picture_tensor(image)
    assert tensor.shape == (1, 3, 128, 64)
    whole = (tensor[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    assert np.array_equal(whole[:65, :30], image)
    assert (whole[65:] == whole[64]).all()
    assert (whole[:, 30:] == whole[:, 29:30]).all()


def test_a_packet_of_regions_only_is_no_picture(codec: CodecModel, picture_of: Pictures) -> None:
    packet = stripped(encode_frame(codec, frame(picture_of(30, 30, 2)), SCENE, KEYS, quality=3))
    with pytest.raises(BitstreamError, match="regions only"):
        decode_packet(codec, parse_packet(packet_bytes(packet)))
