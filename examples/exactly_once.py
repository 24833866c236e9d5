"""A sink that takes every packet exactly once: result and position are stored in one transaction.

python examples/exactly_once.py --out out/counts.db
"""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path

from discover_stream.sdk import Gap, Subscription, subscribe

SCHEMA = """
PRAGMA journal_mode = wal;
CREATE TABLE IF NOT EXISTS counts (
    camera TEXT, minute INTEGER, frames INTEGER, regions INTEGER, PRIMARY KEY (camera, minute)
);
CREATE TABLE IF NOT EXISTS positions (task TEXT, partition INTEGER, next INTEGER, PRIMARY KEY (task, partition));
"""


def positions(database: sqlite3.Connection, task: str) -> dict[int, int]:
    """Where the last transaction ended; empty before the first."""
    return dict(database.execute("SELECT partition, next FROM positions WHERE task = ?", (task,)))


def run(database: sqlite3.Connection, subscription: Subscription) -> None:
    """Add up frames and regions per minute of capture time."""
    for item in subscription:
        with database:  # one transaction: both of it, or nothing
            if not isinstance(item, Gap) and item.capture_ns is not None:
                database.execute(
                    "INSERT INTO counts VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE"
                    " SET frames = frames + 1, regions = regions + excluded.regions",
                    (item.camera, item.capture_ns // 60_000_000_000, len(item.regions)),
                )
            rows = [(subscription.task, partition, at) for partition, at in subscription.positions.items()]
            database.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", rows)


def main() -> None:
    """Add up until nothing has come for a while; killed at any point, it goes on as if it had not been."""
    parser = argparse.ArgumentParser(description="Frames and objects per minute, each packet exactly once.")
    parser.add_argument("--log", help="default: $DISCOVER_LOG, else that of the packaged configuration")
    parser.add_argument("--task", default="vehicles")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--timeout", type=float, default=10.0, help="end after so many seconds without a packet")
    given = parser.parse_args()
    database = sqlite3.connect(given.out)
    database.executescript(SCHEMA)
    at = positions(database, given.task)
    with subscribe(given.task, log=given.log, start=at, timeout_s=given.timeout) as subscription:
        run(database, subscription)
    for camera, frames, regions in database.execute("SELECT camera, SUM(frames), SUM(regions) FROM counts GROUP BY 1"):
        print(f"{camera}\t{frames} frames\t{regions} regions")
    database.close()


if __name__ == "__main__":
    main()
