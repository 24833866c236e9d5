"""Clients of a Kafka cluster: made when they are needed, shared where that is safe, one set per process.

Of kafka-python's clients, administration and single sends may be used by several threads at once; a consumer
or a transactional producer belongs to the reader or stage that made it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.record import util as checksums

from topics.kafka_errors import MAX_BATCH_BYTES, explain, is_passing, refused
from topics.kafka_knock import knocking_client
from topics.kafka_settings import KafkaSettings
from topics.log import LogError

CONNECT_S = 8.0
"""How long a broker may take to answer at all, in seconds: as long as one takes to start."""
ANSWER_S = 20.0
"""How long a question may wait for a broker that moves or restarts, in seconds."""
TRANSACTION_S = 40.0
"""After this, the broker aborts the transaction of a process that died inside a commit, in seconds."""

_MIB = 1024 * 1024
_OLDEST = (3, 0)  # older ones may let a fenced producer take its stage back
_FETCH_WAIT_MS = 1
_NEXT_COORDINATOR_S = 0.05  # between two questions who took over the work of a broker that is gone
_NEXT_TRANSACTION_MS = 3  # the next one is refused until the markers of the last one are written
_FETCH_BYTES = 16 * _MIB

Answer = TypeVar("Answer")

# Without a handler, Python prints warnings of libraries: every reconnection of every client.
logging.getLogger("kafka").addHandler(logging.NullHandler())


def check_checksums() -> None:
    """Raise LogError unless kafka-python computes CRC-32C in compiled code (20 times as fast)."""
    function = checksums.calc_crc32c.__defaults__[0]
    if function is checksums.crc32c_py or hasattr(function, "__code__"):
        raise LogError(
            "log kafka: checksums would be computed in Python, 20 times slower: pip install 'kafka-python[crc32c]'"
        )
    if checksums.calc_crc32c(b"123456789") != 0xE3069283:
        raise LogError("log kafka: the installed crc32c computes wrong checksums: pip install --force-reinstall crc32c")


class _NetClient(KafkaNetClient):  # type: ignore[misc]  # kafka-python has no types
    """What kafka-python 3.0.12 gets wrong between its producers and their connections, mended."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cluster.config["allow_auto_create_topics"] = False  # the option of the same name gets lost

    def await_ready(self, node_id: object, timeout_ms: float = 30_000) -> bool:
        """Whether a node can be asked now. Where this raised, a sender would forget what it had to ask."""
        try:
            return bool(super().await_ready(node_id, timeout_ms))
        except KafkaError:
            time.sleep(_NEXT_COORDINATOR_S)
            return False


class QuietProducer(KafkaProducer):  # type: ignore[misc]  # kafka-python has no types
    """A producer that is let go of in silence: when a process ends while brokers are away, kafka-python would print a
    traceback for what it could not send, which somebody else tells already."""

    def __del__(self) -> None:
        with suppress(Exception):
            super().__del__()


class StageProducer(QuietProducer):
    """A transactional producer whose every step ends within a time."""

    @property
    def last_error(self) -> KafkaError | None:
        """What made the current transaction fail."""
        found = self._transaction_manager.last_error
        return found if isinstance(found, KafkaError) else None

    def settle_offsets(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: str, wait_s: float) -> None:
        """Like `send_offsets_to_transaction`. Raises KafkaTimeoutError."""
        self._wait(self._transaction_manager.send_offsets_to_transaction(dict(offsets), group), wait_s)

    def settle_commit(self, wait_s: float) -> None:
        """Like `commit_transaction`. Raises KafkaTimeoutError: whether it was committed is then not known."""
        self._wait(self._transaction_manager.begin_commit(), wait_s)

    def settle_abort(self, wait_s: float) -> None:
        """Like `abort_transaction`, and get ready for another one. Raises KafkaTimeoutError, ProducerFencedError.

        A record that the broker refused leaves a hole in the numbers by which it finds repeated ones, so
        that it would refuse all that follow: a new epoch, given to nobody but the present holder, starts anew.
        """
        manager = self._transaction_manager
        deadline = time.monotonic() + wait_s
        self._wait(manager.begin_abort(), wait_s)
        manager.bump_producer_id_and_epoch()
        self._sender.wakeup()
        while manager.is_bumping_epoch():
            if time.monotonic() >= deadline:
                raise KafkaTimeoutError(f"no answer within {wait_s:.0f} s")
            time.sleep(0.001)
        if manager.has_fatal_error():
            raise manager.last_error

    def _wait(self, result: Any, wait_s: float) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=max(1.0, wait_s * 1000)):
            raise KafkaTimeoutError(f"no answer within {wait_s:.0f} s")


