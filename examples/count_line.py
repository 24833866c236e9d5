"""Count objects that cross a line, by label and direction: python examples/count_line.py --line 0,200,640,200"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field

from discover_stream.sdk import Gap, TaskFrame, subscribe

Point = tuple[float, float]


def side(line: tuple[Point, Point], point: Point) -> float:
    """Above 0 to the right of the line as one looks along it (y grows downwards), below 0 to the left."""
    (x0, y0), (x1, y1) = line
    return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)


def meets(line: tuple[Point, Point], before: Point, after: Point) -> bool:
    """Whether the way from one point to another crosses the line itself, not its extension."""
    a, b = side(line, before), side(line, after)
    if (a < 0) == (b < 0):
        return False
    way = (before, after)
    return (side(way, line[0]) < 0) != (side(way, line[1]) < 0)


@dataclass
class LineCounter:
    """Where each track was last, and how many crossed, by (label, direction). An object stands on its lower edge."""

    line: tuple[Point, Point]
    crossed: Counter[tuple[str, str]] = field(default_factory=Counter)
    _last: dict[tuple[str, int, int], Point] = field(default_factory=dict)
    _seen: set[tuple[str, int, int]] = field(default_factory=set)

    def take(self, frame: TaskFrame) -> None:
        """Take in the next frame of any camera; one that was delivered twice counts once."""
        if frame.identity in self._seen:
            return
        self._seen.add(frame.identity)
        for region in frame.regions:
            if not region.track:
                continue
            foot = ((region.box.x0 + region.box.x1) / 2, region.box.y1)
            track = (frame.camera, frame.incarnation, region.track)
            before = self._last.get(track)
            if before is not None and meets(self.line, before, foot):
                direction = "right" if side(self.line, foot) > 0 else "left"
                self.crossed[frame.label(region), direction] += 1
            self._last[track] = foot


def main() -> None:
    """Count until nothing has come for a while."""
    parser = argparse.ArgumentParser(description="Count objects that cross a line.")
    parser.add_argument("--log", help="default: $DISCOVER_LOG, else that of the packaged configuration")
    parser.add_argument("--task", default="vehicles")
    parser.add_argument("--camera", help="only this one")
    parser.add_argument("--line", required=True, metavar="X0,Y0,X1,Y1", help="in pixels")
    parser.add_argument("--timeout", type=float, default=10.0, help="end after so many seconds without a packet")
    given = parser.parse_args()
    x0, y0, x1, y1 = map(float, given.line.split(","))
    counter = LineCounter(((x0, y0), (x1, y1)))
    with subscribe(given.task, log=given.log, camera=given.camera, timeout_s=given.timeout) as subscription:
        for item in subscription:
            if not isinstance(item, Gap):
                counter.take(item)
    for (label, direction), count in sorted(counter.crossed.items()):
        print(f"{label}\t{direction}\t{count}")


if __name__ == "__main__":
    main()
