"""A first connection that brings back what a broker says when it refuses us.

kafka-python 3.0.12 drops what it has received together with the end of a connection, and a broker sends its
refusal of a password right before that end. So a wrong password would look like a broker that is not there.
"""

from __future__ import annotations

import logging
from typing import Any

from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

# At the level DEBUG these write what they send, passwords and tokens too.
for _name in ("kafka.protocol.parser", "kafka.net.connection"):
    logging.getLogger(_name).setLevel(logging.INFO)


class _Manager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python has no types
    """Makes connections that hand over the last bytes before they tell of the end."""

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        receive = transport._sock_recv

        def receive_all() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the next call meets the same end

        transport._sock_recv = receive_all
        return transport


def knocking_client(options: dict[str, Any]) -> KafkaNetClient:
    """A client to try connections with, closed by the caller; `options` are those of other clients."""
    net = NetworkSelector(**options)
    return KafkaNetClient(net, _Manager(net, **options))