class KafkaClients:
    """What one log uses to talk to its cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Nothing is connected yet. Raises LogError without compiled checksums."""
        check_checksums()
        self.settings = settings
        self._lock = threading.RLock()
        self._closed = False
        self._version: tuple[int, ...] | None = None
        self._admin: KafkaAdminClient | None = None
        self._lookup: KafkaConsumer | None = None
        self._producer: QuietProducer | None = None

    def admin(self) -> KafkaAdminClient:
        """The administration client, connected. Raises LogError for a broker that is absent or refuses us."""
        self._check_open()
        with self._lock:
            if self._admin is None:
                self._admin = self._connect()
                self._version = self._admin._manager.broker_version
                if self._version < _OLDEST:
                    found = ".".join(map(str, self._version))
                    raise LogError(f"log kafka:{self.settings.place}: runs Kafka {found}: use 3.0 or newer")
            return self._admin

    def ask(self, what: str, question: Callable[[KafkaAdminClient], Answer], wait_s: float = ANSWER_S) -> Answer:
        """The answer to a question that may be put again, waiting for brokers that move or restart.

        Raises LogError.
        """
        deadline = time.monotonic() + wait_s
        while True:
            admin = self.admin()
            try:
                return question(admin)
            except KafkaError as error:
                if not is_passing(error) or time.monotonic() >= deadline:
                    raise explain(error, what, self.settings, wait_s) from error
                time.sleep(0.1)
                self._renew(admin)
            except RuntimeError as error:  # another thread has renewed, or closed, this client
                if self._closed:
                    raise self._closed_error() from error
                if time.monotonic() >= deadline:
                    raise explain(error, what, self.settings, wait_s) from error
                time.sleep(0.02)

    def consumer(self, **options: Any) -> KafkaConsumer:
        """A new consumer of committed records, without a group; `options` win.

        It sends one request at a time, and that waits for records: a seek, or a partition whose records have
        been taken, waits as long. So this is short unless `options` say otherwise.
        """
        self.admin()  # says clearly what is wrong, and knows the version, so that this does not connect yet
        wanted = {
            "isolation_level": "read_committed",
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "fetch_max_wait_ms": _FETCH_WAIT_MS,
            "max_partition_fetch_bytes": MAX_BATCH_BYTES,
            "fetch_max_bytes": _FETCH_BYTES,
            "metrics_enabled": False,
        }
        return KafkaConsumer(**self._options(), **(wanted | options))

    def lookup(self) -> KafkaConsumer:
        """The consumer that answers where offsets are; its methods about offsets may be used by any thread."""
        self._check_open()
        with self._lock:
            if self._lookup is None:
                self._lookup = self.consumer()
            return self._lookup

    def look(self, what: str, question: Callable[[KafkaConsumer], Answer]) -> Answer:
        """The answer of the consumer that knows where offsets are. Raises LogError."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            consumer = self.lookup()
            try:
                return question(consumer)
            except KafkaError as error:
                denied = consumer._client.cluster.unauthorized_topics  # about these it asks on until it is too late
                if denied and isinstance(error, KafkaTimeoutError):
                    reason = TopicAuthorizationFailedError(denied)
                    raise explain(reason, f"topic {', '.join(denied)}", self.settings) from error
                raise explain(error, what, self.settings, ANSWER_S) from error
            except (KeyError, RuntimeError) as error:
                # It knows a topic of before by this name, or another thread has just renewed it.
                if self._closed or time.monotonic() >= deadline:
                    raise LogError(f"log kafka:{self.settings.place}, {what}: no such partition ({error})") from error
                time.sleep(0.02)
                self.forget(consumer)

    def producer(self) -> QuietProducer:
        """The idempotent producer of single records, for all threads."""
        self._check_open()
        self.admin()
        with self._lock:
            if self._producer is None:
                self._producer = QuietProducer(**self._options(), **self._producer_options())
            return self._producer

    def forget(self, client: KafkaConsumer | QuietProducer | None = None) -> None:
        """Let go of what remembers topics: one client, or both of those that are shared."""
        with self._lock:
            if self._lookup is not None and client in (None, self._lookup):
                quietly_close(self._lookup)
                self._lookup = None
            if self._producer is not None and client in (None, self._producer):
                quietly_close(self._producer, timeout=2)
                self._producer = None

    def stage_producer(self, transactional_id: str) -> StageProducer:
        """A new transactional producer, not yet initialised."""
        self.admin()
        return StageProducer(
            **(self._options() | {"retry_backoff_ms": _NEXT_TRANSACTION_MS}),
            **self._producer_options(),
            transactional_id=transactional_id,
            transaction_timeout_ms=int(TRANSACTION_S * 1000),
        )

    def close(self) -> None:
        """Close what this process has opened here."""
        with self._lock:
            self._closed = True
            for client in (self._lookup, self._admin):
                quietly_close(client)
            if self._producer is not None:
                quietly_close(self._producer, timeout=2)
            self._admin = self._lookup = self._producer = None

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> LogError:
        return LogError(f"log kafka:{self.settings.place}: is closed; open it again")

    def _options(self) -> dict[str, Any]:
        return self.settings.client_options() | {
            "api_version": self._version,
            "bootstrap_timeout_ms": int(CONNECT_S * 1000),
            "reconnect_backoff_max_ms": 500,
            "retry_backoff_ms": 20,
            "client_id": f"discover-stream-{os.getpid()}",
            "kafka_client": _NetClient,
        }

    def _producer_options(self) -> dict[str, Any]:
        return {
            "acks": "all",
            "linger_ms": 0,
            "batch_size": _MIB,
            "max_request_size": MAX_BATCH_BYTES,
            "request_timeout_ms": int(ANSWER_S * 500),
            "delivery_timeout_ms": int(ANSWER_S * 1000),
            "max_block_ms": int(ANSWER_S * 1000),
            "metrics_enabled": False,
        }

    def _connect(self) -> KafkaAdminClient:
        options = self._options() | {"api_version": None, "request_timeout_ms": 10_000}
        if self.settings.tls or self.settings.sasl is not None:
            self._knock(options)
        try:
            return KafkaAdminClient(**options)
        except KafkaError as error:
            raise explain(error, "connecting", self.settings, CONNECT_S) from error

    def _knock(self, options: dict[str, Any]) -> None:
        """Raise LogError when a broker refuses us: a client would go on trying and say only that it took long."""
        client = knocking_client(options)
        manager = client._manager
        try:
            for broker in manager.cluster.bootstrap_brokers():
                try:
                    manager.run(_handshake, manager, broker.node_id)
                except Exception as error:
                    reason = refused(error, self.settings)
                    if reason is not None:
                        raise reason from None  # what the client says may hold what it sent
                else:
                    return
        finally:
            client.close()

    def _renew(self, admin: KafkaAdminClient) -> None:
        """Forget a client that may hold on to a coordinator or a leader of before."""
        with self._lock:
            if self._admin is admin:
                self._admin = None
                quietly_close(admin)


async def _handshake(manager: Any, node: object) -> None:
    connection = manager.get_connection(
        node, timeout_ms=CONNECT_S * 1000, pop_on_close=False, refresh_metadata_on_err=False
    )
    await connection


def quietly_close(client: Any, **options: Any) -> None:
    """Close a client whose connections may be broken."""
    if client is not None:
        with suppress(KafkaError, OSError, RuntimeError, AssertionError):
            client.close(**options)
