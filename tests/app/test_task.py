"""`discover task` as a command, against a real endpoint; that one inquiry serves all is in tests/actors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chat_server import GOOD_LABELS, KEY, ChatServer, labelled, refusing

from actors.registry import load_tasks, register
from actors.task_switch import active_by_partition
from discover_stream.app.cli import run
from discover_stream.app.task_report import listed_line
from discover_stream.app.task_work import name_from
from discover_stream.semantics.labels import builtin_tasks
from topics.catalogue import catalogue, check_task_name
from topics.sqlite import SqliteLog

WORDS = "count delivery vans blocking the bus lane"
CONFIG = """
log: {path: log.db, partitions: 2}
tasks: [vehicles]
cameras: [{name: a, source: x}]
mllm: {model: small-one}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = Path("c.yaml")
    path.write_text(CONFIG)
    return path


@pytest.fixture
def server(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with ChatServer([labelled()]) as running:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


def active() -> list[dict[str, int]]:
    with SqliteLog("log.db") as log:
        return [{name: on.version for name, on in tasks.items()} for tasks in active_by_partition(log)]


def listed(discover, *arguments: object) -> dict[str, dict[str, object]]:
    found = [json.loads(line) for line in discover("task", "list", "--json", *arguments).splitlines()]
    return {item["task"]: item for item in found}


def test_add_list_show_remove(config: Path, server: ChatServer, discover) -> None:
    out = discover("task", "add", "vans", WORDS, "-c", config)
    assert "vans version 1: 130 labels, from test-model-0711 at http://127.0.0.1" in out
    assert "400 tokens in, 600 out" in out
    assert "vans: on in 2 partitions now" in out
    assert active() == [{"vans": 1}] * 2
    assert [request["model"] for request in server.requests] == ["small-one"]

    facts = listed(discover, "-c", config)["vans"]
    assert (facts["on"], facts["labels"], facts["version"], facts["added"]) == ([0, 1], 130, 1, True)
    assert facts["inquiry"]["tokens_in"] == 400  # type: ignore[index]
    assert "labels from test-model-0711" in discover("task", "list", "-c", config)

    shown = discover("task", "show", "vans", "-c", config)
    assert shown.startswith("# on in partitions 0, 1\n# labels from test-model-0711")
    assert yaml.safe_load(shown) == {
        "name": "vans",
        "description": WORDS,
        "version": 1,
        "profile": "machine",
        "labels": list(GOOD_LABELS),
    }

    assert "vans: off in 2 partitions" in discover("task", "remove", "vans", "-c", config)
    assert active() == [{}] * 2
    assert listed(discover, "-c", config)["vans"]["on"] == []


def test_a_description_is_asked_once(config: Path, server: ChatServer, discover) -> None:
    for _ in range(3):
        discover("task", "add", "vans", WORDS, "-c", config)
    out = discover("task", "add", "vans", "-c", config)  # by name alone
    assert "in the log already" in out
    assert "was on already" in out
    discover("task", "remove", "vans", "-c", config)
    assert "on in 2 partitions now" in discover("task", "add", "vans", WORDS, "-c", config)
    assert len(server.requests) == 1
    assert "vans version 2" in discover("task", "add", "vans", "--refresh", "-c", config)
    assert len(server.requests) == 2
    assert active() == [{"vans": 2}] * 2


def test_a_name_is_made_from_the_words(config: Path, server: ChatServer, discover) -> None:
    discover("task", "add", WORDS, "-c", config)
    assert active() == [{"count-delivery-vans-blocking-the-bus": 1}] * 2
    discover("task", "add", WORDS, "-c", config)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("words", "name"), [("Älle Räder  zählen!", "alle-rader-zahlen"), ("a " * 40, "a-" * 19 + "a")]
)
def test_names_that_are_made_can_be_used(words: str, name: str) -> None:
    assert check_task_name(name_from(words)) == name


def test_which_model_is_asked(config: Path, server: ChatServer, discover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "from-environment")
    discover("task", "add", "vans", WORDS, "--refresh", "-c", config)
    discover("task", "add", "vans", WORDS, "--refresh", "--model", "from-option", "-c", config)
    assert [request["model"] for request in server.requests] == ["from-environment", "from-option"]


