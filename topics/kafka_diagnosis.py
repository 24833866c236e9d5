"""Why a topic takes no records although its brokers answer: a client says only that it took too long."""

from __future__ import annotations

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, KafkaTimeoutError, LeaderNotAvailableError, NotEnoughReplicasError

from topics.kafka_client import KafkaClients
from topics.log import LogError

_WAIT_S = 2.0


def find_cause(error: KafkaError, topic: str, clients: KafkaClients) -> KafkaError:
    """The cause behind a time-out of a record for `topic` (as the broker calls it), where the broker can tell."""
    if not isinstance(error, KafkaTimeoutError) or not topic:
        return error
    try:
        found = clients.ask("looking for a cause", lambda admin: admin.describe_topics([topic]), _WAIT_S)
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        settings = clients.ask(
            "looking for a cause", lambda admin: admin.describe_configs([resource], config_filter="all"), _WAIT_S
        )
    except LogError:
        return error
    known = settings.get("topic", {}).get(topic, {})
    needed = int(known["min.insync.replicas"]["value"]) if "min.insync.replicas" in known else 0  # it was deleted
    for partition in found[0]["partitions"] if found else ():
        if partition["leader_id"] < 0:
            return LeaderNotAvailableError(topic)
        if len(partition["isr_nodes"]) < needed:
            return NotEnoughReplicasError(topic)
    return error
