from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics import open_log
from topics.kafka_settings import KafkaSettings, Secret
from topics.log import LogError

FULL = (
    "kafka:a.example:9093,[::1]:9094?prefix=site1.&replication=3&tls=yes&ca=/etc/ca.pem&cert=c.pem&key=k.pem"
    "&key_password_env=KEY&sasl=scram-sha-512&user=encode%20%26%201&password_file=/run/pass"
)


def test_an_address_says_everything_and_comes_back() -> None:
    settings = KafkaSettings.parse(FULL)
    assert settings == KafkaSettings(
        ("a.example:9093", "[::1]:9094"),
        prefix="site1.",
        replication=3,
        tls=True,
        ca="/etc/ca.pem",
        cert="c.pem",
        key="k.pem",
        key_password_env="KEY",
        sasl="scram-sha-512",
        user="encode & 1",
        password_file="/run/pass",
    )
    assert settings.address() == FULL
    assert KafkaSettings.parse("kafka:localhost:9092").address() == "kafka:localhost:9092"


texts = st.text(min_size=1, max_size=12)


@given(user=texts, file=texts, ca=st.none() | texts, prefix=st.from_regex(r"[A-Za-z0-9._-]{0,9}", fullmatch=True))
def test_any_names_survive_an_address(user: str, file: str, ca: str | None, prefix: str) -> None:
    settings = KafkaSettings(
        ("h:1",), prefix=prefix, tls=ca is not None, ca=ca, sasl="plain", user=user, password_file=file
    )
    assert KafkaSettings.parse(settings.address()) == settings
    assert "\n" not in settings.address()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("kafka:", "no broker|not HOST:PORT"),
        ("kafka:localhost", "'localhost' is not HOST:PORT"),
        ("kafka://localhost:9092", "'//localhost:9092' is not HOST:PORT"),
        ("kafka:localhost:0", "HOST:PORT"),
        ("kafka:localhost:99999", "HOST:PORT"),
        ("kafka:a:1,,b:2", "'' is not HOST:PORT"),
        ("kafka:a:1?prefix", "name=value"),
        ("kafka:a:1?prefix=a/b", "prefix 'a/b'"),
        ("kafka:a:1?replicas=3", "'replicas' is unknown.*replication"),
        ("kafka:a:1?replication=0", "replication 0"),
        ("kafka:a:1?replication=two", "replication 'two'"),
        ("kafka:a:1?tls=true", "use yes or no"),
        ("kafka:a:1?prefix=a&prefix=b", "given twice"),
        ("kafka:a:1?ca=x", "ca needs tls=yes"),
        ("kafka:a:1?tls=yes&cert=x", "cert and key"),
        ("kafka:a:1?user=x", "need sasl="),
        ("kafka:a:1?sasl=gssapi", "'gssapi': use one of plain"),
        ("kafka:a:1?sasl=plain&user=x", "password_env or password_file"),
        ("kafka:a:1?sasl=plain&user=x&password_env=A&password_file=B", "password_env or password_file"),
        ("kafka:a:1?sasl=oauthbearer", "MODULE:FUNCTION"),
    ],
)
def test_mistakes_in_addresses_are_named(address: str, message: str) -> None:
    with pytest.raises(LogError, match=message) as caught:
        open_log(address)
    assert "\n" not in str(caught.value)
    assert "kafka:" in str(caught.value)


def test_a_password_written_into_an_address_is_not_repeated() -> None:
    with pytest.raises(LogError, match="'password' is unknown") as caught:
        open_log("kafka:a:1?sasl=plain&user=x&password=hunter2")
    assert "hunter2" not in str(caught.value)


def test_secrets_are_read_late_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KafkaSettings.parse("kafka:a:1?sasl=plain&user=x&password_env=LOG_PASSWORD")
    with pytest.raises(LogError, match="set the environment variable LOG_PASSWORD"):
        settings.client_options()
    for secret in ("first", "second"):
        monkeypatch.setenv("LOG_PASSWORD", secret)
        options = settings.client_options()
        assert options["sasl_plain_password"] == secret
        assert secret not in repr(settings) + settings.address() + repr(options)
    path = tmp_path / "password"
    settings = KafkaSettings.parse(f"kafka:a:1?sasl=scram-sha-256&user=x&password_file={path}")
    with pytest.raises(LogError, match="cannot read"):
        settings.client_options()
    path.write_text("from a file\n")
    options = settings.client_options()
    assert (options["sasl_plain_password"], options["sasl_mechanism"]) == ("from a file", "SCRAM-SHA-256")
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert f"{Secret('x')!r}" == "'***'"


def test_files_for_tls_that_are_missing_or_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for address, message in (
        (f"kafka:a:1?tls=yes&ca={tmp_path}/none.pem", "ca: there is no file"),
        (f"kafka:a:1?tls=yes&ca={wrong}", "holds no PEM"),
        (f"kafka:a:1?tls=yes&cert={wrong}&key={wrong}", "cannot be used"),
    ):
        with pytest.raises(LogError, match=message) as caught:
            KafkaSettings.parse(address).client_options()
        assert str(tmp_path) in str(caught.value)


def _token() -> str:
    return "token"


def test_the_token_function_is_found_or_named() -> None:
    address = f"kafka:a:1?sasl=oauthbearer&token={__name__}:"
    options = KafkaSettings.parse(address + "_token").client_options()
    assert options["sasl_oauth_token_provider"].token() == "token"
    with pytest.raises(LogError, match="cannot import"):
        KafkaSettings.parse(address + "none").client_options()


@pytest.mark.parametrize(
    "address",
    ["kafka:h:9092?password=hunter2&tls", "kafka:h:9092?password=hunter2", "kafka:me:hunter2@h:9092"],
)
def test_a_password_that_was_written_into_an_address_is_not_repeated(address: str) -> None:
    with pytest.raises(LogError) as raised:
        KafkaSettings.parse(address)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
