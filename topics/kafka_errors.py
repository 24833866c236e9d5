"""What a broker or its client says, in one line that tells what to do."""

from __future__ import annotations

import ssl

from kafka import errors

from topics.kafka_settings import KafkaSettings
from topics.log import MAX_MESSAGE_BYTES, LogError, MessageTooLarge, UnknownTopic

MAX_BATCH_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
"""What a topic must accept: our largest record with what Kafka puts around it, in bytes."""

_NO_ANSWER = (
    errors.KafkaTimeoutError,
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.NetworkExceptionError,
)
_GRANT = "grant it what docs/kafka.md lists for its role"
_REMEDIES: tuple[tuple[type[errors.KafkaError], str], ...] = (
    (errors.TopicAuthorizationFailedError, f"{{user}} may not do this to the topic: {_GRANT}"),
    (errors.GroupAuthorizationFailedError, f"{{user}} may not use the consumer group: {_GRANT}"),
    (errors.TransactionalIdAuthorizationFailedError, f"{{user}} may not use the transactional id: {_GRANT}"),
    (errors.ClusterAuthorizationFailedError, f"{{user}} may not do this to the cluster: {_GRANT}"),
    (
        errors.NotEnoughReplicasError,
        "fewer copies are in sync than the topic's min.insync.replicas asks for: bring the missing brokers back",
    ),
    (
        errors.NotEnoughReplicasAfterAppendError,
        "fewer copies are in sync than the topic's min.insync.replicas asks for: bring the missing brokers back",
    ),
    (errors.LeaderNotAvailableError, "no broker leads one of its partitions: bring the missing brokers back"),
    (errors.KafkaStorageError, "the broker cannot use its disk: free space or repair it, then restart the broker"),
    (errors.LogDirNotFoundError, "the broker cannot use its disk: free space or repair it, then restart the broker"),
    (
        errors.InvalidReplicationFactorError,
        "the cluster has fewer brokers than the address asks copies (replication): lower it or add brokers",
    ),
    (errors.PolicyViolationError, "a policy of the cluster forbids it: {text}"),
    (errors.TopicDeletionDisabledError, "the cluster forbids it: set delete.topic.enable=true on its brokers"),
    (
        errors.InvalidTransactionTimeoutError,
        "the broker allows shorter transactions only: raise its transaction.max.timeout.ms to 60000 or more",
    ),
    (errors.UnsupportedVersionError, "the broker is too old: use Apache Kafka 3.0 or newer"),
)
_TLS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("has expired",), "the certificate of the broker has expired: renew it there"),
    (
        ("hostname mismatch", "ip address mismatch", "doesn't match"),
        "the certificate of the broker is for another host: use the name it was made for",
    ),
    (("certificate verify failed",), "the certificate of the broker is not signed by {ca}: set ca= ({text})"),
    (
        ("wrong version number", "record layer failure", "eof occurred in violation"),
        "this port does not speak TLS: use the broker's TLS port, or leave out tls=yes",
    ),
)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: a broker that starts, moves or is out of reach."""
    return isinstance(error, errors.RetriableError) and not isinstance(error, errors.UnknownTopicOrPartitionError)


def explain(error: Exception, what: str, settings: KafkaSettings, waited_s: float = 0.0) -> LogError:
    """The error of a client as an error of the log; `what` was tried for `waited_s` seconds."""
    where = f"log kafka:{settings.place}, {what}"
    text = " ".join(str(error).split()) or type(error).__name__
    refusal = _refused_connection(error, text, settings)
    if refusal is not None:
        return LogError(f"log kafka:{settings.place}: {refusal}")
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return MessageTooLarge(
            f"{where}: larger than the broker takes: raise the topic's max.message.bytes to {MAX_BATCH_BYTES}"
        )
    if isinstance(error, errors.UnknownTopicOrPartitionError | errors.UnknownTopicIdError):
        return UnknownTopic(f"{where}: the topic is not on the broker (any more): create it first")
    for kind, remedy in _REMEDIES:
        if isinstance(error, kind) or kind.__name__ in text:  # in the text: of an idempotent producer's start
            return LogError(f"{where}: {remedy.format(user=_user(settings), text=text)}")
    if isinstance(error, _NO_ANSWER):
        waited = f" within {waited_s:.0f} s" if waited_s else ""
        return LogError(
            f"{where}: no answer from {settings.place}{waited}: check the address and that the broker runs "
            "(its own log says why one stopped, for instance a full disk)"
            + ("" if settings.tls else ", and set tls=yes if it asks for TLS")
        )
    return LogError(f"{where}: {text}")


def refused(error: Exception, settings: KafkaSettings) -> LogError | None:
    """The error for a connection that the broker, or our trust, will go on refusing; None for any other."""
    reason = _refused_connection(error, " ".join(str(error).split()), settings)
    return None if reason is None else LogError(f"log kafka:{settings.place}: {reason}")


def _refused_connection(error: Exception, text: str, settings: KafkaSettings) -> str | None:
    """Why a broker will go on refusing this connection, in words; None when that is not what happened."""
    if isinstance(error, errors.SaslAuthenticationFailedError):
        source = settings.password_env or settings.password_file or settings.token
        return f"the broker refused {_user(settings)} ({settings.sasl}): check the user and the secret in {source}"
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return f"the broker does not offer sasl={settings.sasl}: use one of those it is configured with"
    if not isinstance(error, ssl.SSLError) and not (settings.tls and "ssl" in text.lower()):
        return None
    lower = text.lower().replace("_", " ")
    found = next((reason for signs, reason in _TLS if any(sign in lower for sign in signs)), None)
    if "alert" in lower and "certificate" in lower:
        found = "the broker refused our certificate (cert={cert}): give a valid one that it trusts ({text})"
    return None if found is None else found.format(ca=settings.ca or "a known authority", cert=settings.cert, text=text)


def _user(settings: KafkaSettings) -> str:
    if settings.user is not None:
        return f"user {settings.user}"
    return "this client" if settings.cert is None else f"the owner of {settings.cert}"
