"""Rules that hold for all tests: the real clips in ../shared, a real Kafka, a real browser, and no deadlines."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from deploy.kafka.broker import Broker
from deploy.kafka.java import KafkaUnavailable, fetch_jars, find_java

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
PACKAGES = ("discover_stream", "actors", "topics")
REQUIRED = {
    mark: f"DISCOVER_REQUIRE_{mark.upper()}"
    for mark in ("shared", "kafka", "browser")
    if os.environ.get(f"DISCOVER_REQUIRE_{mark.upper()}") == "1"
}
"""Marks whose tests may not be skipped, with the variable that says so."""

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs that
# the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("discover", deadline=None)
hypothesis.settings.load_profile("discover")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real clips and photographs. Tests that ask for it are marked `shared`."""
    return SHARED / "data"


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """What a test needs that starts a broker of its own: Java, and this folder of jars."""
    try:
        find_java()
        return fetch_jars()
    except KafkaUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_broker(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One Kafka node for all tests that ask for it: use topics, groups and ids of your own, and leave it running."""
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.close(hard=True)


@dataclass(frozen=True)
class Chromium:
    """Where Chromium and its driver are."""

    program: str
    driver: str


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    """A browser for tests of the console. Tests that ask for it are marked `browser`."""
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and its driver; on Debian: apt-get install chromium chromium-driver")
    return Chromium(program, driver)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make wheel` does, but from a copy of what the build reads."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "NOTICE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (path,) = target.glob("*.whl")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        asked = getattr(item, "fixturenames", ())
        if "shared" in asked:
            item.add_marker(pytest.mark.shared)
        if "kafka_jars" in asked:
            item.add_marker(pytest.mark.kafka)
        if "chromium" in asked:
            item.add_marker(pytest.mark.browser)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not (SHARED / "data").is_dir():
        pytest.skip("needs the clips in ../shared/data, which is not there")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where clips, Kafka or a browser are required, a test on them may not be skipped, whoever decided to skip it."""
    report = yield
    required = [name for mark, name in REQUIRED.items() if item.get_closest_marker(mark)]
    if required and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped though {required[0]}=1: {report.longrepr}"
    return report
