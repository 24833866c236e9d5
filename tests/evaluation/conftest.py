"""One thread each: these tests share the machine with others."""

from __future__ import annotations

import cv2
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
