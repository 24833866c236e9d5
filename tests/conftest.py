"""Rules that hold for all tests: the real clips in ../shared, and no deadlines."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
REQUIRED = os.environ.get("DISCOVER_REQUIRE_SHARED") == "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs that
# the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("discover", deadline=None)
hypothesis.settings.load_profile("discover")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real clips and photographs. Tests that ask for it are marked `shared`."""
    return SHARED / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") and not (SHARED / "data").is_dir():
        pytest.skip("needs the clips in ../shared/data, which is not there")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where the clips are required, a test on them may not be skipped, whoever decided to skip it."""
    report = yield
    if REQUIRED and report.skipped and item.get_closest_marker("shared") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped though DISCOVER_REQUIRE_SHARED=1: {report.longrepr}"
    return report
