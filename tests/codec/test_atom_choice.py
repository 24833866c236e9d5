"""Which codec an object's picture is sent by, and streams that have atoms of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from codec_cases import write_random_codec
from street import RED, Places, frame, regions
from test_latent_atoms import folded, unfolded

from discover_stream.codec import atom_choice
from discover_stream.codec.atom_choice import picture_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.latent_atoms import Autoencoder, LatentCodec
from discover_stream.codec.model import load_codec
from discover_stream.codec.painter import Painted, Painter, PaintJob
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import Atom, AtomCoding
from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.codec.stream_motion import Scene
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_pictures import StreamPictures
from discover_stream.codec.stream_policy import Offer, Preference, StreamRules, compare, latent_qualities
from discover_stream.types import BitstreamError, Image, InputError

KEYS = {"cars": 11}


class Memory:
    """A codec that has seen everything before: it sends a number, and is off by some levels the coarser it is."""

    name = b"mem"

    def __init__(self, per_step: int) -> None:
        self._known: list[Image] = []
        self._per_step = per_step
        self.asked: list[int] = []

    def sketch(self, samples: Image, job: PaintJob) -> _Draft:
        self._known.append(samples)
        return _Draft(self, job, len(self._known) - 1)

    def paint(self, jobs: Sequence[PaintJob]) -> list[Painted]:
        answer = []
        for job in jobs:
            # Stripes, since an even shift would pass for light.
            off = np.zeros(self._known[job.atom.payload[0]].shape, np.int16)
            off[:, ::16] = off[:, 1::16] = off[:, 2::16] = off[:, 3::16] = self._per_step * (8 - job.atom.quality)
            samples = np.clip(self._known[job.atom.payload[0]] + off, 0, 255).astype(np.uint8)
            answer.append(Painted(samples, job.plate))
        return answer


class _Draft:
    def __init__(self, memory: Memory, job: PaintJob, number: int) -> None:
        self._memory, self._job, self._number = memory, job, number

    def atom(self, quality: int) -> Atom:
        self._memory.asked.append(quality)
        payload = bytes((self._number,)) + bytes(8 * quality)
        return dataclasses.replace(self._job.atom, quality=quality, payload=payload)


def places(seq: int) -> Places:
    return {1: (RED, 4 + 3.0 * seq, 30)} if seq else {}


def street() -> tuple[Scene, PlatePicture, QuarterBox]:
    image, plate = frame(1, places(1)).image, PlatePicture(frame(0, {}).image)
    return Scene.of(image, plate.image), plate, QuarterBox.of(regions(places(1))[0].box)


def test_fewer_bits_win_at_equal_quality_only() -> None:
    assert compare(Offer(100, 5.0), Offer(99, 5.2)) == Preference.LEARNED
    assert compare(Offer(100, 5.0), Offer(99, 5.5)) == Preference.AV1
    assert compare(Offer(100, 5.0), Offer(100, 1.0)) == Preference.AV1


@pytest.mark.parametrize("quality", range(1, 9))
def test_qualities_around_that_of_av1_are_tried(quality: int) -> None:
    tried = latent_qualities(StreamRules.of(quality))
    assert list(tried) == sorted(set(tried))
    assert min(abs(one - quality) for one in tried) <= 1
    assert all(1 <= one <= 8 for one in tried)


def test_the_coarsest_that_is_as_good_is_sent() -> None:
    scene, plate, box = street()
    rules = StreamRules.of(4)
    exact, poor = Memory(0), Memory(20)
    found = picture_of(scene, box, plate, rules, learned=exact)
    assert found.atom.coding == AtomCoding.LATENT
    assert exact.asked == [latent_qualities(rules)[0]]
    assert picture_of(scene, box, plate, rules, learned=poor).atom.coding == AtomCoding.AV1
    assert len(poor.asked) > 1
    assert picture_of(scene, box, plate, rules).atom.coding == AtomCoding.AV1


def test_an_encoder_names_the_model_of_its_atoms() -> None:
    with pytest.raises(InputError, match=b"mem".hex()):
        StreamEncoder(StreamSettings(b"abc"), learned=Memory(0))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[LatentCodec, list[StreamPacket], list[Image]]:
    """A stream whose atoms are LATENT, whatever they look like: the networks' weights are random."""
    path = write_random_codec(tmp_path_factory.mktemp("weights"), 5)
    codec = LatentCodec(load_codec(path), Autoencoder(folded, unfolded))
    encoder = StreamEncoder(StreamSettings(codec.name, quality=6), learned=codec)
    packets, pictures = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atom_choice, "compare", lambda usual, other: Preference.LEARNED)
        for seq in range(12):
            packet = encoder.encode(frame(seq, places(seq)), {"cars": regions(places(seq))}, KEYS)
            packets.append(parse_stream_packet(stream_packet_bytes(packet)))
            pictures.append(encoder.composite.image)
    return codec, packets, pictures


def test_decoders_show_latent_atoms_as_the_encoder_believes(
    stream: tuple[LatentCodec, list[StreamPacket], list[Image]],
) -> None:
    codec, packets, pictures = stream
    asked = []

    def painters(model: bytes) -> Painter:
        asked.append(model)
        return codec

    decoder = StreamPictures(painters)
    for packet, expected in zip(packets, pictures, strict=True):
        assert decoder.take(packet).absent == ()
        assert np.abs(decoder.compose().image.astype(int) - expected).max() <= 2
    assert set(asked) == {codec.name}
    coded = [key.atom for packet in packets for key in packet.keys if key.atom]
    assert any(atom.coding == AtomCoding.LATENT for atom in coded)


def test_without_the_model_they_are_refused(stream: tuple[LatentCodec, list[StreamPacket], list[Image]]) -> None:
    codec, packets, _ = stream
    decoder = StreamPictures(camera="gate")

    def play() -> None:
        for packet in packets:
            decoder.take(packet)

    with pytest.raises(BitstreamError, match=f"camera gate, seq .*model {codec.name.hex()}"):
        play()
