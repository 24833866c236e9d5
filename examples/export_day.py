"""A day of a task as a COCO file and as Parquet: python examples/export_day.py --day 2026-11-29 --out out/day"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from discover_stream.sdk import Gap, TaskFrame, subscribe


def of_day(items: Iterable[TaskFrame | Gap], day: date) -> Iterator[TaskFrame]:
    """The frames captured on a day (UTC), each once."""
    seen = set()
    for item in items:
        if isinstance(item, Gap) or item.capture_ns is None or item.identity in seen:
            continue
        if datetime.fromtimestamp(item.capture_ns / 1e9, UTC).date() == day:
            seen.add(item.identity)
            yield item


class Export:
    """Collects frames; `coco` is the COCO file's content, `rows` one row a region."""

    def __init__(self, pictures: Path | None) -> None:
        self.rows: list[dict[str, Any]] = []
        self._pictures = pictures
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}

    def take(self, frame: TaskFrame) -> None:
        """Add a frame, and decode and keep its picture where that is wanted."""
        assert frame.capture_ns is not None
        captured = datetime.fromtimestamp(frame.capture_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        number = len(self._images) + 1
        name = f"{frame.camera}/{frame.incarnation:03}-{frame.seq:08}.png"
        height, width = frame.shape or (0, 0)
        self._images.append(
            {"id": number, "file_name": name, "width": width, "height": height, "date_captured": captured}
        )
        for region in frame.regions:
            label, box = frame.label(region), region.box
            category = self._categories.setdefault(label, len(self._categories) + 1)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
                    "area": box.area,
                    "iscrowd": 0,
                    "score": round(region.score, 3),
                    "track_id": region.track,
                }
            )
            self.rows.append(
                {
                    "camera": frame.camera,
                    "incarnation": frame.incarnation,
                    "seq": frame.seq,
                    "capture_ns": frame.capture_ns,
                    "label": label,
                    "score": region.score,
                    "track": region.track,
                    "x0": box.x0,
                    "y0": box.y0,
                    "x1": box.x1,
                    "y1": box.y1,
                }
            )
        if self._pictures is not None and not frame.regions_only:
            path = self._pictures / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame.image("human")).save(path)

    @property
    def coco(self) -> dict[str, Any]:
        """The collected frames in COCO's format for detections."""
        categories = [{"id": number, "name": label} for label, number in self._categories.items()]
        return {"images": self._images, "annotations": self._annotations, "categories": categories}


def main() -> None:
    """Export what the log holds of a day."""
    parser = argparse.ArgumentParser(description="Export a day of a task.")
    parser.add_argument("--log", help="default: $DISCOVER_LOG, else that of the packaged configuration")
    parser.add_argument("--task", default="everything")
    parser.add_argument("--camera", help="only this one")
    parser.add_argument("--day", type=date.fromisoformat, required=True, help="by capture time, in UTC")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--pictures", action="store_true", help="decode the frames, too")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    export = Export(given.out / "pictures" if given.pictures else None)
    with subscribe(given.task, log=given.log, camera=given.camera, timeout_s=1) as subscription:
        for frame in of_day(subscription, given.day):
            export.take(frame)
    (given.out / "coco.json").write_text(json.dumps(export.coco))
    print(f"{given.out / 'coco.json'}: {len(export.coco['images'])} frames, {len(export.rows)} regions")
    if not export.rows:
        return
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        print("no Parquet file: pip install discover-stream[examples]")
        return
    parquet.write_table(pa.Table.from_pylist(export.rows), given.out / "regions.parquet")
    print(given.out / "regions.parquet")


if __name__ == "__main__":
    main()
