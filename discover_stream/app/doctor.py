"""`discover doctor`: looks at everything that a system needs, and says what to do about each problem."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from discover_stream.app import doctor_log, doctor_machine
from discover_stream.app.doctor_findings import Finding, problem
from discover_stream.config import Config, load_config
from discover_stream.types import DiscoverError

__all__ = ["Finding", "examine", "finding_line"]

_MARKS = {"ok": "ok      ", "note": "note    ", "problem": "PROBLEM "}


def examine(path: Path | None) -> Iterator[Finding]:
    """Everything that was found, as it is found: about the machine first, then about the log of a configuration."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        doctor_machine.python,
        doctor_machine.packages,
        doctor_machine.origins,
        doctor_machine.models,
        doctor_machine.codecs,
    ]
    yield from _run(checks)
    try:
        config = load_config(path)
    except DiscoverError as error:
        yield problem("configuration", str(error))
        return
    yield Finding("configuration", "ok", f"{'the packaged local.yaml' if path is None else path} can be used")
    yield from _run(
        [
            lambda: doctor_machine.gpu(config),
            lambda: doctor_machine.memory(config),
            lambda: doctor_machine.disk(config),
            lambda: doctor_log.log(config, time.time_ns),
            lambda: cameras(config),
        ]
    )


def cameras(config: Config) -> Iterator[Finding]:
    """Whether what cameras of the configuration are read from can be: paths exist, variables are set."""
    from actors.cameras import opened_source
    from discover_stream.types import InputError

    for camera in config.cameras:
        try:
            source = opened_source(camera.source)
        except InputError as error:
            yield problem(f"camera {camera.name}", str(error))
            continue
        if "://" not in source and not Path(source).exists():
            yield problem(f"camera {camera.name}", f"{source} is not there; correct the path, or start elsewhere")


def _run(checks: list[Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    for check in checks:
        try:
            yield from check()
        except DiscoverError as error:
            yield problem("log", str(error))
        except Exception as error:  # one broken part of the environment must not hide the others
            said = " ".join(str(error).split()) or type(error).__name__
            yield problem("environment", f"{type(error).__name__}: {said[:300]}; install the package again")


def finding_line(finding: Finding) -> str:
    """A finding for people."""
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{_MARKS[finding.verdict]}{finding.area}: {finding.what}{remedy}"
