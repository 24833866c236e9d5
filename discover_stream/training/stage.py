"""What the commands of all training stages share: their arguments, and how a run begins."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from discover_stream.training.compute import Compute


def stage_parser(
    description: str | None, out: str, minutes: float, *, batch: int | None = None, crops: int | None = None
) -> argparse.ArgumentParser:
    """The arguments of a stage: data, folder of results, budget, threads, and what it counts.

    Args:
        description: of the stage.
        out: where its results go unless told otherwise.
        minutes: its budget unless told otherwise.
        batch: default size of a batch; None where it is not to be chosen. The same for `crops`.
        crops: default number of examples.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--minutes", type=float, default=minutes)
    if batch is not None:
        parser.add_argument("--batch", type=int, default=batch)
    if crops is not None:
        parser.add_argument("--crops", type=int, default=crops)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def begin(threads: int, seed: int) -> np.random.Generator:
    """Set up logging, threads and torch's random numbers; returns numpy's."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    return np.random.default_rng(seed)


def begin_anywhere(threads: int, seed: int) -> tuple[Compute, np.random.Generator]:
    """`begin` on the devices there are: every process draws numbers of its own."""
    compute = Compute()
    return compute, begin(threads, seed + compute.rank)
