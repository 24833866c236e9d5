"""Figures of the gateway in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discover_stream.app.gateway.context import Gateway


def metrics_of(gateway: Gateway) -> bytes:
    """All figures of a gateway."""
    flights = gateway.flights
    found = (
        ("segments_made_total", "counter", "Segments of replays that were decoded", flights.made),
        ("frames_decoded_total", "counter", "Pictures decoded for segments", flights.decoded),
        ("stills_decoded_total", "counter", "Pictures decoded for stills", gateway.stills_decoded),
        ("segments_left_total", "counter", "Segments that everybody left before they were made", flights.left),
        ("segments_making", "gauge", "Segments in the making", flights.flying),
        ("cache_bytes", "gauge", "Bytes of segments that are kept", flights.cache.bytes),
        ("replays", "gauge", "Replays that are remembered", len(gateway.replays.all())),
    )
    lines = []
    for name, kind, words, value in found:
        full = f"discover_gateway_{name}"
        lines += [f"# HELP {full} {words}.", f"# TYPE {full} {kind}", f"{full} {value}"]
    return ("\n".join(lines) + "\n").encode()
