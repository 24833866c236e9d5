"""The order of drawing, from what the encoder sees to what decoders show."""

from __future__ import annotations

import numpy as np
from street import BLUE, RED, SIZE, Places, frame, regions

from discover_stream.codec.stream_coding import parse_stream_packet, stream_packet_bytes
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.codec.stream_pictures import StreamPictures
from discover_stream.semantics.occlusion import TrackOrder

LEARNING = 4
"""Frames of an overlap that it takes to see who is in front."""


def passing(seq: int) -> Places:
    """The red car (1) drives behind the blue one (2), though its lower edge is the lower one."""
    return {} if seq == 0 else {1: (RED, 4 + 2.5 * seq, 41.0), 2: (BLUE, 84.0 - 0.5 * seq, 40.0)}


def shown(order: TrackOrder | None) -> tuple[list[int], list[float], int]:
    """In each frame in which they overlap, who is in front for decoders, and how blue rather than red they show what
    both cover; and the pictures of objects that were sent."""
    encoder, decoder = StreamEncoder(StreamSettings(b"abc", quality=6), order=order), StreamPictures()
    front, blueness, atoms = [], [], 0
    for seq in range(24):
        places = passing(seq)
        sent = encoder.encode(frame(seq, places), {"cars": regions(places)}, {"cars": 11})
        packet = parse_stream_packet(stream_packet_bytes(sent))
        state = decoder.take(packet).state.tasks[11]
        image = decoder.compose().image
        assert np.array_equal(image, encoder.composite.image)
        atoms += len(list(packet.atoms()))
        if places and places[1][1] + SIZE[0] - places[2][1] > 5:
            left, right = round(places[2][1]), round(places[1][1]) + SIZE[0]
            both = image[52:58, left + 1 : right - 1].reshape(-1, 3).mean(axis=0)
            blueness.append(float(both[2] - both[0]))
            front.append(state.tracks[state.order()[-1]].key.track)
    return front, blueness, atoms


def test_who_is_in_front_is_drawn_in_front_against_the_order_of_lower_edges() -> None:
    front, blueness, atoms = shown(TrackOrder())
    assert len(front) > LEARNING + 2
    assert set(front[LEARNING:]) == {2}
    assert min(blueness[LEARNING:]) > 80
    edges_alone, _, more_atoms = shown(None)
    assert set(edges_alone) == {1}
    assert atoms <= more_atoms
