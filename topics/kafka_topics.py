"""Topics of a Kafka cluster: what each is for is kept beside them, in a compacted topic.

A broker knows partitions, compaction and retention. Whether a topic is keyed or guarded, and its purpose, it
does not, so the specification lies in the topic ``_specs`` under the topic's name. The topics of the cluster
that have none are somebody else's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from topics.checks import check_topic
from topics.kafka_client import ANSWER_S, KafkaClients
from topics.kafka_configs import (
    CREATED_WITH,
    broker_settings,
    decode_spec,
    differences,
    encode_spec,
    spec_on_broker,
)
from topics.kafka_errors import explain
from topics.kafka_offsets import KafkaOffsets
from topics.kafka_reader import KafkaReader
from topics.log import LogError, Record, TopicSpec, UnknownTopic

SPECS = "_specs"
"""Where specifications lie. Its first partition also stands for a stage itself in the stage's group."""

_SPECS_SPEC = TopicSpec(SPECS, 1, compacted=True, purpose="what each topic is, by name")
_EXISTS = 36  # TOPIC_ALREADY_EXISTS: somebody was faster, or an answer was lost


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as a broker has it."""

    partitions: int
    copies: int
    settings: Mapping[str, str]


class KafkaTopics:
    """The topics below one prefix, for all threads of a log."""

    def __init__(self, clients: KafkaClients, offsets: KafkaOffsets) -> None:
        self._clients = clients
        self._offsets = offsets
        self._prefix = clients.settings.prefix
        self._lock = threading.RLock()
        self._specs: dict[str, TopicSpec] = {}
        self._reader: KafkaReader | None = None

    def spec(self, name: str) -> TopicSpec:
        """The specification of a topic, as it was last read. Raises UnknownTopic."""
        found = self._specs.get(name) or self._load().get(name)
        if found is None:
            known = ", ".join(sorted(self._specs)) or "none"
            raise UnknownTopic(
                f"log kafka:{self._clients.settings.place}: has no topic {self._prefix}{name} (it has: {known}); "
                "create it first"
            )
        return found

    def place(self, name: str, partition: int) -> TopicPartition:
        """The broker's name of a partition."""
        return TopicPartition(self._prefix + name, partition)

    def names(self) -> dict[str, str]:
        """Names of topics by their names on the broker."""
        return {self._prefix + name: name for name in self._load()}

    def refresh(self, name: str) -> TopicSpec:
        """The specification of a topic, read anew. Raises UnknownTopic."""
        self._load()
        return self.spec(name)

    def current(self) -> tuple[TopicSpec, ...]:
        """All topics by name, with the settings that the broker has. Those somebody removed there are absent."""
        specs = self._load()
        found = self._describe(specs)
        return tuple(
            spec_on_broker(specs[name], found[name].partitions, found[name].settings) for name in sorted(found)
        )

    def create(self, wanted: Iterable[TopicSpec]) -> None:
        """See `topics.log.Log.create_topics`."""
        specs = {spec.name: spec for spec in wanted}
        for spec in specs.values():
            check_topic(spec)
        known = self._load()
        found = self._describe(specs)
        for name, spec in specs.items():
            if name in found:
                self._check_shape(spec, known.get(name), found[name])
        if self._reader is None:
            self._make([_SPECS_SPEC])
        self._make([spec for name, spec in specs.items() if name not in found])
        self._alter(specs, found)
        self._store({name: spec for name, spec in specs.items() if known.get(name) != spec})
        with self._lock:
            self._specs = self._specs | specs

    def delete(self, name: str) -> None:
        """See `topics.log.Log.delete_topic`; positions in it are not touched here."""
        self.refresh(name)
        self._remove(name)
        self._store({name: None})
        with self._lock:
            self._specs = {other: spec for other, spec in self._specs.items() if other != name}

    def delete_specs(self) -> None:
        """Delete the topic of specifications itself, after all others."""
        self._remove(SPECS)
        with self._lock:
            self.close()
            self._specs = {}

    def close(self) -> None:
        """Let go of the reader of specifications."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _remove(self, name: str) -> None:
        def remove(admin: KafkaAdminClient) -> None:
            with suppress(UnknownTopicOrPartitionError):  # gone already: an answer was lost, or somebody was faster
                admin.delete_topics([self._prefix + name])

        self._clients.ask(f"deleting topic {name}", remove)
        self._clients.forget()  # a topic of the same name may have other partitions

    def _load(self) -> dict[str, TopicSpec]:
        """All specifications, read anew from where the last reading ended."""
        with self._lock:
            if self._reader is None:
                if not self._count([SPECS]):
                    return {}
                place = self.place(SPECS, 0)
                start = self._offsets.starts([place])[place]
                self._reader = KafkaReader(self._clients, self._offsets, SPECS, {0: start}, None)
            specs = dict(self._specs)
            while items := self._reader.poll():
                for item in items:
                    if isinstance(item, Record) and item.key is not None:
                        specs.pop(item.key, None)
                        if item.value is not None:
                            specs[item.key] = decode_spec(item.key, item.value)
            self._specs = specs
            return specs

    def _store(self, specs: Mapping[str, TopicSpec | None]) -> None:
        if not specs:
            return
        try:
            producer = self._clients.producer()
            sent = [
                producer.send(
                    self._prefix + SPECS,
                    None if spec is None else encode_spec(spec),
                    name.encode(),
                    partition=0,
                )
                for name, spec in specs.items()
            ]
            for future in sent:
                future.get(timeout=ANSWER_S)
        except KafkaError as error:
            raise explain(error, f"topic {self._prefix}{SPECS}", self._clients.settings, ANSWER_S) from error

    def _count(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """How many partitions, and copies of the first, each existing topic has, by name."""
        places = {self._prefix + name: name for name in names}
        if not places:
            return {}
        found = self._clients.ask("looking for topics", lambda admin: admin.describe_topics(list(places)))
        return {
            places[item["name"]]: (len(item["partitions"]), len(item["partitions"][0]["replica_nodes"]))
            for item in found
            if item["error_code"] == 0 and item["name"] in places
        }

    def _describe(self, names: Iterable[str]) -> dict[str, Found]:
        counts = self._count(names)
        if not counts:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, self._prefix + name) for name in counts]
        found: dict[str, Any] = self._clients.ask(
            "settings of topics", lambda admin: admin.describe_configs(resources, config_filter="all")
        )["topic"]
        return {
            name: Found(*count, {key: str(item["value"]) for key, item in found[self._prefix + name].items()})
            for name, count in counts.items()
        }

    def _check_shape(self, spec: TopicSpec, known: TopicSpec | None, found: Found) -> None:
        compacted = "compact" in found.settings.get("cleanup.policy", "")
        keyed = spec.keyed if known is None else known.keyed
        had, wanted = (found.partitions, keyed, compacted), (spec.partitions, spec.keyed, spec.compacted)
        if had != wanted:
            raise LogError(
                f"log kafka:{self._clients.settings.place}, topic {spec.name}: has (partitions, keyed, compacted) = "
                f"{had}, wanted {wanted}; changing it would misplace its records: use the old values or a new topic"
            )
        if known is None:
            expected = broker_settings(spec, 1)
            for name in CREATED_WITH:
                if found.settings.get(name) != expected[name]:
                    raise LogError(
                        f"log kafka:{self._clients.settings.place}, topic {spec.name}: exists with "
                        f"{name}={found.settings.get(name)}, not {expected[name]}: it is not one of ours; delete it, "
                        "or set prefix in the address"
                    )

    def _make(self, specs: list[TopicSpec]) -> None:
        if not specs:
            return
        copies = self._clients.settings.replication
        wanted = {
            self._prefix + spec.name: {
                "num_partitions": spec.partitions,
                "replication_factor": copies,
                "configs": broker_settings(spec, copies),
            }
            for spec in specs
        }

        def make(admin: KafkaAdminClient) -> None:
            answer = admin.create_topics(wanted, raise_errors=False)
            for topic in answer["topics"]:
                if topic["error_code"] not in (0, _EXISTS):
                    raise for_code(topic["error_code"])(topic["error_message"] or topic["name"])
            admin.wait_for_topics(list(wanted), timeout_ms=int(ANSWER_S * 1000))

        self._clients.ask(f"creating topics {', '.join(wanted)}", make)

    def _alter(self, specs: Mapping[str, TopicSpec], found: Mapping[str, Found]) -> None:
        changes = {
            name: change
            for name, topic in found.items()
            if (change := differences(specs[name], topic.copies, topic.settings))
        }
        if not changes:
            return
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, self._prefix + name, change) for name, change in changes.items()
        ]
        answer = self._clients.ask("settings of topics", lambda admin: admin.alter_configs(resources))
        for name, result in answer.get("topic", {}).items():
            if result != "OK":
                raise LogError(f"log kafka:{self._clients.settings.place}, settings of topic {name}: {result}")
        self._await_settings(changes)

    def _await_settings(self, changes: Mapping[str, Mapping[str, str]]) -> None:
        """Wait until the brokers tell the changed settings: they hear of them a little later than they accept them."""
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            found = self._describe(changes)
            if all(
                name in found and change.items() <= found[name].settings.items() for name, change in changes.items()
            ):
                return
            time.sleep(0.02)
        raise LogError(
            f"log kafka:{self._clients.settings.place}, settings of topics {', '.join(changes)}: accepted, but not "
            f"in force after {ANSWER_S:.0f} s: check that all brokers run, then apply them again"
        )
