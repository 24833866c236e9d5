"""How a camera keeps to its bit rate: what may be sent, and how coarse it is, by what was sent so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

from discover_stream.codec.stream_policy import StreamRules


@dataclass(frozen=True, slots=True)
class RateState:
    """How a camera stands to its bit rate.

    Attributes:
        debt: bits sent beyond the target so far; negative for what may still be sent. Never below minus
            `WINDOW_S` / 2 of the target, so that a quiet night does not pay for a rush hour.
    """

    debt: float = 0.0


WINDOW_S = 4.0
"""Seconds over which the target is to hold, about."""


def allowance(state: RateState, target: float, fps: float) -> float:
    """Bits that the next frame may have for atoms: half of what is left of the window, at least half a frame's share.

    Args:
        state: so far.
        target: bits a second.
        fps: frames a second.
    """
    return max(0.5 * target / fps, 0.5 * (target * WINDOW_S / 2 - state.debt))


def spent(state: RateState, bits: float, target: float, fps: float) -> RateState:
    """After a frame that took some bits."""
    return RateState(max(state.debt + bits - target / fps, -target * WINDOW_S / 2))


def controlled(rules: StreamRules, state: RateState, target: float) -> StreamRules:
    """The rules for the next frame: in debt coarser and more patient, otherwise as they are, or a little finer.

    Debt of a whole window raises the quantizer by 12 and doubles the threshold; there it stops.
    """
    share = min(max(state.debt / (target * WINDOW_S), -0.5), 1.0)
    quantizer = min(max(round(rules.quantizer + 12 * share), 1), 63)
    return replace(
        rules, quantizer=quantizer, threshold=rules.threshold * 2**share, shown=rules.shown * 2 ** max(share, 0)
    )
