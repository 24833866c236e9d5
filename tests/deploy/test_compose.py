"""compose.yaml against the Compose Specification's schema, and against what the tested launcher tells its nodes.

No Docker here: the schema says that Docker would take the file, and the settings are compared with those that
the real brokers of the other tests run on.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.kafka.java import POM
from deploy.kafka.settings import NodePlan, node_properties

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose.yaml"
ONLY_HERE = {"advertised.listeners"}
"""Settings that the launcher has no use for: it advertises what it listens on."""


def services() -> dict[str, dict[str, object]]:
    """The brokers; the system beside them is in test_cluster.py."""
    found: dict[str, dict[str, object]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return {name: service for name, service in found.items() if name.startswith("kafka")}


def settings(name: str) -> dict[str, str]:
    """What a service's environment becomes inside the image: KAFKA_A_B is a.b."""
    environment = services()[name]["environment"]
    assert isinstance(environment, dict)
    assert all(isinstance(value, str) for value in environment.values()), "numbers lose digits in YAML"
    rest = {key: value for key, value in environment.items() if key not in ("CLUSTER_ID", "KAFKA_HEAP_OPTS")}
    assert all(key.startswith("KAFKA_") for key in rest)
    return {key.removeprefix("KAFKA_").lower().replace("_", "."): value for key, value in rest.items()}


def test_the_schema_accepts_it() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(("names", "nodes"), [(("kafka",), 1), (("kafka-1", "kafka-2", "kafka-3"), 3)])
def test_nodes_are_told_what_the_launcher_tells_them(names: tuple[str, ...], nodes: int, tmp_path: Path) -> None:
    plan = NodePlan(0, tmp_path, {"INTERNAL": 1, "CONTROLLER": 2})
    tested = node_properties(plan, dict.fromkeys(range(nodes), 2))
    for name in names:
        told = settings(name)
        assert not set(told) - set(tested) - ONLY_HERE, "settings that no test runs with"
        same = [key for key in told if re.search(r"max\.bytes|retention|expiration|auto\.create|replica|isr", key)]
        assert len(same) >= 8
        assert {key: told[key] for key in same} == {key: tested[key] for key in same}


def test_three_nodes_are_one_quorum_with_ports_and_volumes_of_their_own() -> None:
    three = {name: service for name, service in services().items() if service.get("profiles") == ["three"]}
    assert sorted(three) == ["kafka-1", "kafka-2", "kafka-3"]
    told = {name: settings(name) for name in three}
    assert len({item["controller.quorum.voters"] for item in told.values()}) == 1
    assert next(iter(told.values()))["controller.quorum.voters"] == ",".join(
        f"{told[name]['node.id']}@{name}:9093" for name in sorted(three)
    )
    assert len({str(service["volumes"]) for service in three.values()}) == 3
    assert len({str(service["ports"]) for service in services().values()}) == 4
    for name, service in services().items():
        (port,) = re.findall(r"HOST://localhost:(\d+)", settings(name)["advertised.listeners"])
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"], "reachable from this machine only"
        assert f"HOST://:{port}," in settings(name)["listeners"]
        assert f"BROKER://{name}:19092" in settings(name)["advertised.listeners"]


def test_the_image_is_the_version_that_is_tested() -> None:
    (version,) = re.findall(r"kafka_2\.13</artifactId>\s*<version>([0-9.]+)<", POM.read_text())
    assert {service["image"] for service in services().values()} == {f"apache/kafka:{version}"}
    assert all("healthcheck" in service for service in services().values())


def test_cluster_ids_are_sixteen_bytes() -> None:
    for service in services().values():
        environment = service["environment"]
        assert isinstance(environment, dict)
        assert len(base64.urlsafe_b64decode(environment["CLUSTER_ID"] + "==")) == 16
