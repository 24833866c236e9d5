"""The examples as programs of their own, on a log whose packets tell what is truly there in a simulated street."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pyarrow import parquet

from discover_stream.codec.packet import Packet, PacketRegion, packet_bytes, task_key
from discover_stream.types import Box, LabelSet, Task
from discover_stream.video.simulate import SimulatedCamera
from topics.catalogue import LABELS, CatalogueSettings, catalogue, task_topic
from topics.messages import LabelSetMessage, encode
from topics.sqlite import SqliteLog

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KEY = task_key("street", 1)
FPS, FRAMES, WIDTH, HEIGHT = 5, 60, 320, 180
START_NS = 1_767_225_600 * 10**9  # 2026-01-01
LINE = 160.0


@dataclass(frozen=True)
class Street:
    """The log, the label of each kind, and per frame the true boxes by (kind, track)."""

    log: SqliteLog
    truth: tuple[dict[tuple[str, int], Box], ...]


def whole_box(box: Box) -> Box:
    inside = box.clipped(WIDTH, HEIGHT)
    return Box(*(float(round(value)) for value in (inside.x0, inside.y0, inside.x1, inside.y1)))


@pytest.fixture(scope="module")
def truth() -> tuple[dict[tuple[str, int], Box], ...]:
    camera = SimulatedCamera("gate", width=WIDTH, height=HEIGHT, fps=FPS, seed=3)
    found = []
    for seq in range(FRAMES):
        boxes = {(thing.kind, thing.track): whole_box(thing.box) for thing in camera.render(seq)[1]}
        found.append({who: box for who, box in boxes.items() if box.area > 0})
    return tuple(found)


@pytest.fixture
def street(tmp_path: Path, truth: tuple[dict[tuple[str, int], Box], ...]) -> Iterator[Street]:
    kinds = sorted({kind for boxes in truth for kind, _ in boxes})
    labels = (*kinds, *(f"thing {number}" for number in range(100)))
    with SqliteLog(tmp_path / "log.db") as log:
        log.create_topics(catalogue(["street"], CatalogueSettings(partitions=2)))
        task = Task("street", "what moves in a street", LabelSet("street", 1, labels))
        for key in ("street/1", "street"):
            log.append(LABELS, key, encode(LabelSetMessage.of(task)))
        yield Street(log, truth)


def send(street: Street, first: int, last: int, camera: str = "gate") -> None:
    """Append packets of some frames, numbered on where there is no more truth."""
    kinds = sorted({kind for boxes in street.truth for kind, _ in boxes})
    for seq in range(first, last):
        regions = tuple(
            PacketRegion(box, 63, track, ((0, kinds.index(kind)),))
            for (kind, track), box in street.truth[seq % FRAMES].items()
        )
        at_ns = START_NS + seq * 10**9 // FPS
        packet = Packet(b"abc", 4, seq, 0, at_ns, WIDTH, HEIGHT, (KEY,), regions, b"coarse", ())
        street.log.append(task_topic("street"), camera, packet_bytes(packet))


def start(street: Street, name: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / name), "--task", "street", *options]
    environment = os.environ | {"DISCOVER_LOG": f"sqlite:{street.log.path}"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=EXAMPLES.parent
    )


def said(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def test_vehicles_are_counted_across_a_line(street: Street) -> None:
    send(street, 0, FRAMES)
    send(street, 10, 20)  # delivered again
    expected: Counter[tuple[str, str]] = Counter()
    middle: dict[tuple[str, int], float] = {}
    for boxes in street.truth:
        for (kind, track), box in boxes.items():
            now = (box.x0 + box.x1) / 2
            before = middle.get((kind, track), now)
            if (before > LINE) != (now > LINE) and before != LINE:
                # Along the line, from the top to the bottom of the picture, smaller x lies to the right.
                expected[kind, "right" if now < LINE else "left"] += 1
            middle[kind, track] = now
    out = said(start(street, "count_line.py", "--line", f"{LINE},0,{LINE},{HEIGHT}", "--timeout", "0"))
    found = {(label, way): int(count) for label, way, count in (line.split("\t") for line in out.splitlines())}
    assert found == expected
    assert sum(found.values()) >= 3


def test_a_day_is_exported(street: Street, tmp_path: Path) -> None:
    day = 24 * 3600 * FPS
    send(street, 0, 20)
    send(street, day - 1, day + 2)  # the last frame of the day, and two of the next
    said(start(street, "export_day.py", "--day", "2026-01-01", "--out", str(tmp_path / "out")))
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    expected = [*street.truth[:20], street.truth[(day - 1) % FRAMES]]
    assert len(coco["images"]) == 21
    assert coco["images"][0] | {"id": 1, "width": WIDTH, "height": HEIGHT} == coco["images"][0]
    assert coco["images"][-1]["date_captured"] == "2026-01-01T23:59:59.800+00:00"
    names = {category["id"]: category["name"] for category in coco["categories"]}
    for image, boxes in zip(coco["images"], expected, strict=True):
        mine = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
        seen = {(names[each["category_id"]], each["track_id"]): tuple(each["bbox"]) for each in mine}
        assert seen == {who: (b.x0, b.y0, b.x1 - b.x0, b.y1 - b.y0) for who, b in boxes.items()}
    rows = parquet.read_table(tmp_path / "out" / "regions.parquet").to_pylist()
    assert len(rows) == len(coco["annotations"]) == sum(map(len, expected))
    first = datetime.fromtimestamp(rows[0]["capture_ns"] / 1e9, UTC)
    assert (first.date().isoformat(), rows[0]["camera"]) == ("2026-01-01", "gate")


class Receiver(HTTPServer):
    """Takes alerts, and refuses the first one once."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, object]] = []
        self.refused = 0

        class Handler(BaseHTTPRequestHandler):
            server: Receiver

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not self.server.refused:
                    self.server.refused += 1
                    self.send_error(503)
                    return
                self.server.alerts.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


