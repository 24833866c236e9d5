"""Tags as a condition of the diffusion model: text to vectors (Diff-ICMH's tag guidance).

Texts are lists of tags, "bus, car, person". The `nano` size reads them through hashed letter trigrams, so that
any word has a vector and no vocabulary ships; Stable Diffusion reads them through its own CLIP text encoder.
An empty text is the null condition that classifier-free guidance starts from.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

BUCKETS = 2048
MAX_TAGS = 15
"""Tags beyond the first 15 are left out: the condition has room for them and one null token."""


class TextEncoder(Protocol):
    """Turns texts into what cross-attention looks at."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(B, tokens, width) for B texts; the same number of tokens whatever the texts."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
        """Move the encoder, in place."""
        ...


def tags_in(text: str) -> list[str]:
    """The tags of a text, in order, lower case, each once."""
    parts = (" ".join(part.lower().split()) for part in text.split(","))
    return list(dict.fromkeys(part for part in parts if part))[:MAX_TAGS]


def trigrams(tag: str) -> list[int]:
    """Buckets of the letter trigrams of a tag; the spaces around it count, so that short words differ."""
    padded = f" {tag} "
    return [zlib.crc32(padded[start : start + 3].encode()) % BUCKETS for start in range(len(padded) - 2)]


class TagEmbedding(nn.Module):
    """The `nano` text encoder: a tag is the mean of its trigrams' vectors.

    Args:
        width: of the vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.letters = nn.EmbeddingBag(BUCKETS, width, mode="mean")
        self.null = nn.Parameter(torch.randn(width))
        self.absent = nn.Parameter(torch.zeros(width))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(B, MAX_TAGS + 1, width): the null token, then the tags, then padding; see `TextEncoder`."""
        listed = [tags_in(text) for text in texts]
        tokens = self.absent.expand(len(texts), MAX_TAGS, self.width).clone()
        words = [(row, column, trigrams(tag)) for row, tags in enumerate(listed) for column, tag in enumerate(tags)]
        if words:
            device = self.null.device
            flat = torch.tensor([bucket for _, _, buckets in words for bucket in buckets], device=device)
            offsets = torch.tensor([0, *(len(buckets) for _, _, buckets in words[:-1])], device=device).cumsum(0)
            rows, columns = torch.tensor([(row, column) for row, column, _ in words]).T
            tokens[rows, columns] = self.letters(flat, offsets).to(tokens.dtype)
        return torch.cat([self.null.expand(len(texts), 1, self.width), tokens], dim=1)


class ClipText:
    """Stable Diffusion's text encoder; see `TextEncoder`.

    Args:
        tokenizer: of transformers, as it lies beside the model.
        model: a transformers `CLIPTextModel`.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer, self._model = tokenizer, model

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> ClipText:
        """See `TextEncoder`."""
        self._model.to(device, dtype)
        return self

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """(B, 77, width): the last hidden state; texts that are too long are cut at a token."""
        found = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self._tokenizer.model_max_length,
            return_tensors="pt",
        )
        device = next(self._model.parameters()).device
        hidden: Tensor = self._model(found.input_ids.to(device)).last_hidden_state
        return hidden
