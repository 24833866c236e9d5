"""The section of a configuration that says where an edge forwards to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from discover_stream.config_log import LogConfig, Section

Role = Literal["all", "edge", "core"]
"""What a system does: everything; ingest, ground, encode and forward; or route, with what was forwarded."""


class EdgeConfig(Section):
    """A site whose system encodes what its cameras see and forwards it (`discover run --role edge`)."""

    site: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", title="Name of the site, unique at the core")
    core: LogConfig = Field(title="The core's log; this site's own, `log`, is the spool: archive.gib bounds it")

    def anchored(self, folder: Path) -> EdgeConfig:
        """With paths that start at a folder made absolute."""
        return self.model_copy(update={"core": self.core.anchored(folder)})
