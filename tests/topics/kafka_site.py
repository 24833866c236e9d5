"""A broker that asks who you are: certificates, users, an authorizer. For the tests of security."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from deploy.kafka.broker import Broker
from deploy.kafka.certificates import Authority, Pair
from deploy.kafka.roles import Right
from deploy.kafka.settings import Security


@dataclass(frozen=True)
class Place:
    """A broker with everything on: certificates, users, authorizer."""

    broker: Broker
    authority: Authority
    client: Pair
    stranger: Pair
    folder: Path

    def address(self, user: str, *, sasl: str = "scram-sha-512", servers: str | None = None, **more: str) -> str:
        """Of a user whose password is in SITE_PASSWORD."""
        options = {"tls": "yes", "ca": str(self.authority.certificate), "sasl": sasl, "user": user}
        options |= {"password_env": "SITE_PASSWORD", **more}
        query = "&".join(f"{name}={quote(value)}" for name, value in options.items() if value)
        return f"kafka:{servers or self.broker.secure}?{query}"


def grant(broker: Broker, principal: str, rights: Iterable[Right]) -> None:
    """Give a principal rights, and wait until the broker knows."""
    kinds = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
    kinds["transactional-id"] = ResourceType.TRANSACTIONAL_ID
    words = {"AlterConfigs": "ALTER_CONFIGS", "DescribeConfigs": "DESCRIBE_CONFIGS"}
    acls = []
    for right in rights:
        how = ACLResourcePatternType.PREFIXED if right.begins else ACLResourcePatternType.LITERAL
        pattern = ResourcePattern(kinds[right.resource], right.name, how)
        for word in right.operations:
            operation = ACLOperation[words.get(word, word.upper())]
            acls.append(ACL(principal, "*", operation, ACLPermissionType.ALLOW, pattern))
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
        assert admin.create_acls(acls)["failed"] == []


@contextmanager
def site(folder: Path, users: Mapping[str, str]) -> Iterator[Place]:
    """A running broker with these users and their passwords; nobody may do anything yet."""
    authority, other = Authority(folder), Authority(folder, "stranger")
    server, old = authority.sign("server"), authority.sign("expired", expired=True)
    pairs = (server.certificate, server.key, (old.certificate, old.key))
    broker = Broker(folder / "kafka", security=Security(authority.certificate, *pairs, users, authorizer=True))
    broker.start()
    try:
        yield Place(broker, authority, authority.sign("camera"), other.sign("intruder"), folder)
    finally:
        broker.close(hard=True)
