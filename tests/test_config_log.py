from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from discover_stream.config import LogConfig, load_config, parse_config
from discover_stream.types import InputError
from topics.kafka_settings import KafkaSettings

CAMERA = "cameras: [{name: a, source: clip.mp4}]\n"
WHOLE = """
log:
  kafka:
    brokers: ["kafka-1.example:9093", "[2001:db8::2]:9093"]
    prefix: east.
    replication: 3
    tls: {ca: keys/ca.pem, cert: keys/me.pem, key: keys/me.key, key_password_file: keys/key password}
    sasl: {mechanism: scram-sha-512, user: "camera&co", password_env: FLEET_PASSWORD}
"""


def log_of(text: str) -> LogConfig:
    return parse_config(CAMERA + text, "c.yaml").log


def test_without_a_place_the_log_is_a_file() -> None:
    for text in ("", "log: {}", "log: {partitions: 2}", "log: {path: null, kafka: null}"):
        assert log_of(text).url == "sqlite:out/discover.db"
    assert log_of("log: {path: mine.db}").url == "sqlite:mine.db"


def test_the_address_of_brokers_names_every_setting_and_no_secret() -> None:
    assert log_of("log: {kafka: {brokers: ['127.0.0.1:9092']}}").url == "kafka:127.0.0.1:9092"
    assert log_of(WHOLE).url == (
        "kafka:kafka-1.example:9093,[2001:db8::2]:9093?prefix=east.&replication=3&tls=yes&ca=keys/ca.pem"
        "&cert=keys/me.pem&key=keys/me.key&key_password_file=keys/key%20password"
        "&sasl=scram-sha-512&user=camera%26co&password_env=FLEET_PASSWORD"
    )
    bearer = "log: {kafka: {brokers: ['b:1'], tls: {}, sasl: {mechanism: oauthbearer, token: 'fleet.auth:token'}}}"
    assert log_of(bearer).url == "kafka:b:1?tls=yes&sasl=oauthbearer&token=fleet.auth:token"


@pytest.mark.parametrize("text", ["", "log: {path: mine.db}", WHOLE, "log: {kafka: {brokers: ['b:1'], tls: {}}}"])
def test_what_is_written_down_is_read_again(text: str) -> None:
    config = parse_config(CAMERA + text, "c.yaml")
    for dumped in (config.model_dump(mode="json"), config.model_dump(mode="json", exclude_none=True)):
        assert parse_config(yaml.safe_dump(dumped), "again") == config


@pytest.mark.parametrize(
    "text",
    [
        "log: {kafka: {brokers: ['b:1']}}",
        "log: {kafka: {brokers: ['b:1'], tls: {}}}",
        "log: {kafka: {brokers: ['b:1', 'c:2'], tls: {ca: 'a+b=c, d%.pem'}}}",
        WHOLE,
    ],
)
def test_the_log_understands_the_address(text: str) -> None:
    url = log_of(text).url
    assert KafkaSettings.parse(url).address() == url


def test_paths_become_absolute() -> None:
    folder = Path("/fleet")
    assert log_of("").anchored(folder).url == "sqlite:/fleet/out/discover.db"
    moved = log_of(WHOLE).anchored(folder)
    assert "ca=/fleet/keys/ca.pem&cert=/fleet/keys/me.pem&key=/fleet/keys/me.key" in moved.url
    assert "key_password_file=/fleet/keys/key%20password" in moved.url
    assert moved.anchored(Path("/elsewhere")) == moved


def kafka(text: str) -> str:
    return "log: {kafka: {brokers: ['b:1'], " + text + "}}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log: {path: x, kafka: {brokers: ['b:1']}}", ["either a file ('path') or on brokers ('kafka')", "remove one"]),
        ("log: {kafka: {}}", ["'log.kafka.brokers' is missing"]),
        ("log: {kafka: {brokers: []}}", ["log.kafka.brokers", "at least 1"]),
        ("log: {kafka: {brokers: [localhost]}}", ["log.kafka.brokers.0", "localhost"]),
        (kafka("broker: x"), ["unknown key 'log.kafka.broker'", "did you mean 'brokers'"]),
        (kafka("tls: {authority: x}"), ["unknown key 'log.kafka.tls.authority'", "known keys there: ca, cert"]),
        (kafka("prefix: 'Ä'"), ["log.kafka.prefix"]),
        (kafka("replication: 0"), ["log.kafka.replication", "greater than or equal to 1"]),
        (kafka("tls: {cert: x}"), ["log.kafka.tls", "both 'cert' and 'key'"]),
        (kafka("tls: {key_password_env: X}"), ["needs a 'key'"]),
        (kafka("sasl: {mechanism: gssapi, user: x}"), ["log.kafka.sasl.mechanism", "scram-sha-512"]),
        (kafka("sasl: {mechanism: plain, user: x}"), ["plain needs 'user', and 'password_env' or 'password_file'"]),
        (kafka("sasl: {mechanism: plain, password_env: X}"), ["plain needs 'user'"]),
        (kafka("sasl: {mechanism: plain, user: x, token: 'a:b'}"), ["'token' belongs to oauthbearer"]),
        (kafka("sasl: {mechanism: oauthbearer, user: x}"), ["oauthbearer takes 'token'"]),
        (
            kafka("sasl: {mechanism: plain, user: x, password_env: X, password_file: y}"),
            ["'password_env' and 'password_file' both name the password"],
        ),
    ],
)
def test_mistakes_are_told_in_one_line(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        log_of(text)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["c.yaml", *words]:
        assert word in message


@pytest.mark.parametrize(
    "text",
    [
        kafka("sasl: {mechanism: plain, user: x, password: hunter2-}"),
        kafka("sasl: {mechanism: plain, user: x, password_env: hunter2-}"),
        kafka("sasl: {mechanism: plain, user: x, passwrd: hunter2-}"),
        kafka("tls: {ca: x, cert: x, key: x, key_password: hunter2-}"),
        "log: {kafka: {brokers: ['x:hunter2-@b:1']}}",
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError) as caught:
        log_of(text)
    assert "hunter2" not in str(caught.value)
    if " password:" in text or "key_password:" in text:
        assert "environment variable" in str(caught.value)
        assert "password_file'" in str(caught.value)


def test_the_packaged_fleet_differs_from_the_default_in_its_log_alone() -> None:
    from importlib import resources

    fleet = load_config(Path(str(resources.files("discover_stream") / "configs" / "fleet.yaml")))
    assert fleet.log.kafka is not None
    assert fleet.log.url.startswith("kafka:127.0.0.1:")
    assert fleet.model_copy(update={"log": load_config().log}) == load_config()
