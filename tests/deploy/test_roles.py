"""Rights of roles: docs/kafka.md says the same, prefixes stand before every name, commands are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from deploy.kafka.roles import ROLES, Right, command, main, merge, role_rights
from topics.catalogue import ARCHIVE, FRAMES, catalogue
from topics.dead_letters import STAGE

DOCS = Path(__file__).resolve().parents[2] / "docs" / "kafka.md"


def documented() -> dict[str, list[str]]:
    """Cells of each role's row, without its name."""
    rows = [line.strip("| \n").split("|") for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    found = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows if len(row) >= 5}
    return {role: cells for role, cells in found.items() if role in ROLES}


def topics(role: str, operation: str) -> set[str]:
    """What a role may do that to, as the table writes it; `_specs` may be read by everybody."""
    rights = [right for right in role_rights(role) if right.resource == "topic" and operation in right.operations]
    return {right.name + "*" * right.begins for right in rights} - ({"_specs"} if operation == "Read" else set())


@pytest.mark.parametrize("role", ROLES)
def test_the_table_says_what_is_granted(role: str) -> None:
    _, read, written, stages, *_ = documented()[role]
    if role == "operator":
        every = {spec.name for spec in catalogue()} | {"task.*"}
        assert read == "all"
        assert topics(role, "Read") == every
        assert topics(role, "Create") == every | {"_specs"}
    elif role == "subscriber":
        assert topics(role, "Read") == (set(re.findall(r"`([^`]+)`", read)) - {"task.NAME"})
    else:
        assert topics(role, "Read") == set(re.findall(r"`([^`]+)`", read))
    assert topics(role, "Write") == set(re.findall(r"`([^`]+)`", written))
    held = {
        right.name + "*"
        for right in role_rights(role)
        if right.resource != "topic" and right.begins and right.operations in (("Write",), ("Read",))
    }
    assert held == set(re.findall(r"`([^`]+)`", stages))


def test_a_subscriber_gets_its_own_tasks_and_groups_only() -> None:
    rights = role_rights("subscriber", groups=["readers"], tasks=["vehicles"])
    assert Right("group", "readers", ("Read",)) in rights
    assert not any(right.begins for right in rights)
    assert not any("Write" in right.operations for right in rights)
    assert {right.name for right in rights if right.resource == "topic"} == {
        "_specs", "task.vehicles", "labels", "tasks", "plates"
    }  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_a_prefix_stands_before_every_name(role: str) -> None:
    plain, moved = role_rights(role, groups=["g"]), role_rights(role, prefix="north.", groups=["g"])
    assert len(plain) == len(moved)
    for one, other in zip(plain, moved, strict=True):
        if one.name == "*":
            assert (other.name, other.begins) == ("north.", True), "all groups of this system, no others"
        else:
            assert other.name == f"north.{one.name}"
        assert one.operations == other.operations


def test_rights_on_the_same_names_are_one() -> None:
    found = merge(
        [Right("topic", "a", ("Read",)), Right("topic", "a", ("Write", "Read")), Right("group", "a", ("Read",))]
    )
    assert found == (Right("topic", "a", ("Read", "Write")), Right("group", "a", ("Read",)))


def test_commands_for_kafka_acls(capsys: pytest.CaptureFixture[str]) -> None:
    right = Right("transactional-id", "x y-", ("Write",), begins=True)
    assert shlex.split(command(right, "User:CN=anna", "a:1")) == [
        "kafka-acls.sh", "--bootstrap-server", "a:1", "--add", "--allow-principal", "User:CN=anna",
        "--operation", "Write", "--transactional-id", "x y-", "--resource-pattern-type", "prefixed",
    ]  # fmt: skip
    assert main(["route", "--principal", "User:r", "--prefix", "n."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(role_rights("route"))
    assert all("--allow-principal User:r " in line for line in lines)
    with pytest.raises(SystemExit):
        main(["king", "--principal", "User:r"])


def test_an_operator_may_send_dead_records_back_to_wherever_they_came_from() -> None:
    rights = role_rights("operator")
    assert Right("transactional-id", f"{STAGE}-", ("Write",), begins=True) in rights
    assert Right("group", f"stage:{STAGE}-", ("Read",), begins=True) in rights
    assert {FRAMES, ARCHIVE} <= topics("operator", "Write")  # encoding and routing bury records


def test_an_operator_may_delete_topics_with_the_positions_in_them() -> None:
    assert Right("group", "n.", ("Describe", "Delete"), begins=True) in role_rights("operator", prefix="n.")
