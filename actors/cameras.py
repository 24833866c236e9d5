"""The cameras that there are to be, kept in the log: added and removed live, the configuration file being the seed.

``cameras`` holds a record per camera. A camera that was added stays, also in systems that start later; one that a
file lists comes and goes with its listing. Removing a listed camera turns it off until the file says something else
about it, or somebody adds it again. Everything is decided by one at a time, as tasks are (`topics.requests.decided`).

Others may read the log, so it never holds a password: addresses name environment variables, ``${NAME}``, which the
process that opens them looks up. What a configuration file lists may hold one; the file's settings are used then.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
from pydantic import ValidationError

from discover_stream.config import CameraConfig
from discover_stream.types import InputError
from discover_stream.video.live import without_password
from topics.catalogue import CAMERAS, FRAMES
from topics.fleet_messages import CameraRecord
from topics.log import Log, Reader, Record, Stage, UnknownTopic, latest_by_key
from topics.messages import decode_as, encode
from topics.partitioner import partition_for
from topics.reading import read_to_end
from topics.requests import decided

MAX_CAMERAS = 10_000
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """What a log knows of a camera: its settings, whether a configuration file lists it, whether somebody removed
    it, and the partition that its records lie in."""

    name: str
    config: CameraConfig
    listed: bool
    removed: bool
    partition: int


def add_camera(log: Log, camera: CameraConfig, owner: str, *, replace: bool = False) -> CameraFacts:
    """Have a camera, now and in every system with this log that starts later.

    One that is there with exactly these settings stays as it is; one that was removed comes back.

    Args:
        log: with the topics of the catalogue.
        camera: its settings; a relative path starts at the directory that the system runs in.
        owner: who this is, in words that others may be told.
        replace: whether other settings of a camera that is there give way.

    Raises:
        InputError: the name is taken, the address holds a password, there are too many cameras, or the log has no
            topic for them.
    """
    refuse_password(camera)
    _topic_of(log)

    def decide(stage: Stage) -> CameraFacts:
        records = read_cameras(log)
        known = records.get(camera.name)
        wanted = CameraRecord(camera=camera.name, settings=settings_of(camera))
        if known is not None:
            if known.settings == wanted.settings:
                wanted = msgspec.structs.replace(known, removed=False)
            elif known.listed and not known.removed:
                raise InputError(
                    f"camera {camera.name} is listed in the configuration of the system; change it there, or choose "
                    "another name"
                )
            elif not known.removed and not replace:
                raise InputError(
                    f"camera {camera.name} is there already with other settings; --replace changes them, or choose "
                    "another name"
                )
        elif sum(not record.removed for record in records.values()) >= MAX_CAMERAS:
            raise InputError(f"camera {camera.name}: {MAX_CAMERAS} cameras are there already; remove one first")
        if wanted != known:
            with stage.transaction() as transaction:
                transaction.send(CAMERAS, camera.name, encode(wanted))
        return _facts(log, wanted)

    return decided(log, owner, decide)


def remove_camera(log: Log, name: str, owner: str) -> CameraFacts:
    """Have a camera no more: it is read no further, now and later. Its archive stays for as long as retention keeps
    it, and its numbers go on where they were should it come back. Raises InputError for one that is not there."""
    _topic_of(log)

    def decide(stage: Stage) -> CameraFacts:
        records = read_cameras(log)
        known = records.get(name)
        if known is None or known.removed:
            there = sorted(camera for camera, record in records.items() if not record.removed)
            raise InputError(f"camera {name} is not in this log; those that are: {', '.join(there) or 'none'}")
        gone = msgspec.structs.replace(known, removed=True)
        with stage.transaction() as transaction:
            # A listed one is remembered, or the next start would seed it again.
            transaction.send(CAMERAS, name, encode(gone) if known.listed else None)
        return _facts(log, gone)

    return decided(log, owner, decide)


def list_cameras(log: Log) -> tuple[CameraFacts, ...]:
    """Every camera that the log knows, by name, also listed ones that were removed."""
    _topic_of(log)
    records = read_cameras(log)
    return tuple(_facts(log, records[name]) for name in sorted(records))


def seed_cameras(log: Log, listed: Sequence[CameraConfig], owner: str) -> dict[str, CameraRecord]:
    """Bring what a configuration file lists into the log (see `seeded`); the records afterwards, by name."""

    def decide(stage: Stage) -> dict[str, CameraRecord]:
        records = read_cameras(log)
        changes = seeded(records, listed)
        if changes:
            with stage.transaction() as transaction:
                for name, record in changes.items():
                    transaction.send(CAMERAS, name, None if record is None else encode(record))
        return {name: record for name, record in {**records, **changes}.items() if record is not None}

    return decided(log, owner, decide)


def seeded(records: Mapping[str, CameraRecord], listed: Sequence[CameraConfig]) -> dict[str, CameraRecord | None]:
    """What changes in the log when a system starts whose file lists these cameras: records to write, None to forget.

    A listing that is new, or has changed, turns its camera on; one that has not leaves it as it is, so a listed
    camera that was removed stays off. A camera that the file lists no more goes.
    """
    changes: dict[str, CameraRecord | None] = {}
    for camera in listed:
        wanted = CameraRecord(camera=camera.name, settings=settings_of(camera), listed=True)
        known = records.get(camera.name)
        if known is None or not known.listed or known.settings != wanted.settings:
            changes[camera.name] = wanted
    names = {camera.name for camera in listed}
    gone = [name for name, record in sorted(records.items()) if record.listed and name not in names]
    return {**changes, **dict.fromkeys(gone)}


def desired_cameras(
    records: Mapping[str, CameraRecord], listed: Sequence[CameraConfig]
) -> tuple[tuple[CameraConfig, ...], tuple[str, ...]]:
    """The cameras that are to run: listed ones in the order and with the settings of their file, then those that were
    added, by name. And a line for each whose settings this release cannot read: the others run all the same."""
    on = [camera for camera in listed if camera.name in records and not records[camera.name].removed]
    problems: list[str] = []
    for _, record in sorted(records.items()):
        if not record.listed and not record.removed:
            try:
                on.append(config_of(record))
            except InputError as error:
                problems.append(str(error))
    return tuple(on), tuple(problems)


def settings_of(camera: CameraConfig) -> str:
    """A camera's configuration as the log keeps it: JSON of what is not a default, without name and passwords."""
    content = camera.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    if _password(camera.source):
        content["source"] = without_password(camera.source)
    return json.dumps(content, sort_keys=True)