def test_an_address_is_told_who_enters_a_zone(street: Street) -> None:
    zone = Box(80, 60, 240, 180)
    inside: dict[int, list[int]] = {}
    for seq, boxes in enumerate(street.truth[1:]):  # the first frame was there before it began to watch
        for (kind, track), box in boxes.items():
            x, y = (box.x0 + box.x1) / 2, box.y1
            if kind == "car" and zone.x0 <= x < zone.x1 and zone.y0 <= y < zone.y1:
                inside.setdefault(track, []).append(seq)
    expected = {track for track, seqs in inside.items() if any(seq + 1 in seqs for seq in seqs)}
    assert expected
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{receiver.server_address[1]}/alert"
        send(street, 0, 1)
        process = start(
            street, "webhook_alert.py", "--label", "car", "--zone", "80,60,240,180", "--to", address, "--timeout", "2"
        )  # fmt: skip
        partition = next(p for p in range(2) if street.log.bounds(task_topic("street"), p).end)
        while street.log.committed("webhook", task_topic("street"), partition) is None:
            assert process.poll() is None, said(process)
            time.sleep(0.05)
        send(street, 1, FRAMES)
        said(process)
        receiver.shutdown()
        thread.join()
    assert receiver.refused == 1
    assert {alert["track"] for alert in receiver.alerts} == expected
    assert len(receiver.alerts) == len(expected)
    assert all(alert["camera"] == "gate" for alert in receiver.alerts)


def test_a_sink_that_is_killed_doubles_nothing(street: Street, tmp_path: Path) -> None:
    out = tmp_path / "counts.db"
    send(street, 0, 120)
    send(street, 0, 60, camera="yard")
    process = start(street, "exactly_once.py", "--out", str(out), "--timeout", "600")

    def frames() -> int:
        if not out.exists():
            return 0
        with closing(sqlite3.connect(out)) as database:
            try:
                return database.execute("SELECT COALESCE(SUM(frames), 0) FROM counts").fetchone()[0]
            except sqlite3.OperationalError:  # not made yet, or held just now
                return 0

    while not frames():
        time.sleep(0.005)
        assert process.poll() is None, said(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    taken = frames()
    send(street, 120, 150)
    out_text = said(start(street, "exactly_once.py", "--out", str(out), "--timeout", "0"))
    assert 0 < taken < 180
    regions = {
        camera: sum(len(street.truth[seq % FRAMES]) for seq in range(count))
        for camera, count in (("gate", 150), ("yard", 60))
    }
    assert out_text.splitlines() == [
        f"gate\t150 frames\t{regions['gate']} regions",
        f"yard\t60 frames\t{regions['yard']} regions",
    ]
