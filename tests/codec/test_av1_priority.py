"""Encoders do not raise the priority of the process that uses them."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest
from av import CodecContext

from discover_stream.codec.av1 import encode_av1
from discover_stream.codec.av1_priority import TASKS, open_encoder

pytestmark = pytest.mark.skipif(not TASKS.exists(), reason="scheduling policies are looked at on Linux only")


def policies() -> set[int]:
    return {os.sched_getscheduler(int(task.name)) for task in TASKS.iterdir()}


def test_a_still_leaves_the_process_as_it_was() -> None:
    before = policies()
    encode_av1(np.full((48, 64, 3), 90, np.uint8), 40)
    assert policies() == before


def test_threads_of_an_open_encoder_are_ordinary_ones() -> None:
    context = CodecContext.create("libsvtav1", "w")
    context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    before = policies()
    open_encoder(context)
    assert policies() == before
