"""HLS playlists of replays (RFC 8216): made at once, from times alone. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from discover_stream.app.gateway.shots import Blank, Film
from discover_stream.app.moments import iso

LIVE_WINDOW = 6
"""Segments that the playlist of a live view names."""


def playlist(film: Film, key: str, blanks: Sequence[Blank], live_until_ns: int | None = None) -> str:
    """The playlist of a film; of one that goes on, its newest segments up to a capture time.

    Args:
        film: its time.
        key: lets players in; it goes into every address.
        blanks: what is missing: named as date ranges, and shown as cards in the pictures.
        live_until_ns: up to where a film that goes on has come; None for one that has an end.
    """
    count = film.count(live_until_ns)
    live = film.end_ns is None
    first = max(0, count - LIVE_WINDOW) if live else 0
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{math.ceil(film.step_ns / 1e9)}",
        f"#EXT-X-MEDIA-SEQUENCE:{first}",
        *([] if live else ["#EXT-X-PLAYLIST-TYPE:VOD"]),
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="init.mp4?key={key}"',
    ]
    for number in range(first, count):
        if number == first:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{iso(film.span(number)[0])}")
            lines += [_date_range(index, blank) for index, blank in enumerate(blanks)]
        lines += [f"#EXTINF:{film.seconds(number):.6f},", f"{number}.m4s?key={key}"]
    if not live:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _date_range(index: int, blank: Blank) -> str:
    reason = " ".join(blank.reason.replace('"', "'").split())
    seconds = (blank.end_ns - blank.begin_ns) / 1e9
    return (
        f'#EXT-X-DATERANGE:ID="gap-{index}",CLASS="gap",START-DATE="{iso(blank.begin_ns)}",DURATION={seconds:.3f},'
        f'X-REASON="{reason}"'
    )
