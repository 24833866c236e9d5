"""Apache Kafka for development and tests: one KRaft node, or three, on this machine's loopback.

    python -m deploy.kafka.broker up [--nodes 3] [--folder DIR] [--port 9092]
    python -m deploy.kafka.broker status
    python -m deploy.kafka.broker down

In tests: ``with Broker(folder) as broker: ...``. Its nodes then end with the process that started them.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.kafka.java import BrokerError, fetch_jars, find_java
from deploy.kafka.node import HEAP_MB, Node, together
from deploy.kafka.settings import CONTROLLER, EXPIRED, INTERNAL, MUTUAL, SECURE, NodePlan, Security, node_properties
from discover_stream.types import DiscoverError

HOST = "127.0.0.1"
FREE_PORTS = range(20_000, 32_000)
"""Below the ports that systems hand to outgoing connections: one may not vanish while its node is down."""
DEFAULT_FOLDER = Path("runs/kafka")
DEFAULT_PORT = 9092


@dataclass(frozen=True)
class Plan:
    """What a broker is across restarts: kept in its folder."""

    cluster: str
    ports: tuple[dict[str, int], ...]

    @classmethod
    def load(cls, path: Path) -> Plan | None:
        """The plan in a file; None when there is none. Raises BrokerError for a damaged one."""
        try:
            found = json.loads(path.read_text())
            return cls(found["cluster"], tuple({str(k): int(v) for k, v in node.items()} for node in found["ports"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokerError(f"{path} is not readable as a broker's plan: delete {path.parent} ({error})") from error

    def save(self, path: Path) -> None:
        """Keep the plan in a file. Raises BrokerError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"cluster": self.cluster, "ports": self.ports}, indent=1) + "\n")
        except OSError as error:
            raise BrokerError(f"Kafka cannot keep its files in {path.parent}: {error.strerror}") from error


