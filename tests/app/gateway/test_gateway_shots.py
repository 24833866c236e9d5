"""What is shown when, playlists, and segments that follow each other without a seam."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from discover_stream.app.gateway.fmp4 import CLOCK, Timed, initialisation, segment
from discover_stream.app.gateway.playlist import LIVE_WINDOW, playlist
from discover_stream.app.gateway.shots import CARD_AFTER_NS, NOTHING_YET, Blank, Film, Shot, plan_shots

S = 10**9
FILM = Film(100 * S, 107 * S, 2 * S)


def test_a_film_is_cut_into_steps_and_a_rest() -> None:
    assert FILM.count() == 4
    assert FILM.span(1) == (102 * S, 104 * S)
    assert FILM.span(3) == (106 * S, 107 * S)
    assert FILM.seconds(3) == 1
    assert FILM.tick(101 * S) == CLOCK
    live = Film(100 * S, None, 2 * S)
    assert [live.count(at * S) for at in (99, 100, 101, 102, 109)] == [0, 0, 0, 1, 4]


def test_a_segment_begins_with_the_frame_that_shows_its_first_instant() -> None:
    shots = plan_shots((102 * S, 104 * S), [101 * S, 103 * S], [])
    assert shots == [Shot(102 * S, 103 * S, 0), Shot(103 * S, 104 * S, 1)]


def test_before_the_first_frame_there_is_a_card() -> None:
    assert plan_shots((0, 2 * S), [S], []) == [Shot(0, S, None, NOTHING_YET), Shot(S, 2 * S, 0)]
    assert plan_shots((0, 2 * S), [], []) == [Shot(0, 2 * S, None, NOTHING_YET)]


def test_a_gap_covers_the_last_frame_with_a_card_until_the_next() -> None:
    gap = Blank(1 * S, 3 * S, "away")
    assert plan_shots((0, 4 * S), [0, S, 3 * S], [gap]) == [
        Shot(0, S, 0),
        Shot(S, S + CARD_AFTER_NS, 1),
        Shot(S + CARD_AFTER_NS, 3 * S, 1, "away"),
        Shot(3 * S, 4 * S, 2),
    ]


def test_a_gap_that_began_earlier_covers_a_whole_segment() -> None:
    gap = Blank(1 * S, 9 * S, "away")
    assert plan_shots((4 * S, 6 * S), [S], [gap]) == [Shot(4 * S, 6 * S, 0, "away")]


def test_a_gap_of_a_moment_gets_no_card() -> None:
    assert plan_shots((0, 2 * S), [0, S], [Blank(0, S, "lost")]) == [Shot(0, S, 0), Shot(S, 2 * S, 1)]


def test_a_playlist_names_every_segment_the_key_and_what_is_missing() -> None:
    text = playlist(FILM, "k.1.x", [Blank(101 * S, 103 * S, 'said "no"\nand left')])
    lines = text.splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[-1] == "#EXT-X-ENDLIST"
    assert [line for line in lines if line.endswith(".m4s?key=k.1.x")] == [f"{n}.m4s?key=k.1.x" for n in range(4)]
    assert sum(float(line[8:-1]) for line in lines if line.startswith("#EXTINF:")) == 7
    (gap,) = [line for line in lines if line.startswith("#EXT-X-DATERANGE")]
    assert "DURATION=2.000" in gap
    assert "X-REASON=\"said 'no' and left\"" in gap


def test_a_live_playlist_is_a_window_without_an_end() -> None:
    lines = playlist(Film(100 * S, None, 2 * S), "k", [], 140 * S).splitlines()
    assert "#EXT-X-ENDLIST" not in lines
    first = 20 - LIVE_WINDOW
    assert f"#EXT-X-MEDIA-SEQUENCE:{first}" in lines
    assert [line for line in lines if ".m4s" in line] == [f"{n}.m4s?key=k" for n in range(first, 20)]


def pictures(number: int) -> list[Timed]:
    begin = 2 * CLOCK * number
    cuts = [begin, begin + 40_001, begin + 77_777, begin + 2 * CLOCK]
    image = np.full((48, 64, 3), 60 + 40 * number, np.uint8)
    return [Timed(image, cuts[i], cuts[i + 1]) for i in range(3)]


@pytest.mark.parametrize("chosen", [(0, 1, 2), (2,), (1, 2)])
def test_segments_made_alone_follow_each_other_by_one_clock(chosen: tuple[int, ...]) -> None:
    made = {number: segment(pictures(number), number) for number in (2, 0, 1)}
    head = initialisation(64, 48)
    assert {boxes.head for boxes in made.values()} == {head}
    film = io.BytesIO(head + b"".join(made[number].body for number in chosen))
    with av.open(film) as container:
        packets = [(p.pts, p.duration) for p in container.demux(video=0) if p.size]
    assert packets == [(p.begin, p.end - p.begin) for number in chosen for p in pictures(number)]
    film.seek(0)
    with av.open(film) as container:
        means = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert means == pytest.approx([60 + 40 * number for number in chosen for _ in range(3)], abs=4)
