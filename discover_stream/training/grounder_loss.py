"""The loss of the nano grounder and one optimisation step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import complete_box_iou_loss  # type: ignore[import-untyped]

from discover_stream.semantics.detector import decode_outputs
from discover_stream.training.compute import cpu_has_bf16
from discover_stream.training.grounder_data import IGNORED

BOX_WEIGHT = 2.0


def detection_loss(logits: Tensor, boxes: Tensor, kinds: Tensor, targets: Tensor) -> Tensor:
    """Quality focal loss on the classes plus complete-IoU loss on the boxes of cells that learn one.

    The class score's target is the overlap of the cell's box with its object, so that at inference the
    score says how well the box fits, and suppression keeps the best one.

    Args:
        logits: (B, cells, classes).
        boxes: (B, cells, 4) xyxy in network pixels.
        kinds: (B, cells) class index, `NEGATIVE` or `IGNORED`.
        targets: (B, cells, 4) xyxy; read where `kinds` >= 0.

    Returns:
        a scalar, per learning cell.
    """
    positive = kinds >= 0
    goal = torch.zeros_like(logits)
    count = positive.sum().clamp(min=1)
    box_loss = boxes.sum() * 0.0
    if bool(positive.any()):
        found, truth = boxes[positive], targets[positive]
        fit = box_iou_pairs(found.detach(), truth)
        goal[(*torch.nonzero(positive, as_tuple=True), kinds[positive])] = fit
        box_loss = complete_box_iou_loss(found, truth, reduction="sum") / count
    gap = (logits.sigmoid() - goal).abs().square()
    focal = F.binary_cross_entropy_with_logits(logits, goal, reduction="none") * gap
    class_loss = focal[kinds != IGNORED].sum() / count
    return class_loss + BOX_WEIGHT * box_loss


def box_iou_pairs(a: Tensor, b: Tensor) -> Tensor:
    """IoU of row i of `a` (n, 4) with row i of `b` (n, 4): (n,)."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter
    return inter / union.clamp(min=1e-6)


def train_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    kinds: Tensor,
    targets: Tensor,
    *,
    bf16: bool,
) -> float:
    """One optimisation step on a batch; returns the loss before it.

    Args:
        network: a `Detector` in train mode.
        optimizer: of the network's parameters.
        inputs: (B, 3, side, side) in -1..1.
        kinds: (B, cells), see `detection_loss`.
        targets: (B, cells, 4), see `detection_loss`.
        bf16: run the network under bfloat16 autocast; the loss is always fp32.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16 and cpu_has_bf16()):
        outputs = network(inputs)
    loss = detection_loss(*decode_outputs(outputs), kinds, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    return float(loss.detach())
