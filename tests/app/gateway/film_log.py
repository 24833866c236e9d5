"""A log with one camera, `gate`, in stream mode: nine frames for two tasks, routed, with a gap; made in a moment."""

from __future__ import annotations

from pathlib import Path

from stream_film import capture_ns, painted_film

from actors.cameras import seed_cameras
from actors.registry import load_tasks, register
from actors.system import catalogue_settings
from discover_stream.codec.any_packet import any_packet_bytes, route_any
from discover_stream.codec.packet import task_key
from discover_stream.config import load_config
from topics.catalogue import ARCHIVE, INDEX, PLATES, STATE, catalogue, task_topic
from topics.messages import CameraState, EncodeState, GapMessage, encode
from topics.partitioner import partition_for
from topics.plates import plate_message
from topics.sqlite import SqliteLog

NAMES = ("pedestrians", "vehicles")
KEYS = sorted(task_key(name, 1) for name in NAMES)
FIRST, SECOND = sorted(NAMES, key=lambda name: task_key(name, 1))
FILM = painted_film((KEYS[0], KEYS[1]))
CONFIG = """
log: {{path: {folder}/log.db}}
tasks: [vehicles, pedestrians]
cameras:
- {{name: gate, source: {folder}/clip.mkv}}
"""


def record(folder: Path, more: str = "") -> Path:
    """A configuration whose log holds the film: its archive, plates and index, and what the router sent."""
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder) + more)
    config = load_config(path)
    partition = partition_for("gate", config.log.partitions)
    tasks = load_tasks(config.tasks)
    with SqliteLog(config.log.path) as log:
        log.create_topics(catalogue(NAMES, catalogue_settings(config.log)))
        register(log, tasks, config.log.partitions, "tests")
        seed_cameras(log, config.cameras, "tests")
        for packet in FILM:
            for plate in packet.plates:
                message = plate_message("gate", packet, plate, capture_ns(packet.seq))
                log.append(PLATES, f"gate/{plate.plate_id}", encode(message), partition=partition)
            log.append(ARCHIVE, "gate", any_packet_bytes(packet), partition=partition)
            for name in NAMES:
                part = any_packet_bytes(route_any(packet, {task_key(name, 1)}))
                log.append(task_topic(name), "gate", part, partition=partition)
        gap = GapMessage(
            camera="gate", from_ns=capture_ns(5), to_ns=capture_ns(6), reason="it gave nothing", next_seq=6
        )
        log.append(INDEX, "gate", encode(gap), partition=partition)
        state = EncodeState(cameras={"gate": CameraState(next_seq=len(FILM))})
        log.append(STATE, f"encode-{partition}", encode(state), partition=partition)
    return path
