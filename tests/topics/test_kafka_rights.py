"""The real stages, each as a user that has the rights of its role and no others, from camera to subscriber."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka_site import grant, site

from actors.encode import EncodeSettings, EncodeStage
from actors.ingest import IngestStage
from actors.registry import register
from actors.route import RouteStage
from deploy.kafka.roles import ROLES, role_rights
from discover_stream.codec.model import load_codec
from discover_stream.config import CameraConfig
from discover_stream.sdk import AtCapture, subscribe
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.labels import builtin_tasks
from topics import open_log
from topics.catalogue import ARCHIVE, DEAD, FRAMES, CatalogueSettings, catalogue, task_topic
from topics.dead_letters import dead_letter, retry
from topics.log import Log, lag, latest_by_key
from topics.low_water import look_after
from topics.messages import dead_message, encode
from topics.reading import read_all

PREFIX = "north."
FRAME_COUNT = 3
USERS = {name: f"password-of-{name}" for name in (*ROLES, "replayer")}


def run_until_done(stage: Any, onlooker: Log, group: str, topic: str) -> None:
    """Run a stage until its input is done, which `onlooker` sees."""

    def watch() -> None:
        while lag(onlooker, group, topic, [0])[0]:
            time.sleep(0.05)
        stage.stop()

    watching = threading.Thread(target=watch)
    watching.start()
    stage.run()
    watching.join()


@pytest.mark.slow
def test_real_stages_run_with_the_rights_of_their_roles(
    kafka_jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, grounder = builtin_tasks()["vehicles"], NanoGrounder.load()

    def ground(images: Any, label_sets: Any) -> Callable[[], Sequence[Any]]:
        return lambda: [grounder.ground([image], label_sets)[0] for image in images]

    for user, password in USERS.items():
        monkeypatch.setenv(f"PASSWORD_{user.upper()}", password)
    with site(tmp_path, USERS) as place:

        def address(user: str) -> str:
            return place.address(user, prefix=PREFIX, password_env=f"PASSWORD_{user.upper()}")

        for role in ROLES:
            rights = role_rights(role, prefix=PREFIX, groups=["ours"], tasks=["vehicles"] * (role == "subscriber"))
            grant(place.broker, f"User:{role}", rights)
        more = [right for right in role_rights("encode", prefix=PREFIX) if right.name == PREFIX + ARCHIVE]
        index = [right for right in role_rights("operator", prefix=PREFIX) if right.name == f"{PREFIX}index"]
        grant(place.broker, "User:replayer", [*role_rights("subscriber", prefix=PREFIX), *more, *index])

        with open_log(address("operator")) as operator:
            operator.create_topics(catalogue([task.name], CatalogueSettings(partitions=1)))
            assert register(operator, (task,), 1, "test")
            source = f"sim://road?seed=3&width=128&height=96&fps=2&seconds={FRAME_COUNT / 2}"
            camera = CameraConfig(name="gate", source=source, realtime=False)
            with open_log(address("ingest")) as log:
                IngestStage(log, camera, 0, max_lag=1000, owner="test").run()
            with open_log(address("encode")) as log:
                stage = EncodeStage(log, 0, load_codec(), ground, EncodeSettings(3, 2), "test")
                run_until_done(stage, operator, "stage:encode-0", FRAMES)
            with open_log(address("route")) as log:
                run_until_done(RouteStage(log, 0, "test"), operator, "stage:route-0", ARCHIVE)
            look_after(operator, 1)
            assert "stage:route-0" in operator.groups()
            assert not latest_by_key(operator, "dead"), "nothing failed on its way"

        with subscribe(task.name, log=address("subscriber"), group="ours", timeout_s=2) as subscription:
            seen = list(subscription)
            subscription.commit()
        assert [item.packet.seq for item in seen] == list(range(FRAME_COUNT))
        assert all(item.labels is not None for item in seen)

        with open_log(address("operator")) as operator:
            (packet, *_) = read_all(operator, ARCHIVE)
            offset = operator.append(DEAD, "gate", encode(dead_message(packet, "test", 0, 1)), partition=0)
            retry(operator, dead_letter(operator, f"0:{offset}"))
            assert len(list(read_all(operator, ARCHIVE))) == FRAME_COUNT + 1

        middle = AtCapture(seen[1].packet.capture_ns)
        with subscribe(task.name, log=address("replayer"), start=middle, camera="gate", timeout_s=2) as subscription:
            assert [item.packet.seq for item in subscription] == [1, 2]

        with open_log(address("operator")) as operator:
            assert operator.committed("ours", task_topic(task.name), 0) is not None
            operator.delete_topic(task_topic(task.name))
            assert "ours" not in operator.groups()
