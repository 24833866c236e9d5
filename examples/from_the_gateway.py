"""Cameras, tasks and a task's packets through the HTTP gateway: python examples/from_the_gateway.py --task vehicles"""

from __future__ import annotations

import argparse

from discover_stream.sdk.client import Client


def main() -> None:
    """Print what there is, then packets as they come."""
    parser = argparse.ArgumentParser(description="What a gateway has, and a task's packets as they come.")
    parser.add_argument("--url", help="default: $DISCOVER_GATEWAY, else http://127.0.0.1:8000")
    parser.add_argument("--token", help="default: $DISCOVER_TOKEN; a gateway without tokens needs none")
    parser.add_argument("--task", default="vehicles")
    parser.add_argument("--from", dest="start", default="latest", help="latest, earliest, or a time")
    parser.add_argument("--packets", type=int, default=10, help="end after so many")
    given = parser.parse_args()
    with Client(given.url, given.token) as client:
        for camera in client.cameras():
            print(f"camera {camera.name}: {camera.health}, {camera.kbps:.1f} kbit/s")
        for number, packet in enumerate(client.events(given.task, start=given.start), 1):
            seen = ", ".join(region.label for region in packet.regions) or "nothing"
            print(f"{packet.capture} {packet.camera} {packet.seq}: {seen}")
            if number == given.packets:
                break


if __name__ == "__main__":
    main()