def config_of(record: CameraRecord) -> CameraConfig:
    """The configuration in a record. Raises InputError for settings that this release cannot read."""
    try:
        return CameraConfig.model_validate({"name": record.camera, **json.loads(record.settings)})
    except (ValueError, ValidationError) as error:
        raise InputError(
            f"camera {record.camera}: its settings in the log cannot be read ({' '.join(str(error).split())[:200]}); "
            "another release wrote them: remove the camera and add it again"
        ) from error


def refuse_password(camera: CameraConfig) -> None:
    """Raise InputError for an address with a password in it, which everybody would see who reads the log."""
    if _password(camera.source):
        raise InputError(
            f"camera {camera.name}: its address holds a password, and others can read the log; write ${{NAME}} "
            "instead, and set the variable NAME where `discover run` is started"
        )


def opened_source(source: str, environment: Mapping[str, str] | None = None) -> str:
    """An address with its ``${NAME}`` looked up. Raises InputError for a variable that is not set."""
    known = os.environ if environment is None else environment

    def value(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise InputError(
                f"{without_password(source)}: the environment variable {found[1]} is not set; set it where "
                "`discover run` is started"
            )
        return known[found[1]]

    return _VARIABLE.sub(value, source) if "://" in source else source


def _password(source: str) -> bool:
    """Whether an address holds a password in plain text."""
    if "://" not in source:
        return False
    try:
        password = urlsplit(source).password
    except ValueError:
        return "@" in source
    return bool(password) and _VARIABLE.fullmatch(password or "") is None


class CameraFollower:
    """The records of cameras, followed for as long as a system runs. For one thread; `records` may be read by all."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reader: Reader = log.reader(CAMERAS)
        self.records: Mapping[str, CameraRecord] = {}

    def refresh(self) -> None:
        """Take in what was written since. Raises LogError."""
        changed = dict(self.records)
        for record in read_to_end(self._log, CAMERAS, self._reader):
            if record.value is None:
                changed.pop(record.key or "", None)
            else:
                changed[record.key or ""] = decode_as(CameraRecord, record.value)
        if changed != self.records:
            self.records = changed

    def close(self) -> None:
        """Let go of resources."""
        self._reader.close()


def read_cameras(log: Log) -> dict[str, CameraRecord]:
    """The records of cameras, by name; none in a log without the topic."""
    try:
        found: dict[str, Record] = latest_by_key(log, CAMERAS)
    except UnknownTopic:
        return {}
    return {name: decode_as(CameraRecord, record.value or b"") for name, record in found.items()}


def _facts(log: Log, record: CameraRecord) -> CameraFacts:
    partitions = next((spec.partitions for spec in log.topics() if spec.name == FRAMES), 1)
    home = partition_for(record.camera, partitions)
    return CameraFacts(record.camera, config_of(record), record.listed, record.removed, home)


def _topic_of(log: Log) -> None:
    if CAMERAS not in {spec.name for spec in log.topics()}:
        raise InputError("this log knows no cameras yet: it has no topic for them; start `discover run` first")