def test_a_profile_of_its_own_takes_no_other_inquiry(config: Path, server: ChatServer, discover) -> None:
    discover("task", "add", "vans", WORDS, "-c", config)
    assert "vans version 2" in discover("task", "add", "vans", WORDS, "--profile", "human", "-c", config)
    assert "vans version 2" in discover("task", "add", "vans", WORDS, "-c", config)
    assert listed(discover, "-c", config)["vans"]["profile"] == "human"
    assert len(server.requests) == 1


def test_a_disabled_task_is_listed_with_the_reason(config: Path, server: ChatServer, discover, refused, capfd) -> None:
    server.answers = [labelled(GOOD_LABELS[:37])]
    assert run(["task", "add", "vans", WORDS, "-c", str(config)]) == 2
    asking, error = capfd.readouterr().err.splitlines()
    assert asking.startswith("asking small-one at http://127.0.0.1")
    assert "37 labels of use" in error
    facts = listed(discover, "-c", config)["vans"]
    assert (facts["disabled"], facts["version"], facts["on"]) == (True, None, [])
    assert "37 labels" in str(facts["problem"])
    assert "disabled" in discover("task", "list", "-c", config)
    assert "--refresh asks again" in refused("task", "add", "vans", WORDS, "-c", config)
    assert len(server.requests) == 2
    assert active() == [{}] * 2


def test_no_key_is_shown(config: Path, server: ChatServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.answers = [refusing(401, f"Incorrect API key provided: {KEY}")]
    assert run(["task", "add", "vans", WORDS, "-c", str(config)]) == 2
    out, err = capfd.readouterr()
    assert "refused the key (401); check OPENAI_API_KEY" in err
    assert KEY not in out + err
    assert KEY.encode() not in b"".join(path.read_bytes() for path in Path.cwd().glob("log.db*"))


def test_built_in_tasks_need_nobody(config: Path, discover) -> None:
    assert set(listed(discover, "-c", config)) == set(builtin_tasks())
    assert not Path("log.db").exists(), "a list makes nothing"
    assert yaml.safe_load(discover("task", "show", "vehicles", "-c", config))["name"] == "vehicles"
    assert "pedestrians version 1" in discover("task", "add", "pedestrians", "-c", config)
    assert active() == [{"pedestrians": 1}] * 2


def test_labels_that_the_default_grounder_cannot_find_are_named(config: Path, discover) -> None:
    assert "nano grounder" not in discover("task", "add", "pedestrians", "-c", config)
    vans = [f"{colour} {thing} van" for colour in ("red", "white", "blue", "old", "new") for thing in GOOD_LABELS[:20]]
    Path("vans.txt").write_text("\n".join([*vans, "zebra", "cable car"]))
    line = "the nano grounder cannot find 2 of the 102 labels: zebra, cable car"
    assert f"vans: {line}\n" in discover("task", "add", "vans", WORDS, "--labels", "vans.txt", "-c", config)
    assert f"# {line}\n" in discover("task", "show", "vans", "-c", config)
    told = json.loads(discover("task", "show", "vans", "--json", "-c", config))
    assert told["unseen_by_nano"] == ["zebra", "cable car"]


@pytest.mark.parametrize("ending", ["txt", "yaml"])
def test_labels_of_a_file_need_nobody(config: Path, discover, refused, ending: str) -> None:
    path = Path(f"labels.{ending}")
    path.write_text("\n".join(GOOD_LABELS) + "\n# no label\n" if ending == "txt" else yaml.safe_dump(list(GOOD_LABELS)))
    assert f"130 labels, {path}" in discover("task", "add", "vans", WORDS, "--labels", path, "-c", config)
    shown = discover("task", "show", "vans", "-c", config)
    assert yaml.safe_load(shown)["labels"] == list(GOOD_LABELS)
    Path("shown.yaml").write_text(shown)  # what is shown can be given
    assert "was on already" in discover("task", "add", "vans", "--labels", "shown.yaml", "-c", config)
    Path("shown.yaml").write_text(shown + "- tandem\n")
    assert "--refresh makes these a new version" in refused(
        "task", "add", "vans", "--labels", "shown.yaml", "-c", config
    )
    assert "version 2: 131" in discover("task", "add", "vans", "--labels", "shown.yaml", "--refresh", "-c", config)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "vans", WORDS), "no language model is configured: set OPENAI_API_KEY"),
        (("add", "vans"), "object-detection, pedestrians, vehicles) nor known"),
        (("add", "vans", "--refresh"), "neither built in"),
        (("add", "Vans", WORDS), "task name 'Vans'"),
        (("add", "2vans", WORDS), "begin with a letter"),
        (("add", "all", WORDS), "no reserved name"),
        (("add", "vans", " "), "describe it in 1 to 2000 characters"),
        (("add", "vans", "x" * 2001), "describe it in 1 to 2000 characters"),
        (("add", "vehicles", WORDS), "vehicles is listed in c.yaml: change it there"),
        (("add", "pedestrians", WORDS), "pedestrians comes with the package"),
        (("add", "vans", WORDS, "--labels", "none.txt"), "none.txt: cannot be read"),
        (("remove", "vans"), "vans is not on in this log; those that are: none"),
        (("show", "vans"), "vans is neither in the log nor built in"),
    ],
)
def test_mistakes_are_told_in_one_line(config: Path, refused, arguments: tuple[str, ...], words: str) -> None:
    with SqliteLog("log.db") as log:
        log.create_topics(catalogue())
    assert words in refused("task", *arguments, "-c", config)


