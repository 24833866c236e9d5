"""What each role may do on a cluster with an authorizer, as data; and the commands that grant it.

    python -m deploy.kafka.roles subscriber --principal User:anna --group anna --task vehicles [--prefix NAME]

prints lines for Kafka's own kafka-acls.sh. `docs/kafka.md` shows the table and says which process has which role.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from topics.catalogue import (
    ARCHIVE,
    CAMERAS,
    DEAD,
    FRAMES,
    INDEX,
    LABELS,
    PLATES,
    REQUESTS,
    STATE,
    STATUS,
    TASK_PREFIX,
    TASKS,
    catalogue,
)
from topics.checks import stage_group
from topics.kafka_topics import SPECS

Resource = Literal["topic", "group", "transactional-id", "cluster"]
Operation = Literal[
    "Read", "Write", "Create", "Delete", "Alter", "Describe", "AlterConfigs", "DescribeConfigs"
]  # fmt: skip
ROLES = ("ingest", "encode", "route", "operator", "subscriber")


@dataclass(frozen=True)
class Right:
    """Operations on everything of one kind whose name is `name`, or begins with it (`begins`)."""

    resource: Resource
    name: str
    operations: tuple[Operation, ...]
    begins: bool = False


def reads(*topics: str) -> tuple[Right, ...]:
    """To read topics, and to see how they are configured."""
    return tuple(Right("topic", name, ("Read", "DescribeConfigs")) for name in topics)


def writes(*topics: str) -> tuple[Right, ...]:
    """To write topics."""
    return tuple(Right("topic", name, ("Write",)) for name in topics)


def stages(*names: str) -> tuple[Right, ...]:
    """To hold the stages whose names begin so: be the one with a transactional id, commit positions, keep state."""
    found: list[Right] = []
    for name in names:
        found.append(Right("transactional-id", name, ("Write",), begins=True))
        found.append(Right("group", stage_group(name), ("Read",), begins=True))
    return (*found, *reads(STATE), *writes(STATE))


def watches(*names: str) -> tuple[Right, ...]:
    """To see the positions of stages whose names begin so."""
    return tuple(Right("group", stage_group(name), ("Describe",), begins=True) for name in names)


def role_rights(
    role: str, *, prefix: str = "", groups: Iterable[str] = (), tasks: Iterable[str] = ()
) -> tuple[Right, ...]:
    """What `role` needs. `prefix` is that of the log's address; a subscriber also has its groups, and its tasks
    (none named: all). Raises KeyError for a role that is not in `ROLES`."""
    task_topics = [replace(right, name=f"{TASK_PREFIX}{task}") for task in tasks for right in reads("")]
    all_tasks = [replace(right, begins=True) for right in reads(TASK_PREFIX)]
    table: dict[str, tuple[Right, ...]] = {
        "ingest": (*stages("ingest-"), *reads(FRAMES), *writes(FRAMES), *watches("encode-")),
        "encode": (
            *stages("encode-"),
            *reads(FRAMES, ARCHIVE, PLATES, TASKS, LABELS),
            *writes(ARCHIVE, INDEX, PLATES, DEAD),
        ),
        "route": (
            *stages("route-"),
            *reads(ARCHIVE, PLATES, TASKS, LABELS),
            *writes(DEAD),
            Right("topic", TASK_PREFIX, ("Write",), begins=True),
        ),
        "operator": (
            *stages("registry-", "retire-", "dead-retry-", "status-"),
            *reads(FRAMES, ARCHIVE, INDEX, PLATES, TASKS, LABELS, REQUESTS, CAMERAS, STATUS, DEAD),
            *all_tasks,
            *writes(SPECS, TASKS, LABELS, REQUESTS, CAMERAS, STATUS, PLATES, FRAMES, ARCHIVE, DEAD),
            *(
                Right("topic", name, ("Create", "Delete", "Alter", "AlterConfigs", "Describe", "DescribeConfigs"))
                for name in (SPECS, *(spec.name for spec in catalogue()))
            ),
            Right("topic", TASK_PREFIX, ("Create", "Delete", "Alter", "AlterConfigs", "Describe"), begins=True),
            Right("group", "", ("Describe", "Delete"), begins=True),  # deleting a topic forgets positions in it
        ),
        "subscriber": (
            *(task_topics or all_tasks),
            *reads(LABELS, TASKS, PLATES),
            *(Right("group", group, ("Read",)) for group in groups),
        ),
    }
    rights = merge((*reads(SPECS), *table[role]))
    return tuple(with_prefix(right, prefix) for right in rights)


def with_prefix(right: Right, prefix: str) -> Right:
    """A right on names that all have a prefix. Names that begin with nothing at all are ``*`` to Kafka."""
    name = prefix + right.name
    return replace(right, name=name) if name else replace(right, name="*", begins=False)


def merge(rights: Iterable[Right]) -> tuple[Right, ...]:
    """One right for everything on the same names, operations in the order in which they came."""
    found: dict[tuple[Resource, str, bool], dict[Operation, None]] = {}
    for right in rights:
        found.setdefault((right.resource, right.name, right.begins), {}).update(dict.fromkeys(right.operations))
    return tuple(Right(kind, name, tuple(ops), begins) for (kind, name, begins), ops in found.items())


def command(right: Right, principal: str, bootstrap: str = "localhost:9092") -> str:
    """The line for kafka-acls.sh that grants a right to a principal such as ``User:anna``."""
    words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--add", "--allow-principal", principal]
    for operation in right.operations:
        words += ["--operation", operation]
    words += [f"--{right.resource}", right.name]
    if right.begins:
        words += ["--resource-pattern-type", "prefixed"]
    return shlex.join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka.roles", description="Rights of a role, as commands.")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--principal", required=True, help="such as User:anna, or User:CN=anna for a certificate")
    parser.add_argument("--prefix", default="", help="the prefix of the log's address")
    parser.add_argument("--group", action="append", default=[], help="of a subscriber; may be repeated")
    parser.add_argument("--task", action="append", default=[], help="of a subscriber, instead of all tasks")
    parser.add_argument("--bootstrap-server", default="localhost:9092")
    options = parser.parse_args(arguments)
    rights = role_rights(options.role, prefix=options.prefix, groups=options.group, tasks=options.task)
    for right in rights:
        sys.stdout.write(command(right, options.principal, options.bootstrap_server) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
