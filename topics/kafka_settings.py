"""Addresses of logs on a Kafka cluster: ``kafka:HOST:PORT[,HOST:PORT...][?name=value&...]``.

An address says where secrets are, never what they are, so it can be printed and handed to other processes.
They are read from their environment variable or file each time a client is made, so a changed one is met by
the next client. Values are percent-encoded where they hold ``%``, ``&``, ``+``, ``=`` or blanks.
"""

from __future__ import annotations

import importlib
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote

from topics.log import LogError

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,40}")
_WITH_PASSWORD = {"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"}
_MECHANISMS = _WITH_PASSWORD | {"oauthbearer": "OAUTHBEARER"}
_EXAMPLE = "kafka:localhost:9092 or kafka:a:9093,b:9093?tls=yes&ca=ca.pem"


class Secret(str):
    """A text that shows as stars where a program prints what it was configured with."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach a cluster, as its address says it.

    `servers` are any of its brokers, as ``HOST:PORT``. `prefix` stands before the names of topics, groups and
    transactional ids, so that several systems can share a cluster. `replication` is how many copies new topics
    get. `ca`, `cert` and `key` are PEM files; `user` and a password go with the SASL mechanisms that take
    them, `token` (``MODULE:FUNCTION`` without arguments, called for every connection) with oauthbearer.
    """

    servers: tuple[str, ...]
    prefix: str = ""
    replication: int = 1
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password_env: str | None = field(default=None, repr=False)
    key_password_file: str | None = field(default=None, repr=False)
    sasl: str | None = None
    user: str | None = None
    password_env: str | None = field(default=None, repr=False)
    password_file: str | None = field(default=None, repr=False)
    token: str | None = None

    def __post_init__(self) -> None:
        for server in self.servers:
            found = _SERVER.fullmatch(server)
            if found is None or not 0 < int(found[2]) < 65536:
                raise self._error(f"{server!r} is not HOST:PORT")
        if not self.servers:
            raise self._error("it names no broker")
        if not _PREFIX.fullmatch(self.prefix):
            raise self._error(f"prefix {self.prefix!r}: use at most 40 letters, digits, '.', '_' and '-'")
        if not 1 <= self.replication <= 32:
            raise self._error(f"replication {self.replication}: use 1 to 32 copies, 3 in production")
        self._check_tls()
        self._check_sasl()

    @classmethod
    def parse(cls, address: str) -> Self:
        """Settings from an address. Raises LogError naming the part that is wrong."""
        kind, separator, rest = address.partition(":")
        place, _, query = rest.partition("?")
        if kind != "kafka" or not separator:
            raise LogError(f"log address {address!r}: is none of a Kafka cluster; use for instance {_EXAMPLE}")
        if "@" in place:  # what stands before it is not repeated
            raise LogError(
                "log address kafka:...: brokers are HOST:PORT without user or password; name those with user= and "
                "password_env= or password_file="
            )
        known = [item.name for item in fields(cls) if item.name != "servers"]
        values: dict[str, Any] = {}
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            # Not what they are, here and below: somebody may have written a password there.
            raise LogError(f"log address kafka:{place}: write options as name=value&name=value") from None
        for name, value in pairs:
            if name not in known or name in values:
                what = "is given twice" if name in values else f"is unknown; options are {', '.join(known)}"
                raise LogError(f"log address kafka:{place}: option {name!r} {what}")
            values[name] = value
        if "replication" in values:
            if not re.fullmatch("[0-9]{1,3}", values["replication"]):
                raise LogError(f"log address kafka:{place}: replication {values['replication']!r} is not a number")
            values["replication"] = int(values["replication"])
        if "tls" in values:
            if values["tls"] not in ("yes", "no"):
                raise LogError(f"log address kafka:{place}: tls {values['tls']!r}: use yes or no")
            values["tls"] = values["tls"] == "yes"
        return cls(tuple(place.split(",")) if place else (), **values)

    def address(self) -> str:
        """The address that parses to these settings."""
        pairs = []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "servers" or value == item.default:
                continue
            text = "yes" if value is True else str(value)
            pairs.append(f"{item.name}={quote(text, safe='/:,')}")
        return f"kafka:{self.place}" + ("?" + "&".join(pairs) if pairs else "")

    @property
    def place(self) -> str:
        """The brokers, for messages."""
        return ",".join(self.servers)

    def client_options(self) -> dict[str, Any]:
        """What clients of kafka-python need to connect, secrets read now.

        Raises LogError for a secret, certificate or token function that is not where the address says.
        """
        options: dict[str, Any] = {"bootstrap_servers": list(self.servers), "security_protocol": self._protocol()}
        if self.tls:
            options["ssl_context"] = self._ssl_context()
        if self.sasl is not None:
            options["sasl_mechanism"] = _MECHANISMS[self.sasl]
        if self.sasl == "oauthbearer":
            options["sasl_oauth_token_provider"] = _token_provider(self._token_function())
        elif self.sasl is not None:
            options["sasl_plain_username"] = self.user
            options["sasl_plain_password"] = self._secret("password", self.password_env, self.password_file)
        return options

    def _protocol(self) -> str:
        if self.sasl is None:
            return "SSL" if self.tls else "PLAINTEXT"
        return "SASL_SSL" if self.tls else "SASL_PLAINTEXT"

    def _check_tls(self) -> None:
        given = [name for name in ("ca", "cert", "key", "key_password_env", "key_password_file") if getattr(self, name)]
        if given and not self.tls:
            raise self._error(f"{given[0]} needs tls=yes")
        if (self.cert is None) != (self.key is None):
            raise self._error("cert and key go together")
        if self.key_password_env and self.key_password_file:
            raise self._error("give key_password_env or key_password_file, not both")

    def _check_sasl(self) -> None:
        if self.sasl is None:
            if self.user or self.password_env or self.password_file or self.token:
                raise self._error(f"user, password and token need sasl=, one of {', '.join(_MECHANISMS)}")
        elif self.sasl not in _MECHANISMS:
            raise self._error(f"sasl {self.sasl!r}: use one of {', '.join(_MECHANISMS)}")
        elif self.sasl == "oauthbearer":
            if not self.token or not re.fullmatch(r"[\w.]+:\w+", self.token):
                raise self._error("sasl=oauthbearer needs token=MODULE:FUNCTION")
        elif not self.user or bool(self.password_env) == bool(self.password_file):
            raise self._error(f"sasl={self.sasl} needs user, and password_env or password_file")

    def _ssl_context(self) -> ssl.SSLContext:
        for name, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if path is not None and not Path(path).is_file():
                raise self._error(f"{name}: there is no file {path}")
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            raise self._error(f"ca: {self.ca} holds no PEM certificates") from error
        if self.cert is not None:
            password = ""
            if self.key_password_env or self.key_password_file:
                password = self._secret("key_password", self.key_password_env, self.key_password_file)
            try:
                # Without a password given, OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.cert, self.key, password=lambda: password)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise self._error(f"cert {self.cert} and key {self.key} cannot be used: {_reason(error)}") from None
        return context

    def _secret(self, name: str, variable: str | None, path: str | None) -> Secret:
        if variable is not None:
            if not os.environ.get(variable):
                raise self._error(f"{name}_env: set the environment variable {variable}")
            return Secret(os.environ[variable])
        try:
            found = Path(path or "").read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(f"{name}_file: cannot read {path} ({_reason(error)})") from None
        if not found:
            raise self._error(f"{name}_file: {path} is empty")
        return Secret(found)

    def _token_function(self) -> Callable[[], str]:
        module, _, name = (self.token or "").partition(":")
        try:
            found: Callable[[], str] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise self._error(f"token: cannot import {self.token} ({error})") from error
        if not callable(found):
            raise self._error(f"token: {self.token} is not a function")
        return found

    def _error(self, what: str) -> LogError:
        return LogError(f"log address kafka:{self.place}: {what}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "wrong or missing password, or no PEM").replace("_", " ").lower()
    return (error.strerror or type(error).__name__).lower() if isinstance(error, OSError) else type(error).__name__


def _token_provider(function: Callable[[], str]) -> object:
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Provider(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
        def token(self) -> str:
            return function()

    return Provider()
