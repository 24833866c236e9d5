"""Finding Java and the jars: versions as Java says them, and one clear line for everything that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.kafka import java
from deploy.kafka.java import KafkaUnavailable, fetch_jars, find_java, java_major, maven_cause


def program(path: Path, script: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ('openjdk version "17.0.21" 2026-10-20', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_392"\nJava(TM) SE Runtime Environment', 8),
        ('openjdk version "25-ea"', 25),
        ("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"17.0.1\"", 17),
        ("no java here", 0),
    ],
)  # fmt: skip
def test_versions_of_java(said: str, major: int) -> None:
    assert java_major(said) == major


def test_java_that_is_missing_old_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(KafkaUnavailable, match=r"not on the PATH: install Java 17"):
        find_java()
    old = program(tmp_path / "java", """echo 'openjdk version "11.0.2"' >&2""")
    with pytest.raises(KafkaUnavailable, match=r"needs Java 17, but .*java is version 11: install"):
        find_java()
    program(old, "exit 3")
    with pytest.raises(KafkaUnavailable, match="exit status 3"):
        find_java()
    program(old, """echo 'openjdk version "21.0.2"' >&2""")
    assert find_java() == old
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(KafkaUnavailable, match=r"nowhere/bin/java cannot be run \(No such file"):
        find_java()


def test_jars_without_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KafkaUnavailable, match=r"mvn is not on the PATH: install it"):
        fetch_jars(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_jars_that_maven_cannot_get_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin" / "mvn", "echo '[ERROR] '; echo '[ERROR] Unknown host repo.example.org'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(KafkaUnavailable, match=r"could not obtain Kafka's jars: Unknown host repo.example.org; check"):
        fetch_jars(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_jars_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
    echo run >> {tmp_path / "runs"}
    for word in "$@"; do case "$word" in -DoutputDirectory=*) place=${{word#*=}};; esac; done
    mkdir -p "$place" && touch "$place/kafka_2.13-0.jar"
    """
    program(tmp_path / "bin" / "mvn", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    folder = fetch_jars(tmp_path / "cache")
    assert [path.name for path in folder.iterdir()] == ["kafka_2.13-0.jar"]
    assert fetch_jars(tmp_path / "cache") == folder
    assert (tmp_path / "runs").read_text() == "run\n"
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_another_pom_means_other_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    present = tmp_path / "cache" / "jars-000000000000"
    present.mkdir(parents=True)
    other = tmp_path / "pom.xml"
    other.write_text(java.POM.read_text().replace("4.1.1", "4.1.0"))
    monkeypatch.setattr(java, "POM", other)
    with pytest.raises(KafkaUnavailable, match="mvn"):
        fetch_jars(tmp_path / "cache")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin" / "mvn", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "file").write_text("")
    with pytest.raises(KafkaUnavailable, match=r"cannot be kept in .*file/cache: Not a directory"):
        fetch_jars(tmp_path / "file" / "cache")


def test_what_maven_says() -> None:
    assert maven_cause("[INFO] x\n[ERROR] \n[ERROR] first.\n[ERROR] second") == "first"
    assert maven_cause("[INFO] x\n[\x1b[1;31mERROR\x1b[m] first.\n[ERROR] second") == "first"
    assert maven_cause("") == "it said nothing"
    assert len(maven_cause("[ERROR] " + "x" * 900)) == 300
