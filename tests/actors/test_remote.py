"""What the actors do that needs no Ray; the rest is in the tests of the running system."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.encode import EncodeSettings
from actors.remote import EncodeActor, GroundActor
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


class Once:
    """A stage that is over at once."""

    report = None

    def run(self) -> str:
        return "stopped"

    def stop(self) -> None: ...


def test_an_encoder_keeps_what_it_was_told_while_a_call_of_run_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    first, later, latest = (EncodeSettings(quality, 1) for quality in (1, 2, 3))
    actor = EncodeActor("", 0, first, 1)
    monkeypatch.setattr(actor, "_make", Once)
    actor.run((), later)  # a new process: what came with the call is newer than what it was made with
    assert actor._settings == later
    actor.configure(latest)  # in a thread of its own, so it may overtake a call of `run` that was made before
    actor.run((), later)
    assert actor._settings == latest
