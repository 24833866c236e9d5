"""Building groundingdino-py's network with any transformers from 4.57 to 5.

The package wraps a `BertModel` in a class that calls methods which transformers 5 no longer has, and wants BERT's
own weights from the hub although its checkpoint holds them. Here are replacements for both, put in their place
while the network is built: `TextEncoder` has submodules of the same names, so that published checkpoints load
strictly, and is made from BERT's configuration alone. Besides, `see` and `ask` split its forward pass, so that a
picture goes through the backbone once however many captions there are. Nothing else of the package is touched.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

_BUILDING = threading.Lock()

_UNLIKE_TRAINING = {"use_checkpoint": False, "use_transformer_ckpt": False}
"""Settings that only save memory in training, and warn in every forward pass without gradients."""


class TextEncoder(nn.Module):
    """BERT as Grounding DINO uses it: every label attends to itself only.

    Args:
        bert: a `transformers.BertModel` whose attention is "eager"; its parts are taken over.
    """

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.config = bert.config
        self.embeddings = bert.embeddings
        self.encoder = bert.encoder
        self.pooler = bert.pooler  # of no use to the network, but in its checkpoints

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Encode tokens.

        Args:
            input_ids: (B, T) ints.
            attention_mask: (B, T, T), true where token i of a caption may look at token j; or (B, T).
            position_ids: (B, T) ints, the place of each token within its label.
            token_type_ids: (B, T) ints, zeros where absent.

        Returns:
            `last_hidden_state`, (B, T, hidden).
        """
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        hidden = self.embeddings(input_ids=input_ids, position_ids=position_ids, token_type_ids=token_type_ids)
        allowed = attention_mask.bool()
        allowed = allowed[:, None] if allowed.dim() == 3 else allowed[:, None, None]
        # Added to the scores of all heads: (B, 1, T or 1, T).
        mask = torch.zeros(allowed.shape, dtype=hidden.dtype, device=hidden.device)
        mask = mask.masked_fill(~allowed, torch.finfo(hidden.dtype).min)
        for layer in self.encoder.layer:
            found = layer(hidden, mask)
            hidden = found[0] if isinstance(found, tuple) else found  # transformers 4 answers with a tuple
        return {"last_hidden_state": hidden}


def build_network(settings: Mapping[str, object], tokenizer: Any, bert_config: Mapping[str, object]) -> nn.Module:
    """groundingdino-py's network with random weights, in eval mode.

    Args:
        settings: what a configuration file of the package says (`hidden_dim`, `num_queries`, ...).
        tokenizer: a fast tokenizer of transformers.
        bert_config: what BERT's `config.json` says.

    Raises:
        AttributeError: `settings` lacks one that the package asks for.
        AssertionError, KeyError, TypeError, ValueError: settings that do not go together.
    """
    from transformers import BertConfig, BertModel

    with warnings.catch_warnings():
        # The package's import and its backbone use what newer timm and torch deprecate.
        warnings.simplefilter("ignore")
        from groundingdino.models import build_model
        from groundingdino.models.GroundingDINO.backbone.backbone import Joiner
        from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention

        config = BertConfig(**bert_config)
        config._attn_implementation = "eager"  # the one that takes a mask of our own in all versions
        with _replaced(tokenizer, BertModel(config)):
            network: nn.Module = build_model(SimpleNamespace(**{**settings, **_UNLIKE_TRAINING}))

    class Remembering(Joiner):  # type: ignore[misc]
        """The backbone, which does not look again at pictures that come with their features."""

        def forward(self, samples: Any) -> Any:
            seen = getattr(samples, "seen", None)
            # Lists of its own: the caller appends to them.
            return super().forward(samples) if seen is None else (list(seen[0]), list(seen[1]))

    backbone = network.get_submodule("backbone")
    network.add_module("backbone", Remembering(*backbone.children()))
    for module in network.modules():
        if isinstance(module, BiMultiHeadAttention):
            # It subtracts the largest score of the whole batch before softmax, which cancels, except that a
            # picture's rounding would depend on the pictures beside it.
            module.stable_softmax_2d = False
    silence()
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the backbone makes of N pictures of one shape.

    `outside` is (N, h, w), true on padding; `features`, by level, (N, C, h', w') with their own `outside`, and `places`
    their position codes.
    """

    outside: Tensor
    features: tuple[tuple[Tensor, Tensor], ...]
    places: tuple[Tensor, ...]

    def rows(self, rows: Sequence[int]) -> Seen:
        """Some of the pictures, in the order given, each as often as it is named."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.outside.device)
        features = tuple((values[index], outside[index]) for values, outside in self.features)
        return Seen(self.outside[index], features, tuple(place[index] for place in self.places))


def see(network: nn.Module, pixels: Tensor, outside: Tensor) -> Seen:
    """Run the backbone.

    Args:
        network: of `build_network`.
        pixels: (N, 3, h, w), normalised RGB.
        outside: (N, h, w), true on padding.
    """
    from groundingdino.util.misc import NestedTensor

    features, places = network.get_submodule("backbone")(NestedTensor(pixels, outside))
    return Seen(outside, tuple(feature.decompose() for feature in features), tuple(places))


def ask(network: nn.Module, seen: Seen, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Find what captions name in pictures, one caption for each.

    Returns:
        token logits (N, queries, tokens), -inf beyond a caption's end, and boxes (N, queries, 4), cxcywh in parts of
        the picture without its padding.
    """
    from groundingdino.util.misc import NestedTensor

    samples = NestedTensor(seen.outside, seen.outside)  # the pictures themselves are not looked at again
    samples.seen = [NestedTensor(*feature) for feature in seen.features], seen.places
    found = network(samples, captions=list(captions))
    return found["pred_logits"], found["pred_boxes"]


def silence() -> None:
    """Hide what the package warns about in every forward pass: they are its own calls, and nobody can act on them."""
    warnings.filterwarnings("ignore", module=r"groundingdino\.")
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid: in an upcoming release")


@contextmanager
def _replaced(tokenizer: Any, bert: Any) -> Iterator[None]:
    """Put our tokenizer, text encoder and wrapper where the package's constructor looks for its own."""
    from groundingdino.models.GroundingDINO import groundingdino as package

    lookup = SimpleNamespace(
        get_tokenlizer=lambda _: tokenizer,  # the package's spelling
        get_pretrained_language_model=lambda _: bert,
    )

    def wrapped(bert_model: Any) -> TextEncoder:
        return TextEncoder(bert_model)

    with _BUILDING:
        kept = package.get_tokenlizer, package.BertModelWarper
        package.get_tokenlizer, package.BertModelWarper = lookup, wrapped
        try:
            yield
        finally:
            package.get_tokenlizer, package.BertModelWarper = kept
