"""What `discover topics` does: gather the catalogue and the log, compare, carry out, put into a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from actors.registry import active_in_log, load_tasks
from actors.system import catalogue_settings
from actors.task_switch import added_tasks
from discover_stream.config import Config, load_config
from discover_stream.sdk import open_existing
from discover_stream.types import InputError
from topics import open_log
from topics.catalogue import catalogue
from topics.log import Bounds, Log, TopicSpec, lag
from topics.plan import Change, Plan, apply_plan, plan_topics, retention_text, size_text
from topics.usage import Measured, Usage


@dataclass(frozen=True, slots=True)
class Planned:
    """What would change in the log at `url`."""

    url: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class ShownTopic:
    """A topic as it is. `lags` maps groups that read it to how many records they are behind, all partitions."""

    spec: TopicSpec
    bounds: tuple[Bounds, ...]
    usage: Usage
    lags: dict[str, int]

    @property
    def span(self) -> int:
        """Offsets between start and end, all partitions: records at most, on a broker."""
        return sum(held.end - held.start for held in self.bounds)


def wanted_topics(config: Config, log: Log | None = None) -> tuple[TopicSpec, ...]:
    """The catalogue of a configuration, and of the tasks that were added to its log, if there is one.

    Raises InputError for tasks that cannot be loaded.
    """
    added = added_tasks(log) if log is not None else ()
    return catalogue([task.name for task in (*load_tasks(config.tasks), *added)], catalogue_settings(config.log))


def planned(path: Path | None) -> Planned:
    """Compare. A log that does not exist yet has no topics; it is not made."""
    config = load_config(path)
    url = config.log.url
    wanted = wanted_topics(config)
    try:
        opened = open_existing(url)
    except InputError:  # no file yet
        return Planned(url, plan_topics(wanted, ()))
    with opened as log:
        return Planned(url, plan_topics(wanted_topics(config, log), log.topics()))


def carry_out(path: Path | None, *, delete: bool) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """What was done, and what was left because deleting was not asked for. Raises InputError for what is refused."""
    config = load_config(path)
    wanted_topics(config)  # before a log is made
    with open_log(config.log.url) as log:
        wanted = wanted_topics(config, log)
        plan = plan_topics(wanted, log.topics())
        apply_plan(log, wanted, plan, delete=delete, active=active_in_log(log))
    left = () if delete else plan.of("delete")
    return tuple(change for change in plan.changes if change not in left), left


def shown(path: Path | None) -> tuple[ShownTopic, ...]:
    """Every topic of the log. Raises InputError for a log that does not exist."""
    config = load_config(path)
    with open_existing(config.log.url) as log:
        held = log.usage() if isinstance(log, Measured) else {}
        groups = log.groups()
        return tuple(shown_topic(log, spec, held.get(spec.name, Usage(None, None)), groups) for spec in log.topics())


def shown_topic(log: Log, spec: TopicSpec, usage: Usage, groups: Sequence[str]) -> ShownTopic:
    """One topic with the lags of the groups that have a position in it."""
    lags: dict[str, int] = {}
    for group in groups:
        here = [p for p in range(spec.partitions) if log.committed(group, spec.name, p) is not None]
        if here:
            lags[group] = sum(lag(log, group, spec.name, here).values())
    return ShownTopic(spec, tuple(log.bounds(spec.name, p) for p in range(spec.partitions)), usage, lags)


def topic_json(item: ShownTopic) -> dict[str, Any]:
    """A topic for programs."""
    spec = item.spec
    return {
        "topic": spec.name,
        "partitions": [{"start": held.start, "end": held.end} for held in item.bounds],
        "keyed": spec.keyed,
        "compacted": spec.compacted,
        "guarded": spec.guarded,
        "retention": {"age_ns": spec.retention.age_ns, "max_bytes": spec.retention.max_bytes},
        "records": item.usage.records,
        "bytes": item.usage.bytes,
        "lag": item.lags,
        "purpose": spec.purpose,
    }


def print_table(topics: Sequence[ShownTopic]) -> None:
    """The table that people read: a line per topic, offsets per partition, groups that are behind by name."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("topic", "partitions", "records", "bytes", "kept", "start..end", "lag by group"):
        table.add_column(heading, justify="right" if heading in ("partitions", "records", "bytes") else "left")
    for item in topics:
        records = item.usage.records
        flags = [name for name, on in (("compacted", item.spec.compacted), ("guarded", item.spec.guarded)) if on]
        table.add_row(
            item.spec.name,
            str(item.spec.partitions),
            f"<= {item.span}" if records is None else str(records),
            "-" if item.usage.bytes is None else size_text(item.usage.bytes),
            ", ".join([retention_text(item.spec.retention), *flags]),
            " ".join(f"{held.start}..{held.end}" for held in item.bounds),
            # Text, not str: names may hold brackets, which rich would take for markup.
            Text(", ".join(f"{group} {behind}" for group, behind in item.lags.items()) or "-"),
        )
    Console(width=None if Console().is_terminal else 200, highlight=False).print(table)
