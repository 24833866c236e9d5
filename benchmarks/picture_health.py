"""Whether recordings of cameras that are well raise an alarm by themselves.

    python -m benchmarks.picture_health FILE...

Prints for each film its frames, its length, for how long it was judged (not while the reference is learned), and every
state that its pictures were taken for, with the second from which on. Exit status 1 where one is a fault.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from discover_stream.types import Frame
from discover_stream.video.picture_health import Kind, PictureWatch
from discover_stream.video.source import open_source


@dataclass(frozen=True)
class Watched:
    """Of a film: how many frames, its length in seconds, and the states with the second at which each was believed."""

    frames: int
    seconds: float
    states: tuple[tuple[Kind, float], ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing was told of it."""
        return all(kind in ("unknown", "ok") for kind, _ in self.states)


def watched(path: Path) -> Watched:
    """Have a film watched as ingest does. Raises InputError for one that cannot be read."""
    watch, states, frames, at_s = PictureWatch(), list[tuple[Kind, float]](), 0, 0.0
    with open_source(path, camera=path.stem) as source:
        begin_ns: int | None = None
        for item in source:
            if not isinstance(item, Frame):
                continue
            begin_ns = item.capture_ns if begin_ns is None else begin_ns
            frames, at_s = frames + 1, (item.capture_ns - begin_ns) / 1e9
            kind = watch.see(item.image, item.capture_ns).kind
            if not states or states[-1][0] != kind:
                states.append((kind, at_s))
    return Watched(frames, at_s, tuple(states))


def main() -> None:
    """Watch the films that were named."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths:
        sys.exit("name the films: python -m benchmarks.picture_health FILE...")
    alarms = 0
    for path in paths:
        found = watched(path)
        alarms += not found.is_well
        judged_s = found.seconds - next((at_s for kind, at_s in found.states if kind != "unknown"), found.seconds)
        told = ", ".join(f"{kind} from {at_s:.1f} s" for kind, at_s in found.states)
        print(f"{path.name}: {found.frames} frames, {found.seconds:.1f} s, judged for {judged_s:.1f} s: {told}")
    print(f"{alarms} of {len(paths)} raised an alarm")
    sys.exit(alarms > 0)


if __name__ == "__main__":
    main()
