"""Tell an HTTP address when something enters a zone.

python examples/webhook_alert.py --label person --zone 100,150,300,340 --to http://127.0.0.1:9000/alert
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from discover_stream.sdk import Gap, TaskFrame, subscribe
from discover_stream.types import Box


@dataclass
class ZoneWatch:
    """Who is in a zone: a track that stands in it for `frames` frames in a row is reported, once."""

    zone: Box
    label: str
    frames: int = 2
    _inside: dict[tuple[str, int, int], int] = field(default_factory=dict)
    _told: set[tuple[str, int, int]] = field(default_factory=set)

    def take(self, frame: TaskFrame) -> list[dict[str, Any]]:
        """The alerts of a frame."""
        alerts = []
        for region in frame.regions:
            foot_x, foot_y = (region.box.x0 + region.box.x1) / 2, region.box.y1
            inside = self.zone.x0 <= foot_x < self.zone.x1 and self.zone.y0 <= foot_y < self.zone.y1
            track = (frame.camera, frame.incarnation, region.track)
            if not region.track or frame.label(region) != self.label:
                continue
            self._inside[track] = self._inside.get(track, 0) + 1 if inside else 0
            if self._inside[track] >= self.frames and track not in self._told:
                self._told.add(track)
                captured = datetime.fromtimestamp((frame.capture_ns or 0) / 1e9, UTC)
                alerts.append(
                    {
                        "id": f"{frame.camera}/{frame.incarnation}/{region.track}",
                        "camera": frame.camera,
                        "label": self.label,
                        "track": region.track,
                        "captured": captured.isoformat(timespec="milliseconds"),
                        "box": [region.box.x0, region.box.y0, region.box.x1, region.box.y1],
                    }
                )
        return alerts


def tell(address: str, alert: dict[str, Any], tries: int = 5) -> None:
    """Post an alert until it is taken. The receiver drops repeats by `id`: it may come twice, never not at all."""
    data = json.dumps(alert).encode()
    for number in range(tries):
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except urllib.error.URLError:
            if number == tries - 1:
                raise
            time.sleep(0.2 * 2**number)


def main() -> None:
    """Watch until nothing has come for a while."""
    parser = argparse.ArgumentParser(description="Tell an HTTP address when something enters a zone.")
    parser.add_argument("--log", help="default: $DISCOVER_LOG, else that of the packaged configuration")
    parser.add_argument("--task", default="everything")
    parser.add_argument("--label", required=True)
    parser.add_argument("--zone", required=True, metavar="X0,Y0,X1,Y1", help="in pixels")
    parser.add_argument("--to", required=True, metavar="URL")
    parser.add_argument("--timeout", type=float, default=10.0, help="end after so many seconds without a packet")
    given = parser.parse_args()
    watch = ZoneWatch(Box(*map(float, given.zone.split(","))), given.label)
    with subscribe(given.task, log=given.log, group="webhook", start="latest", timeout_s=given.timeout) as subscription:
        for item in subscription:
            if not isinstance(item, Gap):
                for alert in watch.take(item):
                    tell(given.to, alert)
            subscription.commit()  # only now: whoever is killed in between tells again


if __name__ == "__main__":
    main()
