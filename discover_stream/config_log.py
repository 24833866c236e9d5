"""The `log` section of a configuration: one file on a local disk, or Kafka brokers.

An address is all that other processes get to open the log with, and it never holds a secret: passwords are
named by the environment variable or the file that they are in, and read where they are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

_HOURS_BOUND = 24 * 366 * 10.0
_BROKER = r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_FUNCTION = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
_PREFIX = r"^([a-z0-9][a-z0-9._-]{0,39})?$"
DEFAULT_PATH = Path("out/discover.db")

Variable = Annotated[str, Field(pattern=_VARIABLE, max_length=200)]


class Section(BaseModel):
    """Base of all sections: nothing unknown, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetentionConfig(Section):
    """How long records of one kind of topic stay; the tighter rule wins."""

    hours: float = Field(gt=0, le=_HOURS_BOUND, title="Age at which records go, in hours since they were written")
    gib: float = Field(gt=0, le=1_000_000, title="Size of one partition at which its oldest records go, in GiB")


class TlsConfig(Section):
    """Encryption on the way to the brokers; empty for TLS with the authorities that the machine trusts."""

    ca: Path | None = Field(default=None, title="PEM file of the authority that signed the brokers' certificates")
    cert: Path | None = Field(default=None, title="PEM file of this client's certificate, where brokers ask for one")
    key: Path | None = Field(default=None, title="PEM file of the key of that certificate")
    key_password_env: Variable | None = Field(default=None, title="Environment variable with the key's password")
    key_password_file: Path | None = Field(default=None, title="File with the key's password")

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, content: Any) -> Any:
        return _without_secret(content, "key_password")

    @model_validator(mode="after")
    def _complete(self) -> TlsConfig:
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client's certificate needs both 'cert' and 'key'; add the other one")
        _only_one(self.key_password_env, self.key_password_file, "key_password")
        if self.key is None and (self.key_password_env or self.key_password_file):
            raise ValueError("a password of a key needs a 'key'; add the key or remove the password")
        return self


class SaslConfig(Section):
    """Who this client is to the brokers."""

    mechanism: Literal["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"] = Field(
        title="How the client proves who it is"
    )
    user: str | None = Field(default=None, min_length=1, max_length=200, title="Name of the user")
    password_env: Variable | None = Field(default=None, title="Environment variable with the password")
    password_file: Path | None = Field(default=None, title="File with the password")
    token: str | None = Field(
        default=None,
        pattern=_FUNCTION,
        max_length=200,
        title="MODULE:FUNCTION that returns a token, for oauthbearer",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, content: Any) -> Any:
        return _without_secret(content, "password")

    @model_validator(mode="after")
    def _complete(self) -> SaslConfig:
        named = self.user or self.password_env or self.password_file
        if self.mechanism == "oauthbearer":
            if self.token is None or named:
                raise ValueError("oauthbearer takes 'token' (MODULE:FUNCTION) and neither user nor password")
            return self
        if self.token is not None:
            raise ValueError(f"'token' belongs to oauthbearer, not to {self.mechanism}; remove it")
        _only_one(self.password_env, self.password_file, "password")
        if self.user is None or not (self.password_env or self.password_file):
            raise ValueError(f"{self.mechanism} needs 'user', and 'password_env' or 'password_file'; add them")
        return self


