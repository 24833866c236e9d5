"""A log with every topic and the built-in tasks on, and what runs a stage's loop until its input is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from actors.registry import load_tasks, register
from discover_stream.types import Image
from discover_stream.video.sink import open_sink
from topics.catalogue import CatalogueSettings, catalogue
from topics.log import Log, Record
from topics.sqlite import SqliteLog

TASKS = ("vehicles", "pedestrians")
PARTITIONS = 2


def picture(seq: int) -> Image:
    """A bright square that moves over a slope of colours, (48, 64, 3)."""
    rows, columns = np.mgrid[0:48, 0:64]
    image = np.stack([rows * 3, columns * 2, (rows + columns + 5 * seq) % 200], axis=2).astype(np.uint8)
    image[16:32, 2 * seq : 2 * seq + 16] = 250
    return image


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless film of 20 frames of `picture` at 10 frames a second."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    with open_sink(path, fps=10) as sink:
        for seq in range(20):
            sink.write(picture(seq))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue(TASKS, CatalogueSettings(partitions=PARTITIONS)))
        register(opened, load_tasks(TASKS), PARTITIONS, "test")
        yield opened


@pytest.fixture
def open_readers(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Topics of the readers that were made since, and not closed."""
    topics: list[str] = []
    make = log.reader

    def reader(topic: str, *arguments, **options):
        made = make(topic, *arguments, **options)
        topics.append(topic)
        monkeypatch.setattr(made, "close", lambda: topics.remove(topic))
        return made

    monkeypatch.setattr(log, "reader", reader)
    return topics


@pytest.fixture
def records() -> Callable[..., list[Record]]:
    """All records of a topic, as they are now."""

    def read(log: Log, topic: str) -> list[Record]:
        found: list[Record] = []
        reader = log.reader(topic)
        while items := reader.poll():
            found += [item for item in items if isinstance(item, Record)]
        return found

    return read


@pytest.fixture
def run_until() -> Callable[..., None]:
    """Runs a stage's loop in a thread until a condition holds, stops it, and raises what it raised."""

    def run(stage, condition: Callable[[], bool]) -> None:
        errors: list[BaseException] = []

        def loop() -> None:
            try:
                stage.run()
            except BaseException as error:  # handed to the test below
                errors.append(error)

        thread = threading.Thread(target=loop)
        thread.start()
        while thread.is_alive() and not condition():
            time.sleep(0.01)
        stage.stop()
        thread.join()
        if errors:
            raise errors[0]

    return run
