"""What `discover doctor` finds, and the judgements behind it as pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "problem"]

GIB = 2**30
SKEW_S = 1.0
"""Clocks of a system may differ by so many seconds before it is a problem: retention and replays go by them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: where, how it is, and what to do about it (empty where nothing is to be done)."""

    area: str
    verdict: Verdict
    what: str
    remedy: str = ""


def problem(area: str, message: str) -> Finding:
    """A problem from a message that ends with its remedy after a semicolon, as all of ours do."""
    what, _, remedy = message.rpartition("; ")
    return Finding(area, "problem", what or message, remedy if what else "")


def disk_finding(path: str, free: int, wanted: int, held: int) -> Finding:
    """Whether a log's disk has room: `wanted` bytes is what its retention lets it grow to, `held` what it has."""
    room = f"{free / GIB:.1f} GiB free at {path}"
    if free < GIB:
        return Finding("disk", "problem", room, "make room: a full disk stops encoding; or lower the log's gib")
    if held + free < wanted:
        short = f"{room}, and the log may grow by {(wanted - held) / GIB:.0f} GiB before its retention holds it"
        return Finding("disk", "note", short, "lower gib of archive, frames or tasks, or give it a larger disk")
    return Finding("disk", "ok", room)


def clock_finding(producer_s: float | None, reader_s: float | None) -> Finding:
    """From what the clocks of a running system show.

    Args:
        producer_s: append time of the log minus the system's own time, for its last word; writing takes a little.
        reader_s: this machine's time minus the append time: how old that word is here.
    """
    if producer_s is None or reader_s is None:
        return Finding("clock", "note", "no system runs on this log, so its clocks cannot be compared")
    if abs(producer_s) > SKEW_S:
        ahead = "behind" if producer_s > 0 else "ahead of"
        return Finding(
            "clock",
            "problem",
            f"the system's clock is {abs(producer_s):.1f} s {ahead} the log's",
            "let NTP or chrony set both: capture times of files and retention go by them",
        )
    if reader_s < -SKEW_S:
        return Finding(
            "clock",
            "problem",
            f"this machine's clock is {-reader_s:.1f} s behind the log's",
            "let NTP or chrony set it",
        )
    return Finding("clock", "ok", f"the system's clock and the log's are {1000 * producer_s:.0f} ms apart at most")


def skew_finding(camera: str, capture_ns: int, appended_ns: int) -> Finding | None:
    """Whether a live camera's clock is right, from a frame's capture time and when the log took it."""
    late_s = (appended_ns - capture_ns) / 1e9
    if -SKEW_S <= late_s <= 60:
        return None
    word = f"{late_s:.0f} s old" if late_s > 0 else f"{-late_s:.0f} s in the future"
    return Finding(
        f"camera {camera}",
        "note",
        f"its last frame was {word} by its capture time when the log took it",
        "its clock is off, or it waits long; records expire by the log's clock all the same",
    )


def origin_finding(places: Mapping[str, str]) -> Finding:
    """Whether our packages come from one place; name -> folder that holds it."""
    if len(set(places.values())) == 1:
        return Finding("packages", "ok", f"{', '.join(sorted(places))} come from {next(iter(places.values()))}")
    words = ", ".join(f"{name} from {place}" for name, place in sorted(places.items()))
    return Finding(
        "packages",
        "problem",
        f"they come from different places: {words}",
        "two installations are mixed: take one off PYTHONPATH, or uninstall it",
    )


def codec_finding(missing: Collection[str], optional: Collection[str]) -> Finding:
    """From the codecs that FFmpeg's libraries lack."""
    needed = sorted(set(missing) - set(optional))
    if needed:
        return Finding(
            "codecs", "problem", f"FFmpeg's libraries lack {', '.join(needed)}", "install av from its wheel again"
        )
    if missing:
        return Finding("codecs", "note", f"FFmpeg's libraries lack {', '.join(sorted(missing))}: such sources fail")
    return Finding("codecs", "ok", "FFmpeg reads and writes everything that is needed")