class KafkaConfig(Section):
    """The brokers of a fleet's log, and how to talk to them."""

    brokers: tuple[Annotated[str, Field(pattern=_BROKER, max_length=300)], ...] = Field(
        min_length=1, max_length=100, title="HOST:PORT of one or more brokers; they tell about the others"
    )
    prefix: str = Field(
        default="", pattern=_PREFIX, title="Put before names of topics and groups, so that systems can share brokers"
    )
    replication: int = Field(
        default=1, ge=1, le=32, title="Copies of each partition of topics that are created; 3 in a real fleet"
    )
    tls: TlsConfig | None = Field(default=None, title="Encryption; without it everything is readable on the way")
    sasl: SaslConfig | None = Field(default=None, title="Who this client is")

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, content: Any) -> Any:
        brokers = content.get("brokers") if isinstance(content, dict) else None
        if isinstance(brokers, (list, tuple)) and any("@" in str(broker) for broker in brokers):
            raise ValueError("brokers are HOST:PORT without user or password; name those under 'sasl'")
        return content

    @property
    def url(self) -> str:
        """The address, for `topics.open_log`: settings that differ from the defaults, in a fixed order."""
        tls, sasl = self.tls or TlsConfig(), self.sasl
        settings: dict[str, object] = {
            "prefix": self.prefix,
            "replication": self.replication if self.replication != 1 else None,
            "tls": "yes" if self.tls is not None else None,
            "ca": tls.ca,
            "cert": tls.cert,
            "key": tls.key,
            "key_password_env": tls.key_password_env,
            "key_password_file": tls.key_password_file,
        }
        if sasl is not None:
            settings |= {
                "sasl": sasl.mechanism,
                "user": sasl.user,
                "password_env": sasl.password_env,
                "password_file": sasl.password_file,
                "token": sasl.token,
            }
        given = "&".join(f"{name}={quote(str(value), safe='/:,')}" for name, value in settings.items() if value)
        return f"kafka:{','.join(self.brokers)}{'?' if given else ''}{given}"

    def anchored(self, folder: Path) -> KafkaConfig:
        """The same with the paths of all files made absolute."""
        tls, sasl = self.tls, self.sasl
        if tls is not None:
            tls = tls.model_copy(update=_anchored(tls, ("ca", "cert", "key", "key_password_file"), folder))
        if sasl is not None:
            sasl = sasl.model_copy(update=_anchored(sasl, ("password_file",), folder))
        return self.model_copy(update={"tls": tls, "sasl": sasl})


class LogConfig(Section):
    """Where everything that flows is kept: in a file, or on Kafka brokers."""

    path: Path | None = Field(
        default=None, title="File of the embedded log, on a local disk (default: out/discover.db, without 'kafka')"
    )
    kafka: KafkaConfig | None = Field(default=None, title="Brokers of a log for many machines, instead of a path")
    partitions: int = Field(
        default=4, ge=1, le=64, title="Partitions of every topic keyed by camera; fixed once the log exists"
    )
    frames: RetentionConfig = Field(default=RetentionConfig(hours=1, gib=2), title="Retention of coded frames")
    archive: RetentionConfig = Field(default=RetentionConfig(hours=168, gib=20), title="Retention of the archive")
    tasks: RetentionConfig = Field(default=RetentionConfig(hours=24, gib=5), title="Retention of task topics")

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        path, kafka = content.get("path"), content.get("kafka")
        if path is not None and kafka is not None:
            raise ValueError("a log is either a file ('path') or on brokers ('kafka'); remove one of them")
        return content if path is not None or kafka is not None else {**content, "path": DEFAULT_PATH}

    @property
    def url(self) -> str:
        """The log's address, for `topics.open_log`. It holds no secret, and may be shown."""
        return f"sqlite:{self.path}" if self.kafka is None else self.kafka.url

    @property
    def exists(self) -> bool:
        """Whether there may be something in it: always on brokers, of a file when it is there."""
        return self.path is None or self.path.exists()

    def anchored(self, folder: Path) -> LogConfig:
        """The same with the paths of all files made absolute."""
        if self.kafka is not None:
            return self.model_copy(update={"kafka": self.kafka.anchored(folder)})
        return self.model_copy(update=_anchored(self, ("path",), folder))


def _anchored(section: Section, names: tuple[str, ...], folder: Path) -> dict[str, Path | None]:
    """The paths under these names, absolute where there are any."""
    found = {name: getattr(section, name) for name in names}
    return {name: None if path is None else folder / path for name, path in found.items()}


def _without_secret(content: Any, name: str) -> Any:
    """The section as it came. Raises ValueError where the secret itself was written into it."""
    if isinstance(content, dict) and name in content:
        raise ValueError(
            f"{name!r} is not read from a configuration, which others may see; put the password into an environment "
            f"variable and name it as '{name}_env', or into a file and name it as '{name}_file'"
        )
    return content


def _only_one(variable: str | None, file: Path | None, name: str) -> None:
    if variable is not None and file is not None:
        raise ValueError(f"'{name}_env' and '{name}_file' both name the password; remove one of them")
