"""Files for clusters, against the schemas of those who read them: Ray's launcher, KubeRay's autoscaler, Kubernetes.

No cluster here. Ray ships the schema of cluster files, and the code with which its autoscaler reads a RayCluster;
kubernetes-validate ships Kubernetes' own schemas, against which pods and the rest are held strictly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import validate_config

from discover_stream.config import Config, load_config, parse_config
from discover_stream.config_cluster import PlacementConfig

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster.yaml"
KUBERAY = ROOT / "deploy" / "kuberay"
KUBERNETES = "1.33"
SCHEMA = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def ray_cluster() -> dict[str, Any]:
    found = content(KUBERAY / "raycluster.yaml")
    found["metadata"]["namespace"] = "default"
    return found


def groups(cluster: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "head", cluster["spec"]["headGroupSpec"]
    for group in cluster["spec"]["workerGroupSpecs"]:
        yield group["groupName"], group


def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERAY / "system.yaml").read_text()))


def system_config() -> Config:
    (text,) = (found["data"]["fleet.yaml"] for found in objects() if found["kind"] == "ConfigMap")
    return parse_config(text, "fleet.yaml")


def test_the_launcher_takes_the_cluster_file() -> None:
    jsonschema.validate(content(CLUSTER), SCHEMA)
    wrong = content(CLUSTER)
    wrong["available_node_types"]["encode"]["resources"]["CPU"] = "eight"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_the_launcher_would_mount_what_is_there() -> None:
    for source in content(CLUSTER)["file_mounts"].values():
        assert (ROOT / source).exists()


def test_the_autoscaler_reads_the_same_groups_on_kubernetes() -> None:
    read = _derive_autoscaling_config_from_ray_cr(ray_cluster())
    validate_config(read)
    launched = content(CLUSTER)["available_node_types"]
    types = read["available_node_types"]
    for name in ("encode", "decode"):
        there = {key: value for key, value in types[name]["resources"].items() if key != "memory"}
        assert there == launched[name]["resources"]
        for bound in ("min_workers", "max_workers"):
            assert types[name][bound] == launched[name][bound]
    assert types["headgroup"]["resources"]["CPU"] == launched["head"]["resources"]["CPU"] == 0
    assert types["decode"]["min_workers"] == 0


def test_kubernetes_takes_the_pods_of_every_group() -> None:
    for name, group in groups(ray_cluster()):
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        pod["metadata"] = {"name": name, **pod.get("metadata", {})}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        pod["spec"]["containers"][0]["imagePullPolicies"] = "Always"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_kubernetes_takes_the_system() -> None:
    kinds = [found["kind"] for found in objects()]
    assert kinds == ["ConfigMap", "Deployment", "Service"]
    for found in objects():
        kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_processes_fit_on_the_groups_that_are_meant_for_them() -> None:
    taken, nodes = system_config().ray.resources, content(CLUSTER)["available_node_types"]
    groups = {"ingest": "encode", "ground": "encode", "encode": "encode", "route": "encode", "decode": "decode"}
    assert groups.keys() == PlacementConfig.model_fields.keys()
    for kind, group in groups.items():
        wanted, given = getattr(taken, kind), nodes[group]["resources"]
        assert 0 < wanted.cpus <= given["CPU"]
        assert wanted.gpus <= given.get("GPU", 0)
        assert wanted.custom.keys() == {group}, f"{kind} would start anywhere"
        assert wanted.custom[group] <= given[group]
    assert taken.decode.gpus > 0


def test_the_system_finds_the_head_and_prometheus_the_system() -> None:
    config = system_config()
    cluster, (deployment,) = ray_cluster(), (found for found in objects() if found["kind"] == "Deployment")
    assert config.ray.address == f"{cluster['metadata']['name']}-head-svc:6379"
    assert not config.ray.packages, "the image has our packages"
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert config.ray.address in container["args"][0]
    assert container["ports"][0]["containerPort"] == config.metrics.port
    assert deployment["spec"]["strategy"]["type"] == "Recreate"
    assert cluster["spec"]["rayVersion"] == ray.__version__


def test_every_machine_has_the_same_image_with_our_packages() -> None:
    images = {content(CLUSTER)["docker"]["image"]}
    images |= {group["template"]["spec"]["containers"][0]["image"] for _, group in groups(ray_cluster())}
    images |= {
        container["image"]
        for found in objects()
        if found["kind"] == "Deployment"
        for container in found["spec"]["template"]["spec"]["containers"]
    }
    assert len(images) == 1
    lines = (ROOT / "deploy" / "image" / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    assert {"actors", "topics", "discover_stream", "configs", "pyproject.toml", "constraints.txt"} <= copied
    assert any(re.search(r"pip install .*-c constraints.txt \.$", line) for line in lines)


def test_compose_gives_the_system_a_configuration_that_reaches_the_broker() -> None:
    service = content(ROOT / "compose.yaml")["services"]["system"]
    (volume,) = service["volumes"]
    source, target, _ = volume.split(":")
    config = load_config(ROOT / source)
    assert service["command"][-1] == target
    assert config.log.kafka is not None
    listeners = content(ROOT / "compose.yaml")["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"BROKER://{config.log.kafka.brokers[0]}" in listeners
    assert service["ports"] == [f"127.0.0.1:{config.metrics.port}:{config.metrics.port}"]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
