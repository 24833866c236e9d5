"""Decoding with the shipped weights: what subscribers get."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from discover_stream.codec.packet import Packet, packet_bytes, parse_packet, route, task_key
from discover_stream.codec.still import encode_frame
from discover_stream.decoding import FrameDecoder, grounder_finder, packet_regions
from discover_stream.types import Box, Frame, Image, Provenance, Region
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.source import open_source

KEYS = {name: task_key(name, 1) for name in ("vehicles", "pedestrians", "everything")}


@pytest.fixture(scope="module")
def decoder() -> FrameDecoder:
    torch.set_num_threads(1)
    return FrameDecoder.load()


def psnr(first: Image, second: Image) -> float:
    error = np.square(first.astype(np.float64) - second).mean()
    return float(10 * np.log10(255**2 / error))


def street() -> tuple[Frame, dict[str, tuple[Region, ...]]]:
    """A simulated frame with its true boxes."""
    camera = SimulatedCamera("street", width=320, height=176, seed=4)
    frame, objects = camera.render(50)
    vehicles = tuple(Region(0, 0.9, o.box, o.track) for o in objects if o.kind in ("car", "van", "truck", "bus"))
    people = tuple(Region(1, 0.8, o.box, o.track) for o in objects if o.kind == "person")
    scene = Region(2, 1.0, Box(0, 0, 320, 176))
    return frame, {"vehicles": vehicles, "pedestrians": people, "everything": (scene, *vehicles, *people)}


@pytest.fixture(scope="module")
def packet(decoder: FrameDecoder) -> Packet:
    frame, regions = street()
    return encode_frame(decoder.model, frame, regions, KEYS, quality=6)


def test_decoding_from_the_archive_equals_decoding_the_substream(decoder: FrameDecoder, packet: Packet) -> None:
    key = KEYS["vehicles"]
    substream = parse_packet(packet_bytes(route(packet, {key})))
    full = decoder.decode(packet, camera="street", tasks=[key])
    alone = decoder.decode(substream, camera="street")
    assert (full.image == alone.image).all()
    assert (full.provenance == alone.provenance).all()
    assert full.regions == alone.regions == {key: packet_regions(packet)[key]}


def test_provenance_is_what_the_boxes_cover(decoder: FrameDecoder, packet: Packet) -> None:
    _, regions = street()
    covered = np.zeros((11, 20), dtype=bool)
    for region in regions["vehicles"]:
        box = region.box
        covered[int(box.y0 // 16) : -int(-box.y1 // 16), int(box.x0 // 16) : -int(-box.x1 // 16)] = True
    decoded = decoder.decode(packet, camera="street", tasks=[KEYS["vehicles"]])
    assert ((decoded.provenance == Provenance.SENT) == covered).all()
    everything = decoder.decode(packet, camera="street")
    assert (everything.provenance == Provenance.SENT).all()


def test_regions_come_back(decoder: FrameDecoder, packet: Packet) -> None:
    _, regions = street()
    found = packet_regions(packet)[KEYS["vehicles"]]
    assert sorted(r.track for r in found) == sorted(r.track for r in regions["vehicles"])
    by_track = {r.track: r for r in found}
    for region in regions["vehicles"]:
        back = by_track[region.track]
        assert back.label == region.label
        assert abs(back.score - region.score) < 0.01
        assert max(abs(back.box.x0 - region.box.x0), abs(back.box.y1 - region.box.y1)) < 1


def test_more_bits_and_more_atoms_give_a_better_picture(decoder: FrameDecoder) -> None:
    frame, regions = street()
    sizes, scores = [], []
    for quality in (1, 8):
        packet = encode_frame(decoder.model, frame, regions, KEYS, quality=quality)
        sizes.append(len(packet_bytes(packet)))
        scores.append(psnr(decoder.decode(packet, camera="street").image, frame.image))
    assert sizes[0] < sizes[1]
    assert scores[0] < scores[1]
    nothing = encode_frame(decoder.model, frame, {"vehicles": ()}, KEYS, quality=8)
    assert psnr(decoder.decode(nothing, camera="street").image, frame.image) < scores[1]


@pytest.mark.shared
def test_a_real_street_is_recognisable(decoder: FrameDecoder, shared: Path) -> None:
    """The second half of a clip, which no weights were trained on, at a middling quality."""
    with open_source(str(shared / "video" / "suburb.mp4"), camera="suburb", fps=1, start_seq=30) as source:
        frame = next(iter(source))
    height, width = frame.image.shape[:2]
    regions = {"everything": (Region(0, 1.0, Box(0, 0, width, height)),)}
    packet = encode_frame(decoder.model, frame, regions, KEYS, quality=5)
    decoded = decoder.decode(packet, camera="suburb")
    grey = np.full_like(frame.image, round(float(frame.image.mean())))
    assert psnr(decoded.image, frame.image) > psnr(grey, frame.image) + 5
    assert len(packet_bytes(packet)) * 8 < 0.6 * width * height


def test_a_decode_says_what_diffusion_changed_and_scores_what_it_may_have_made_up(
    decoder: FrameDecoder, packet: Packet
) -> None:
    key = KEYS["vehicles"]
    seen: list[Image] = []

    def find(image: Image) -> list[Region]:
        seen.append(image)
        corner = Region(0, 0.7, Box(0, 0, 32, 32))
        return [corner, *packet_regions(packet)[key]]

    looking = dataclasses.replace(decoder, finder=find)
    decoded = looking.decode(packet, camera="street", tasks=[key])
    assert (decoded.provenance[:2, :2] == Provenance.GENERATED).all()
    assert decoded.invention == pytest.approx(0.7)
    assert (seen[0] == decoded.image).all()
    assert set(decoded.changed) == {"sent", "generated"}
    assert decoder.decode(packet, camera="street", tasks=[key]).invention is None
    # Nothing generated, nothing made up: nobody has to look.
    plain = looking.decode(packet, camera="street", tasks=[key], generate=False)
    assert (plain.invention, dict(plain.changed), len(seen)) == (0.0, {}, 1)
    assert looking.decode(packet, camera="street", tasks=[KEYS["everything"]]).invention == 0.0


def test_the_shipped_grounder_looks_for_inventions() -> None:
    frame, regions = street()
    found = grounder_finder()(frame.image)
    assert any(one.box.iou(true.box) > 0.5 for one in found for true in regions["vehicles"])
