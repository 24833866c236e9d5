"""The first connection tells what a broker said last, however fast it hangs up; what it sends is not logged."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.errors import ClusterAuthorizationFailedError

from topics.kafka_client import _handshake
from topics.kafka_knock import knocking_client

REFUSAL = bytes.fromhex(
    "0000000a"  # ten bytes follow
    "00000001"  # the answer to the first request
    "001f"  # error 31: not authorized
    "00000000"  # a list of nothing
)


@contextmanager
def broker_that_hangs_up() -> Iterator[int]:
    """Its port. Says REFUSAL and ends its side at once, so that a client finds both together."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            connection, _ = server.accept()
            connection.sendall(REFUSAL)
            connection.shutdown(socket.SHUT_WR)
            held.append(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()
        held[0].close()


def test_the_last_words_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with broker_that_hangs_up() as port:
        client: Any = knocking_client({"bootstrap_servers": [f"127.0.0.1:{port}"], "client_id": "spoken-aloud"})
        try:
            manager = client._manager
            (broker,) = manager.cluster.bootstrap_brokers()
            with pytest.raises(ClusterAuthorizationFailedError):
                manager.run(_handshake, manager, broker.node_id)
        finally:
            client.close()
    assert "spoken-aloud" not in "".join(record.getMessage() for record in caplog.records if "protocol" in record.name)
    assert not [record for record in caplog.records if record.name == "kafka.protocol.parser"]