class Broker:
    """One to three nodes in `folder`, each both broker and controller. Started by `with`, or by `start`.

    A folder keeps its data, ports and cluster over restarts. With three nodes, topics that do not say
    otherwise have three copies of which two must be in sync; so have Kafka's own topics.
    """

    def __init__(
        self,
        folder: Path | str,
        nodes: int = 1,
        security: Security | None = None,
        *,
        port: int | None = None,
        guarded: bool = True,
        heap_mb: int = HEAP_MB,
    ) -> None:
        """Nodes are numbered from 0, and so are their ids in Kafka. `port` is that of node 0 for clients,
        node 1 has the next; without it, free ones are taken. `guarded` nodes end with this process.

        Nothing is started or written yet. Raises BrokerError for other numbers of nodes, and for a folder
        that holds a different broker.
        """
        if nodes not in (1, 3):
            raise BrokerError(f"{nodes} Kafka nodes: one, or three, of which one may fail")
        self.folder = Path(folder).resolve()
        self._security = security
        self._heap_mb = heap_mb
        self.plan = self._load_or_make_plan(nodes, port)
        self.nodes = tuple(
            Node(NodePlan(number, self.folder / f"node-{number}", ports), guarded=guarded)
            for number, ports in enumerate(self.plan.ports)
        )

    @cached_property
    def _java(self) -> list[str]:
        """The command that starts Java with Kafka's jars. Raises KafkaUnavailable."""
        command = [str(find_java()), f"-Xmx{self._heap_mb}m", "-Xms64m", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
        command += ["-Djava.awt.headless=true"]
        logger = {"defaultLogLevel": "info", "showDateTime": "true", "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS"}
        command += [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logger.items()]
        return [*command, "-cp", f"{fetch_jars()}/*"]

    @classmethod
    def of_folder(cls, folder: Path) -> Broker:
        """The broker without security that `folder` holds. Raises BrokerError when it holds none."""
        plan = Plan.load(folder / "broker.json")
        if plan is None:
            raise BrokerError(f"no Kafka in {folder}: start one with make kafka, or name its folder with --folder")
        return cls(folder, len(plan.ports), guarded=False)

    def _load_or_make_plan(self, nodes: int, port: int | None) -> Plan:
        path = self.folder / "broker.json"
        names = (INTERNAL, CONTROLLER, *(self._security.listeners if self._security else ()))
        plan = Plan.load(path)
        if plan is None:
            taken = {port + node for node in range(nodes)} if port else set()
            ports = []
            for node in range(nodes):
                free = {name: take_free_port(taken) for name in names}
                ports.append(free | ({INTERNAL: port + node} if port else {}))
            plan = Plan(cluster_id(), tuple(ports))
        if len(plan.ports) != nodes or set(plan.ports[0]) != set(names) or port not in (None, plan.ports[0][INTERNAL]):
            raise BrokerError(
                f"{self.folder} holds a broker with {len(plan.ports)} node(s) on port {plan.ports[0][INTERNAL]} and "
                f"listeners {', '.join(plan.ports[0])}: ask for the same, or choose another folder (or delete it)"
            )
        return plan

    def start(self, timeout_s: float = 120.0) -> None:
        """Start every node that is not running, and wait until all take requests.

        Raises KafkaUnavailable without Java or jars, BrokerError for a port that is taken or a node that ends.
        """
        for node in self.nodes:
            if node.process() is None:
                check_ports(node.plan.ports)
        java = self._java  # before anything is written
        self.plan.save(self.folder / "broker.json")
        try:
            together([partial(self._format, node) for node in self.nodes])
            for node in self.nodes:
                if node.process() is None:
                    node.launch(java)
            for node in self.nodes:
                node.wait_ready(timeout_s)
        except BaseException:
            self.close(hard=True)
            raise

    def _format(self, node: Node) -> None:
        quorum = {number: ports[CONTROLLER] for number, ports in enumerate(self.plan.ports)}
        users = self._security.users if self._security else {}
        node.format(self._java, self.plan.cluster, node_properties(node.plan, quorum, self._security), users)

    def _addresses(self, listener: str) -> str:
        if listener not in self.plan.ports[0]:
            raise BrokerError(f"this broker has no listener {listener}: give it a Security that adds it")
        return ",".join(f"{HOST}:{ports[listener]}" for ports in self.plan.ports)

    @property
    def bootstrap(self) -> str:
        """``127.0.0.1:PORT[,...]`` of the plain listener: no TLS, no password, may do everything."""
        return self._addresses(INTERNAL)

    @property
    def secure(self) -> str:
        """The listener with TLS and SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER)."""
        return self._addresses(SECURE)

    @property
    def mutual(self) -> str:
        """The listener with TLS where clients show a certificate too."""
        return self._addresses(MUTUAL)

    @property
    def expired(self) -> str:
        """The listener like `secure` whose certificate has run out."""
        return self._addresses(EXPIRED)

    @property
    def pids(self) -> dict[int, int]:
        """Number of each running node -> its process id."""
        running = {node.plan.node: node.process() for node in self.nodes}
        return {number: process.pid for number, process in running.items() if process is not None}

    def stop_node(self, number: int, *, hard: bool = True) -> None:
        """Kill a node (SIGKILL), or ask it to hand its work over and end (SIGTERM). Returns when it is gone."""
        self.nodes[number].stop(hard=hard)

    def start_node(self, number: int, *, wait: bool = True, timeout_s: float = 120.0) -> None:
        """Start a stopped node on its data. Waiting needs a quorum: two of three. Raises BrokerError."""
        node = self.nodes[number]
        if node.process() is None:
            check_ports(node.plan.ports)
            node.launch(self._java)
        if wait:
            node.wait_ready(timeout_s)

    def close(self, *, hard: bool = False) -> None:
        """Stop all nodes. `hard` is faster, and leaves the logs to be checked at the next start."""
        # The last node of three would wait in vain for a quorum to hand its partitions to: do not wait long.
        together(
            [partial(node.stop, hard=hard, timeout_s=30.0 if len(self.nodes) == 1 else 5.0) for node in self.nodes]
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take_free_port(taken: set[int]) -> int:
    """A port nobody listens on and that is not in `taken`, to which it is added. Raises BrokerError."""
    for port in random.sample(FREE_PORTS, 200):
        if port not in taken and port_is_free(port):
            taken.add(port)
            return port
    raise BrokerError(f"200 ports tried between {FREE_PORTS.start} and {FREE_PORTS.stop} are all taken on {HOST}")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a port of loopback."""
    with socket.socket() as probe:
        # As servers do, so that connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def cluster_id() -> str:
    """A new cluster's name, as Kafka makes them: 16 random bytes in base64. It never starts with a dash, which
    the storage tool would take for an option."""
    while (found := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return found


def check_ports(ports: Mapping[str, int]) -> None:
    """Raises BrokerError for the first port of a node that is taken."""
    for name, port in ports.items():
        if not port_is_free(port):
            raise BrokerError(
                f"port {port} on {HOST} is taken (Kafka's {name.lower()} listener): stop what uses it, "
                "or choose another with --port and another --folder"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status: 0, or 1 with one line on what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka.broker", description="Apache Kafka on loopback.")
    parser.add_argument("action", choices=["up", "down", "status"])
    parser.add_argument("--nodes", type=int, default=1, help="1 (default) or 3")
    parser.add_argument("--folder", type=Path, help=f"default: {DEFAULT_FOLDER}-NODES; down and status: all of these")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"of the first node; default: {DEFAULT_PORT}")
    options = parser.parse_args(arguments)
    try:
        if options.action == "up":
            return up(options.folder or Path(f"{DEFAULT_FOLDER}-{options.nodes}"), options.nodes, options.port)
        found = DEFAULT_FOLDER.parent.glob(f"{DEFAULT_FOLDER.name}-*/broker.json")
        folders = [options.folder] if options.folder else sorted(path.parent for path in found)
        if not folders:
            say(f"no Kafka in {DEFAULT_FOLDER}-*: start one with make kafka")
            return 0 if options.action == "down" else 1
        return max([down(folder) if options.action == "down" else status(folder) for folder in folders])
    except DiscoverError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def up(folder: Path, nodes: int, port: int) -> int:
    """Start a broker that outlives this process."""
    broker = Broker(folder, nodes, port=port, guarded=False)
    broker.start()
    say(f"Kafka is up at kafka:{broker.bootstrap}, logs and data in {folder}; stop it with: make kafka-stop")
    return 0


def down(folder: Path) -> int:
    """Stop the broker of a folder."""
    broker = Broker.of_folder(folder)
    ran = len(broker.pids)
    broker.close()
    say(f"Kafka in {folder} stopped ({ran} of {len(broker.nodes)} node(s) ran); its data stays there")
    return 0


def status(folder: Path) -> int:
    """Say which nodes of a folder run; 1 unless all do."""
    broker = Broker.of_folder(folder)
    for node in broker.nodes:
        pid = broker.pids.get(node.plan.node)
        state = f"runs, pid {pid}" if pid else "does not run"
        say(f"{folder} node {node.plan.node} {state}, {HOST}:{node.plan.ports[INTERNAL]}, log {node.log}")
    return 0 if len(broker.pids) == len(broker.nodes) else 1


def say(line: str) -> None:
    """One line for people."""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
