"""A small Grounding DINO with random weights, in the folder that a real one would be in."""

from __future__ import annotations

import ast
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from discover_stream.semantics.grounding_dino_compat import build_network
from discover_stream.semantics.grounding_dino_files import PACKAGED_SETTINGS, load_tokenizer

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", ",", "-"),
    *("car", "van", "bus", "truck", "lorry", "person", "people", "bike", "delivery", "tram", "police", "officer"),
    *("red", "green", "blue", "white", "crossing", "road", "with", "umbrella", "carry", "a", "of", "the"),
    *("##s", "##es", "##ing", "##ed", *"bcdefghijklmnopqrtuvwxyz", *(f"##{letter}" for letter in "abcdefghiklmnoprtu")),
]
"""A vocabulary of word pieces: it knows all Latin letters at the start of a word, and not all within one."""

BERT = {
    "model_type": "bert", "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 512, "type_vocab_size": 2,
}  # fmt: skip
SMALLER = {"num_queries": 40, "enc_layers": 1, "dec_layers": 1, "dim_feedforward": 256}
"""What differs from the published Swin-T model; the backbone is the same."""


def write_text_folder(folder: Path) -> Path:
    """A text encoder's folder: vocabulary and configuration, no weights."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def small_settings() -> dict[str, Any]:
    """The packaged settings with smaller sizes."""
    text = (resources.files("groundingdino") / "config" / PACKAGED_SETTINGS).read_text()
    settings = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(text).body}  # type: ignore[attr-defined]
    return {**settings, **SMALLER}


def random_network(text: Path, seed: int = 0) -> nn.Module:
    """The network with weights of which every one matters: also those that start as zeros move."""
    torch.manual_seed(seed)
    network = build_network(small_settings(), load_tokenizer(text), json.loads((text / "config.json").read_text()))
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.03)
    # Random text and picture features hardly ever agree by much; make scores spread around the threshold.
    network.feat_map.weight.data.mul_(0.3)  # type: ignore[union-attr, operator]
    return network


def write_model(folder: Path, network: nn.Module, settings: dict[str, Any] | None = None) -> Path:
    """A checkpoint as published: names behind "module.", and what only training needs; with its settings."""
    tensors = {f"module.{name}": value for name, value in network.state_dict().items()}
    tensors["module.label_enc.weight"] = torch.zeros(3, 256)
    tensors["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save({"model": tensors}, folder / "groundingdino_swint_ogc.pth")
    lines = [f"{name} = {value!r}" for name, value in (settings or small_settings()).items()]
    (folder / "GroundingDINO_SwinT_OGC.cfg.py").write_text("\n".join(lines) + "\n")
    return folder
