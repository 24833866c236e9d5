"""What nodes are told: copies for one node and three, security, and that no password is on a command line."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from deploy.kafka.java import BrokerError
from deploy.kafka.settings import (
    MAX_RECORD_BATCH,
    NodePlan,
    Security,
    node_properties,
    properties_text,
    scram_argument,
)
from topics.kafka_errors import MAX_BATCH_BYTES


@pytest.fixture
def security(tmp_path: Path) -> Security:
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key", "old", "oldkey")}
    for name, path in files.items():
        path.write_text(f"-----BEGIN {name}-----\nabc\n-----END {name}-----\n")
    expired = (files["old"], files["oldkey"])
    return Security(files["ca"], files["cert"], files["key"], expired, {"anna": "s3cret"}, authorizer=True)


def test_one_node_has_one_copy_and_three_have_three(tmp_path: Path) -> None:
    ports = {"INTERNAL": 1001, "CONTROLLER": 1002}
    alone = node_properties(NodePlan(0, tmp_path, ports), {0: 1002})
    assert alone["transaction.state.log.replication.factor"] == alone["offsets.topic.replication.factor"] == "1"
    assert alone["min.insync.replicas"] == alone["transaction.state.log.min.isr"] == "1"
    assert alone["listeners"] == "INTERNAL://127.0.0.1:1001,CONTROLLER://127.0.0.1:1002"
    three = node_properties(NodePlan(2, tmp_path, ports), {0: 7, 1: 8, 2: 1002})
    assert three["transaction.state.log.replication.factor"] == three["offsets.topic.replication.factor"] == "3"
    assert three["min.insync.replicas"] == three["transaction.state.log.min.isr"] == "2"
    assert three["controller.quorum.voters"] == "0@127.0.0.1:7,1@127.0.0.1:8,2@127.0.0.1:1002"
    assert three["node.id"] == "2"


def test_a_broker_takes_what_the_backend_sends(tmp_path: Path) -> None:
    settings = node_properties(NodePlan(0, tmp_path, {"INTERNAL": 1, "CONTROLLER": 2}), {0: 2})
    assert int(settings["message.max.bytes"]) == MAX_RECORD_BATCH == MAX_BATCH_BYTES
    assert "sasl.enabled.mechanisms" not in settings


def test_security_adds_listeners_of_their_own(tmp_path: Path, security: Security) -> None:
    ports = dict(zip(("INTERNAL", "CONTROLLER", *security.listeners), range(5), strict=True))
    settings = node_properties(NodePlan(0, tmp_path, ports), {0: 1}, security)
    assert settings["listener.security.protocol.map"] == (
        "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL"
    )
    assert settings["listener.name.expired.ssl.keystore.key"].startswith(r"-----BEGIN oldkey-----\nabc\n")
    assert settings["listener.name.secure.ssl.keystore.key"].startswith(r"-----BEGIN key-----\nabc\n")
    assert settings["listener.name.mutual.ssl.client.auth"] == "required"
    assert 'user_anna="s3cret"' in settings["listener.name.secure.plain.sasl.jaas.config"]
    assert settings["super.users"] == "User:ANONYMOUS"
    text = properties_text(settings)
    assert len(text.splitlines()) == len(settings), "no value may break its line"


def test_passwords_are_not_in_the_repr(security: Security) -> None:
    assert "s3cret" not in repr(security)


@pytest.mark.parametrize("users", [{"a": 'x"y'}, {"a b": "x"}, {"a": "x\\"}, {"a": ""}, {"a": "x\ny"}])
def test_names_and_passwords_that_a_settings_file_cannot_hold(users: dict[str, str]) -> None:
    with pytest.raises(BrokerError, match="letters") as caught:
        Security(Path("a"), Path("b"), Path("c"), users=users)
    assert 'x"y' not in str(caught.value)


def test_a_user_is_salted_before_a_command_line_names_it() -> None:
    """Against the definition in RFC 5802: Hi() written out."""
    text = scram_argument("SCRAM-SHA-256", "anna", "s3cret")
    assert "s3cret" not in text
    fields = dict(item.split("=", 1) for item in text.removeprefix("SCRAM-SHA-256=[").removesuffix("]").split(","))
    salt, salted = (base64.b64decode(fields[name].strip('"')) for name in ("salt", "saltedpassword"))
    step = hmac.digest(b"s3cret", salt + b"\0\0\0\1", "sha256")
    total = int.from_bytes(step)
    for _ in range(int(fields["iterations"]) - 1):
        step = hmac.digest(b"s3cret", step, "sha256")
        total ^= int.from_bytes(step)
    assert total.to_bytes(hashlib.sha256().digest_size) == salted
