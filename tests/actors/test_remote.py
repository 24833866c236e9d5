"""What the actors do that needs no Ray; the rest is in the tests of the running system."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.remote import GroundActor
from discover_stream.config import GrounderConfig
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.labels import load_label_set
from discover_stream.types import InputError


def test_the_grounding_process_takes_the_configured_grounder(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        actor = GroundActor(1, GrounderConfig(threshold=0.05))
        assert actor.load() == os.getpid()
        picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
        sets = (load_label_set("vehicles"),)
        found = actor.ground([picture], sets)
        with pytest.raises(InputError, match=r"Grounding DINO: .*gone is no folder"):
            GroundActor(1, GrounderConfig(kind="grounding-dino", path=str(tmp_path / "gone"))).load()
        assert isinstance(actor._grounder, NanoGrounder)
        assert actor._grounder.options.threshold == 0.05
        assert found == actor._grounder.ground([picture], sets)
        assert actor.report().done == 1
    finally:
        torch.set_num_threads(threads)
