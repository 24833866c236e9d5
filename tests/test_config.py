from __future__ import annotations

from pathlib import Path

import pytest

from discover_stream.config import datetime_ns, default_config, load_config, parse_config, starts_at_ns
from discover_stream.types import InputError, TaskOptions

CAMERA = "cameras: [{name: a, source: clip.mp4}]\n"


def test_the_packaged_default_is_the_one_at_the_top_level() -> None:
    config = load_config()
    assert [camera.name for camera in config.cameras] == ["road-east", "road-west"]
    assert [task.task for task in config.tasks] == ["vehicles", "pedestrians", "everything"]
    assert all(task.options == TaskOptions() for task in config.tasks)
    top = Path(__file__).parents[1] / "configs" / "local.yaml"
    assert default_config().read_bytes() == top.read_bytes()


def test_how_tasks_are_delivered() -> None:
    listed = "tasks: [vehicles, {task: mine.yaml, deliver: regions}, {task: pedestrians, tags: true}]\n"
    tasks = parse_config(CAMERA + listed, "c.yaml").tasks
    assert [task.task for task in tasks] == ["vehicles", "mine.yaml", "pedestrians"]
    assert [task.options for task in tasks] == [TaskOptions(), TaskOptions("regions"), TaskOptions(tags=True)]


def test_the_grounder() -> None:
    assert parse_config(CAMERA, "c.yaml").grounder.kind == "nano"
    assert parse_config(CAMERA + "grounder: grounding-dino", "c.yaml").grounder.kind == "grounding-dino"
    given = parse_config(
        CAMERA + "grounder: {kind: grounding-dino, path: models/x, device: 'cuda:1'}", "c.yaml"
    ).grounder
    assert (given.path, given.device, given.precision, given.batch, given.threshold) == (
        "models/x", "cuda:1", "float32", None, None,
    )  # fmt: skip


def test_a_camera_alone_is_enough() -> None:
    config = parse_config(CAMERA, "c.yaml")
    assert config.log.url == "sqlite:out/discover.db"
    assert (config.quality, config.pools.ground, config.threads.encode) == (4, 1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("camreas: []", ["unknown key 'camreas'", "did you mean 'cameras'"]),
        ("cameras: [{name: a, source: x, fpss: 2}]", ["unknown key 'cameras.0.fpss'", "did you mean 'fps'"]),
        (CAMERA + "log: {frames: {huors: 1}}", ["unknown key 'log.frames.huors'", "known keys there: hours, gib"]),
        (CAMERA + "quality: 9", ["quality", "less than or equal to 8", "9"]),
        (CAMERA + "mode: streams", ["mode", "'auto', 'still' or 'stream'"]),
        ("cameras: [{name: a, source: x, mode: moving}]", ["cameras.0.mode", "'auto', 'still' or 'stream'"]),
        ("cameras: [{name: a, source: x, bitrate: 0}]", ["cameras.0.bitrate", "greater than 0"]),
        (CAMERA + "pools: {ground: 0}", ["pools.ground", "greater than or equal to 1"]),
        (CAMERA + "mllm: {modle: x}", ["unknown key 'mllm.modle'", "did you mean 'model'"]),
        (CAMERA + "mllm: {total_s: 0}", ["mllm.total_s", "greater than 0"]),
        ("log: {}", ["'cameras' is missing"]),
        ("cameras: [{name: a}]", ["'cameras.0.source' is missing"]),
        ("cameras: [{name: A b, source: x}]", ["cameras.0.name", "A b"]),
        ("cameras: [{name: a, source: x}, {name: a, source: y}]", ["camera 'a' is listed twice"]),
        (CAMERA + "tasks: [vehicles, {task: pedestrians, delivers: regions}]", ["did you mean 'deliver'"]),
        (CAMERA + "tasks: [{task: pedestrians, deliver: region}]", ["tasks.0.deliver", "'pixels', 'objects'"]),
        (CAMERA + "tasks: [{deliver: regions}]", ["'tasks.0.task' is missing"]),
        (CAMERA + "tasks: [7]", ["tasks.0"]),
        (CAMERA + "ground_every: 0", ["ground_every", "greater than or equal to 1"]),
        (CAMERA + "grounder: dino", ["grounder.kind", "'nano' or 'grounding-dino'"]),
        (CAMERA + "grounder: {kind: grounding-dino, device: gpu}", ["grounder.device", "gpu"]),
        (CAMERA + "tasks: [vehicles, vehicles]", ["task 'vehicles' is listed twice"]),
        ("cameras: [{name: a, source: x, starts_at: 2026-01-01T00:00:00}]", ["starts_at", "timezone"]),
        ("cameras: [{name: a, source: x, starts_at: '1969-12-31T23:59:59Z'}]", ["starts_at", "from 1970"]),
        ("cameras: [{name: a, source: x, starts_at: 9999-01-01T00:00:00Z}]", ["starts_at", "to 2199"]),
        ("cameras: [{name: a, source: x, starts_at: 2026-02-30T00:00:00Z}]", ["cannot be read", "day is out of range"]),
        (CAMERA + "max_lag: 1" + 5000 * "0", ["cannot be read"]),
        (5000 * "[", ["nested too deeply"]),
        ("cameras: [", ["not valid YAML in line"]),
        ("- 1", ["holds no keys"]),
        ("", ["holds no keys"]),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "binary.yaml"):
        with pytest.raises(InputError, match="cannot be read") as caught:
            load_config(path)
        assert str(path) in str(caught.value)


def test_capture_times_are_exact() -> None:
    config = parse_config("cameras: [{name: a, source: x, starts_at: '2026-01-01T00:00:00.000001+02:00'}]", "c")
    assert starts_at_ns(config.cameras[0]) == 1767218400_000001000
    assert starts_at_ns(parse_config(CAMERA, "c").cameras[0]) is None
    assert config.cameras[0].starts_at is not None
    assert datetime_ns(config.cameras[0].starts_at) % 1000 == 0


def test_a_key_that_was_put_into_a_configuration_is_not_shown() -> None:
    with pytest.raises(InputError, match=r"mllm\.api_key") as caught:
        parse_config(CAMERA + "mllm: {api_key: sk-geheim}", "c.yaml")
    assert "geheim" not in str(caught.value)


def test_a_core_and_a_system_whose_cameras_are_added_live_list_none() -> None:
    assert parse_config("cameras: []", "c").cameras == ()


def test_an_edge_names_its_site_and_its_core(tmp_path: Path) -> None:
    from actors.system import anchored_paths

    text = CAMERA + "edge: {site: north, core: {path: core.db}}"
    edge = anchored_paths(parse_config(text, "c"), tmp_path).edge
    assert edge is not None
    assert (edge.site, edge.core.url) == ("north", f"sqlite:{tmp_path}/core.db")
    with pytest.raises(InputError, match=r"the key 'edge.core' is missing"):
        parse_config(CAMERA + "edge: {site: north}", "c")
