"""One Kafka node as a process: its folder, its start, its two ways to stop."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from deploy.kafka.java import BrokerError
from deploy.kafka.settings import SCRAM, NodePlan, properties_text, scram_argument

READY = "Kafka Server started"
HEAP_MB = 256
MIN_FREE_BYTES = 512 * 1024 * 1024
"""A node with less room than this for its data would die soon and hard to understand."""

_GUARD = 'read -r word && exit; kill -9 "$1"'
"""Waits for a word from us; a closed pipe instead means that we died, and then the node goes too."""


class Node:
    """A node in `plan.folder`: server.properties, server.log, pid, data/."""

    def __init__(self, plan: NodePlan, *, guarded: bool = True) -> None:
        """`guarded`: the node must not outlive this process."""
        self.plan = plan
        self._guarded = guarded
        self._guard: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.settings = plan.folder / "server.properties"
        self.log = plan.folder / "server.log"

    def format(self, java: Sequence[str], cluster: str, settings: Mapping[str, str], users: Mapping[str, str]) -> None:
        """Write the settings, and prepare the data folder unless it is already. Raises BrokerError.

        `java` is the command that starts Java with Kafka's jars; users and their passwords get in by SCRAM.
        """
        folder = self.plan.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            with open(self.settings, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(properties_text(settings))
        except OSError as error:
            raise BrokerError(f"Kafka cannot keep its files in {folder}: {error.strerror}") from error
        if free < MIN_FREE_BYTES:
            raise BrokerError(
                f"Kafka needs {MIN_FREE_BYTES >> 20} MiB of disk, but {folder} has {free >> 20} MiB left: "
                "make room or choose another folder"
            )
        if (folder / "data" / "meta.properties").exists():
            return
        command = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += ["--cluster-id", cluster, "--config", str(self.settings)]
        for user, password in users.items():
            for mechanism in SCRAM:
                command += ["--add-scram", scram_argument(mechanism, user, password)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            raise BrokerError(f"Kafka cannot prepare {folder}: {explain(ran.stdout + ran.stderr)}")

    def launch(self, java: Sequence[str]) -> None:
        """Start the process; returns at once."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*java, "kafka.Kafka", str(self.settings)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.plan.folder, start_new_session=True,
            )  # fmt: skip
        (self.plan.folder / "pid").write_text(f"{process.pid}\n")
        if self._guarded:
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD, "guard", str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
            )

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the node takes requests. Raises BrokerError when it ends before, or does not get there."""
        deadline = time.monotonic() + timeout_s
        while READY not in (said := self.said()):
            if self.process() is None:
                raise BrokerError(
                    f"Kafka node {self.plan.node} ended at its start: {explain(self.said())} ({self.log})"
                )
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka node {self.plan.node} did not get ready in {timeout_s:.0f} s: {explain(said)} ({self.log})"
                )
            time.sleep(0.05)

    def said(self) -> str:
        """What the node has logged since its last start."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")
        return ""

    def process(self) -> psutil.Process | None:
        """The running process, recognised by its settings file: a pid alone may by now be somebody else's."""
        try:
            found = psutil.Process(int((self.plan.folder / "pid").read_text()))
            if found.status() == psutil.STATUS_ZOMBIE:
                found.wait(0)
                return None
            return found if str(self.settings) in words_of(found) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def stop(self, *, hard: bool, timeout_s: float = 30.0) -> None:
        """Kill the node, or ask it to end and kill it after `timeout_s`. Nothing happens when it is not running."""
        process = self.process()
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
                try:
                    process.wait(timeout_s)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait()
        (self.plan.folder / "pid").unlink(missing_ok=True)
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(BrokenPipeError):
                guard.communicate(b"ended\n")


def words_of(process: psutil.Process, wait_s: float = 2.0) -> list[str]:
    """A process's command line; empty if it has none.

    It is empty for a moment while a process becomes another program, after its start was reported: that is waited for.
    """
    deadline = time.monotonic() + wait_s
    while not (words := process.cmdline()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return words


def together(steps: list[Callable[[], None]]) -> None:
    """Run steps at the same time (each starts a Java of its own); the first error is raised after the last step."""
    with ThreadPoolExecutor(max(1, len(steps))) as pool:
        for done in [pool.submit(step) for step in steps]:
            done.result()


def explain(said: str) -> str:
    """Why a node ended, in one line with a remedy, from its log (what matters comes last)."""
    known = (
        (r"Address already in use|Address in use", "a port of it is taken; stop what uses it, or choose another port"),
        (r"No space left on device|ENOSPC", "the disk is full; make room and start it again"),
        (r"UnsupportedClassVersionError", "this Java is too old; install Java 17 or later"),
        (r"OutOfMemoryError", "Java ran out of memory; give the nodes a larger heap"),
        (r"Failed to acquire lock on file", "another Kafka runs on this folder; stop it, or choose another folder"),
        (
            r"InconsistentClusterIdException|Invalid cluster\.id",
            "its data is of another cluster; choose another folder",
        ),
        (r"Could not (?:find|load).*class|NoClassDefFoundError", "jars are missing; delete the folder .kafka"),
    )
    for pattern, meaning in known:
        if re.search(pattern, said):
            return meaning
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"ERROR|FATAL|Exception", line)] or lines[-1:]
    return (telling[-1] if telling else "it said nothing")[:300]
