"""What the nodes of a broker are told, as pure functions: ports and security in, `server.properties` out."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.kafka.java import BrokerError

MAX_RECORD_BATCH = 4 * 1024 * 1024 + 64 * 1024
"""Our largest record (4 MiB of key and value) with what Kafka puts around it, in bytes."""

INTERNAL, CONTROLLER, SECURE, MUTUAL, EXPIRED = "INTERNAL", "CONTROLLER", "SECURE", "MUTUAL", "EXPIRED"
SCRAM = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
SCRAM_ITERATIONS = 4096
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Security:
    """Listeners with TLS beside the plain one, and who may come in. For tests: OAUTHBEARER takes unsigned tokens.

    `certificate` and `key` (PEM, the key in PKCS #8 without a password) are shown to clients that trust
    `authority`; `expired` is a second pair for a listener whose certificate has run out. `users` maps names to
    passwords (PLAIN and SCRAM). With `authorizer`, nobody but the plain listener may do anything without an ACL.
    """

    authority: Path
    certificate: Path
    key: Path
    expired: tuple[Path, Path] | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorizer: bool = False

    def __post_init__(self) -> None:
        for user, password in self.users.items():
            # These go into quoted places of a settings file. Not the password: errors are printed.
            if not re.fullmatch(r"[A-Za-z0-9._-]+", user) or not re.fullmatch(r"[!#-\[\]-~]+", password):
                raise BrokerError(
                    f"user {user!r}: take letters, digits, '.', '_' and '-' for a name, and for its password printable "
                    "ASCII letters without blanks, quotation marks and backslashes"
                )

    @property
    def listeners(self) -> tuple[str, ...]:
        """Names of the listeners this adds."""
        return (SECURE, MUTUAL) if self.expired is None else (SECURE, MUTUAL, EXPIRED)


@dataclass(frozen=True)
class NodePlan:
    """One node: its id (from 0), its folder, and the port of each of its listeners."""

    node: int
    folder: Path
    ports: Mapping[str, int]


def node_properties(plan: NodePlan, quorum: Mapping[int, int], security: Security | None = None) -> dict[str, str]:
    """The settings of one node. `quorum` maps node ids to the ports of their controllers.

    Times are short where a default would make tests wait, and sizes fit our 4 MiB records. What a cluster of
    your own needs of this is in docs/kafka.md.
    """
    nodes = len(quorum)
    copies, in_sync = (3, 2) if nodes >= 3 else (1, 1)
    names = list(plan.ports)
    protocols = {INTERNAL: "PLAINTEXT", CONTROLLER: "PLAINTEXT", SECURE: "SASL_SSL", MUTUAL: "SSL", EXPIRED: "SASL_SSL"}
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(plan.node),
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in quorum.items()),
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in plan.ports.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocols[name]}" for name in names),
        "inter.broker.listener.name": INTERNAL,
        "controller.listener.names": CONTROLLER,
        "log.dirs": str(plan.folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        "unclean.leader.election.enable": "false",
        "message.max.bytes": str(MAX_RECORD_BATCH),
        "replica.fetch.max.bytes": str(MAX_RECORD_BATCH),
        # Positions and transactional ids of a camera that was silent for a month must still be there.
        "offsets.retention.minutes": str(10 * 365 * 24 * 60),
        "transactional.id.expiration.ms": str(2**31 - 1),
        **{
            f"{prefix}.replication.factor": str(copies)
            for prefix in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        },
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        "offsets.topic.num.partitions": "3",
        "transaction.state.log.num.partitions": "3",
        "group.initial.rebalance.delay.ms": "0",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "log.initial.task.delay.ms": "500",
        "log.retention.check.interval.ms": "1000",
        "log.segment.delete.delay.ms": "1000",
        "log.cleaner.backoff.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        # A killed node may register again once its session has ended: alone, nobody else gains by a long one.
        "broker.heartbeat.interval.ms": "1000" if nodes > 1 else "500",
        "broker.session.timeout.ms": "6000" if nodes > 1 else "3000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }
    return settings | (_security_properties(security) if security else {})


def _security_properties(security: Security) -> dict[str, str]:
    """What the TLS listeners and the authorizer add."""
    pairs = {SECURE: (security.certificate, security.key), MUTUAL: (security.certificate, security.key)}
    if security.expired is not None:
        pairs[EXPIRED] = security.expired
    settings = {"sasl.enabled.mechanisms": ",".join((*SCRAM, "PLAIN", "OAUTHBEARER"))}
    for name, (certificate, key) in pairs.items():
        prefix = f"listener.name.{name.lower()}."
        settings |= {
            prefix + "ssl.keystore.type": "PEM",
            prefix + "ssl.keystore.certificate.chain": one_line(certificate),
            prefix + "ssl.keystore.key": one_line(key),
            prefix + "ssl.truststore.type": "PEM",
            prefix + "ssl.truststore.certificates": one_line(security.authority),
            prefix + "ssl.client.auth": "required" if name == MUTUAL else "none",
        }
        if name == MUTUAL:
            continue
        users = "".join(f' user_{user}="{password}"' for user, password in security.users.items())
        scram = f"{_MODULES}.scram.ScramLoginModule required;"
        settings |= {prefix + f"{mechanism.lower()}.sasl.jaas.config": scram for mechanism in SCRAM}
        settings[prefix + "plain.sasl.jaas.config"] = f"{_MODULES}.plain.PlainLoginModule required{users};"
        settings[prefix + "oauthbearer.sasl.jaas.config"] = (
            f'{_MODULES}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        )
    if security.authorizer:
        settings |= {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
    return settings


def one_line(pem: Path) -> str:
    """A PEM file as the value of a property: line ends written as backslash n."""
    return pem.read_text().strip().replace("\n", "\\n")


def properties_text(settings: Mapping[str, str]) -> str:
    """The settings as a properties file."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def scram_argument(mechanism: str, user: str, password: str) -> str:
    """A user for ``StorageTool format --add-scram``: salted here (RFC 5802), so that no password is on a
    command line, where every user of the machine could read it."""
    # A salt from the name is good enough for users that exist on loopback only, and repeats from run to run.
    salt = hashlib.sha256(f"{mechanism}/{user}".encode()).digest()
    salted = hashlib.pbkdf2_hmac(SCRAM[mechanism], password.encode(), salt, SCRAM_ITERATIONS)
    fields = {
        "name": user,
        "iterations": str(SCRAM_ITERATIONS),
        "salt": f'"{base64.b64encode(salt).decode()}"',
        "saltedpassword": f'"{base64.b64encode(salted).decode()}"',
    }
    return f"{mechanism}=[{','.join(f'{name}={value}' for name, value in fields.items())}]"
