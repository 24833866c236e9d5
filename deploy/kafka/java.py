"""Java, and the jars of Apache Kafka: found here, fetched once through Maven into a cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from discover_stream.types import DiscoverError

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).resolve().parents[2] / ".kafka"
"""Where the jars are kept: about 45 MB for every version of the pom."""

MIN_JAVA = 17


class BrokerError(DiscoverError):
    """A broker cannot be started or stopped; the message says what, why and the remedy."""


class KafkaUnavailable(BrokerError):
    """What a broker is made of is not here: Java, Maven, or the jars."""


def java_major(said: str) -> int:
    """The major version in what ``java -version`` says; 0 when it says none.

    >>> java_major('openjdk version "17.0.21" 2026-10-20')
    17
    >>> java_major('java version "1.8.0_392"')
    8
    """
    found = re.search(r'version "(\d+)(?:\.(\d+))?', said)
    if not found:
        return 0
    major = int(found[1])
    return int(found[2] or 0) if major == 1 else major


def find_java() -> Path:
    """The Java to run: of JAVA_HOME, else of PATH. Raises KafkaUnavailable when absent or older than 17."""
    home = os.environ.get("JAVA_HOME")
    place = str(Path(home, "bin", "java")) if home else shutil.which("java")
    remedy = f"install Java {MIN_JAVA} or later (Debian and Ubuntu: openjdk-17-jre-headless) or set JAVA_HOME"
    if place is None:
        raise KafkaUnavailable(f"Kafka needs Java, which is not on the PATH: {remedy}")
    try:
        ran = subprocess.run([place, "-version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise KafkaUnavailable(f"Kafka needs Java, but {place} cannot be run ({error.strerror}): {remedy}") from error
    major = java_major(ran.stderr + ran.stdout)
    if major < MIN_JAVA:
        said = f"is version {major}" if major else f"names no version (exit status {ran.returncode})"
        raise KafkaUnavailable(f"Kafka needs Java {MIN_JAVA}, but {place} {said}: {remedy}")
    return Path(place)


def fetch_jars(cache: Path = CACHE) -> Path:
    """The folder with Kafka's jars, fetched first where it is not there yet. Raises KafkaUnavailable.

    A complete folder appears in one step, so that several processes may ask at the same time.
    """
    folder = cache / f"jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailable(
            "Kafka's jars are fetched with Maven, and mvn is not on the PATH: install it (Debian and Ubuntu: maven), "
            "or use your own broker (docs/kafka.md)"
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as place:
            run_maven(maven, Path(place))
            # A rename fails where another process was first; then the folder is complete all the same.
            Path(place, "jars").rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise KafkaUnavailable(f"Kafka's jars cannot be kept in {cache}: {error.strerror}") from error
    return folder


def run_maven(maven: str, place: Path) -> None:
    """Have Maven copy the jars of the pom into ``place/jars``. Raises KafkaUnavailable with Maven's own cause."""
    command = [
        maven, "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    if ran.returncode != 0 or not any(place.glob("jars/kafka_*.jar")):
        cause = maven_cause(ran.stdout + ran.stderr)
        raise KafkaUnavailable(
            f"Maven could not obtain Kafka's jars: {cause}; check the network and Maven's settings, then try again"
        )


def maven_cause(said: str) -> str:
    """The first error line of what Maven said, without colours and tags, at most 300 characters."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    errors = [line.removeprefix("[ERROR]").strip() for line in plain.splitlines() if line.startswith("[ERROR]")]
    return next((line for line in errors if line), "it said nothing")[:300].rstrip(".")
