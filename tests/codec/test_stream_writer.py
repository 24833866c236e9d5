from __future__ import annotations

import numpy as np
from street import BLUE, RED, SIZE, Places, frame, picture, regions

from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings

SETTINGS = StreamSettings(b"abc", quality=6)


def overtaken(seq: int) -> Places:
    """A red car that comes into the picture behind a blue one, which drives away."""
    return {} if seq == 0 else {1: (RED, 40.0, 30.0), 2: (BLUE, 42.0 + max(0, seq - 3) * 9.0, 34.0)}


def test_an_object_that_was_keyed_while_it_was_hidden_gets_its_picture_when_it_is_seen() -> None:
    encoder, sent = StreamEncoder(SETTINGS), []
    for seq in range(14):
        places = overtaken(seq)
        packet = encoder.encode(frame(seq, places), {"cars": regions(places)}, {"cars": 1})
        sent += [(seq, key.atom is not None) for key in packet.keys if key.track == 1]
    assert sent[0] == (1, False)
    assert any(atom for _, atom in sent[1:])
    shown, wanted = encoder.composite.image, picture(overtaken(13))
    car = (slice(30, 30 + SIZE[1]), slice(40, 40 + SIZE[0]))
    assert np.abs(shown[car].astype(float) - wanted[car]).mean() < 12


def test_an_object_that_the_quantizer_leaves_nothing_of_is_not_keyed_in_every_frame() -> None:
    def story(seq: int) -> Places:
        return {} if seq == 0 else {1: ((122, 122, 122), 60.0 + seq, 40.0)}

    encoder, keys = StreamEncoder(StreamSettings(b"abc", quality=1)), 0
    for seq in range(20):
        packet = encoder.encode(frame(seq, story(seq)), {"cars": regions(story(seq))}, {"cars": 1})
        keys += len(packet.keys)
    assert keys <= 4