def test_too_few_labels_in_a_file(config: Path, refused) -> None:
    Path("few.txt").write_text("car\nvan\n")
    assert "few.txt: 2 distinct labels" in refused("task", "add", "vans", "--labels", "few.txt", "-c", config)
    Path("odd.yaml").write_text("- [car]\n")
    assert "odd.yaml: no list of labels" in refused("task", "add", "vans", "--labels", "odd.yaml", "-c", config)


def test_a_log_at_an_address(config: Path, server: ChatServer, discover, refused) -> None:
    assert "there is none yet" in refused("task", "list", "--log", "sqlite:log.db")
    with SqliteLog("log.db") as log:
        log.create_topics(catalogue())
    assert "version 1" in discover("task", "add", "vans", WORDS, "--model", "m", "--log", "sqlite:log.db")
    assert len(active()) == 4
    assert "use one of them" in refused("task", "list", "--log", "sqlite:log.db", "-c", config)


def test_a_task_that_a_configuration_lists(config: Path, discover) -> None:
    with SqliteLog("log.db") as log:
        log.create_topics(catalogue(["vehicles"]))
        register(log, load_tasks(["vehicles"]), 4, "test")
    out = discover("task", "remove", "vehicles", "-c", config)
    assert "note: c.yaml lists vehicles, so the next start of the system turns it on again" in out
    assert active() == [{}] * 4
    discover("task", "add", "vehicles", "-c", config)
    assert active() == [{"vehicles": 1}] * 4


def test_how_a_task_is_delivered(config: Path, discover, refused) -> None:
    out = discover("task", "add", "pedestrians", "--regions-only", "-c", config)
    assert "pedestrians: on in 2 partitions now, regions only" in out
    assert "regions only" in discover("task", "list", "-c", config)
    out = discover("task", "add", "pedestrians", "--tags", "-c", config)
    assert "on in 2 partitions now, regions only, with tags" in out
    assert discover("task", "show", "pedestrians", "-c", config).startswith(
        "# on in partitions 0, 1, regions only, with"
    )
    assert "was on already, regions only" in discover("task", "add", "pedestrians", "-c", config)
    discover("task", "remove", "pedestrians", "-c", config)
    discover("task", "add", "pedestrians", "--pixels", "-c", config)
    facts = listed(discover, "-c", config)["pedestrians"]
    assert (facts["deliver"], facts["tags"], facts["on"]) == ("pixels", True, [0, 1])
    assert "vehicles is listed in c.yaml: change it there" in refused(
        "task", "add", "vehicles", "--regions-only", "-c", config
    )


def test_topics_of_added_tasks_are_kept(config: Path, server: ChatServer, discover) -> None:
    discover("topics", "apply", "-c", config)
    discover("task", "add", "vans", WORDS, "-c", config)
    assert "all topics are as configured" in discover("topics", "plan", "-c", config)
    discover("task", "remove", "vans", "-c", config)
    assert "delete task.vans" in discover("topics", "plan", "-c", config)


@pytest.mark.parametrize(("deliver", "words"), [("regions", "regions only"), ("objects", "no plate"), ("pixels", "")])
def test_the_list_says_what_a_task_is_not_sent(deliver: str, words: str) -> None:
    item = {
        "task": "yard", "version": 1, "labels": 100, "profile": "machine", "on": [0], "disabled": False,
        "builtin": False,
        "deliver": deliver, "tags": False, "inquiry": None, "asking": None, "problem": None,
    }  # fmt: skip
    assert listed_line(item).endswith(words or "on")
