"""Grounding DINO's text encoder and network as this project builds them, on the installed transformers.

The same weights in transformers 4.57.3 with the package's own classes gave the same boxes to 2e-7 and logits (up to
26) to 4e-5, the rounding of another kernel for attention; here a BERT written down from its paper is the oracle.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from dino_model import BERT, random_network, write_text_folder
from torch import Tensor, nn

from discover_stream.semantics.grounding_dino_files import load_tokenizer


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_folder(tmp_path_factory.mktemp("dino") / "bert-base-uncased")


@pytest.fixture(scope="module")
def network(text: Path) -> nn.Module:
    torch.set_num_threads(1)
    return random_network(text)


def plain_bert(w: Mapping[str, Tensor], ids: Tensor, places: Tensor, allowed: Tensor) -> Tensor:
    """BERT's equations (Devlin et al. 2019) for one caption; `allowed` (T, T) says who may look at whom."""
    width, heads = int(BERT["hidden_size"]), int(BERT["num_attention_heads"])

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    table = "bert.embeddings"
    x = w[f"{table}.word_embeddings.weight"][ids] + w[f"{table}.position_embeddings.weight"][places]
    x = norm(f"{table}.LayerNorm", x + w[f"{table}.token_type_embeddings.weight"][0])
    for layer in range(int(BERT["num_hidden_layers"])):
        here = f"bert.encoder.layer.{layer}"
        q, k, v = (linear(f"{here}.attention.self.{part}", x) for part in ("query", "key", "value"))
        mixed = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            scores = q[:, part] @ k[:, part].T / math.sqrt(width // heads)
            mixed.append(scores.masked_fill(~allowed, -math.inf).softmax(-1) @ v[:, part])
        x = norm(
            f"{here}.attention.output.LayerNorm", x + linear(f"{here}.attention.output.dense", torch.cat(mixed, -1))
        )
        inner = F.gelu(linear(f"{here}.intermediate.dense", x))
        x = norm(f"{here}.output.LayerNorm", x + linear(f"{here}.output.dense", inner))
    return x


def test_the_text_encoder_is_bert_with_labels_apart(network: nn.Module, text: Path) -> None:
    from groundingdino.models.GroundingDINO.bertwarper import generate_masks_with_special_tokens_and_transfer_map

    tokenizer = load_tokenizer(text)
    captions = ["car . delivery vans . bus .", "people with umbrella . red truck ."]
    tokens = tokenizer(captions, padding="longest", return_tensors="pt")
    specials = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", ".", "?"])
    allowed, places, _ = generate_masks_with_special_tokens_and_transfer_map(tokens, specials, tokenizer)
    encoder = network.get_submodule("bert")
    found = encoder(input_ids=tokens["input_ids"], attention_mask=allowed, position_ids=places)["last_hidden_state"]
    weights = network.state_dict()
    for row, length in enumerate(tokens["attention_mask"].sum(1).tolist()):
        expected = plain_bert(
            weights, tokens["input_ids"][row, :length], places[row, :length], allowed[row, :length, :length]
        )
        torch.testing.assert_close(found[row, :length], expected, atol=1e-5, rtol=1e-4)
    # A label's features do not depend on the labels beside it.
    alone = tokenizer(["delivery vans ."], return_tensors="pt")
    mask, place, _ = generate_masks_with_special_tokens_and_transfer_map(alone, specials, tokenizer)
    one = encoder(input_ids=alone["input_ids"], attention_mask=mask, position_ids=place)["last_hidden_state"]
    torch.testing.assert_close(one[0, 1:4], found[0, 3:6], atol=1e-5, rtol=1e-4)


def test_a_plain_mask_hides_padding(network: nn.Module) -> None:
    ids = torch.tensor([[2, 9, 3, 0, 0]])
    places = torch.arange(5)[None]
    encoder = network.get_submodule("bert")
    kept = encoder(ids, torch.tensor([[1, 1, 1, 0, 0]]), places)["last_hidden_state"][:, :3]
    short = encoder(ids[:, :3], torch.ones(1, 3), places[:, :3])["last_hidden_state"]
    torch.testing.assert_close(kept, short, atol=1e-5, rtol=1e-4)


def test_what_is_beside_a_picture_does_not_move_its_bits(network: nn.Module) -> None:
    attention = network.get_submodule("transformer.encoder.fusion_layers.0.attn")
    numbers = torch.Generator().manual_seed(2)
    picture, caption = torch.randn(2, 9, 256, generator=numbers), torch.randn(2, 5, 256, generator=numbers)
    one = attention(picture, caption)
    picture[1] *= 40
    other = attention(picture, caption)
    assert all(torch.equal(a[0], b[0]) and not torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


def test_names_are_those_of_published_checkpoints(network: nn.Module) -> None:
    names = set(network.state_dict())
    assert {
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.LayerNorm.bias",
        "bert.encoder.layer.1.attention.self.query.weight",
        "bert.encoder.layer.0.output.LayerNorm.weight",
        "bert.pooler.dense.weight",
        "feat_map.weight",
        "backbone.0.patch_embed.proj.weight",
        "transformer.level_embed",
        "transformer.enc_out_bbox_embed.layers.2.bias",
        "bbox_embed.0.layers.0.weight",
        "transformer.decoder.bbox_embed.0.layers.0.weight",
    } <= names
    assert not [name for name in names if "position_ids" in name or "token_type_ids" in name]


def test_the_package_is_left_as_it_was(network: nn.Module) -> None:
    from groundingdino.models.GroundingDINO import bertwarper, groundingdino
    from groundingdino.util import get_tokenlizer

    assert groundingdino.BertModelWarper is bertwarper.BertModelWarper
    assert groundingdino.get_tokenlizer is get_tokenlizer


def test_building_and_asking_say_nothing(text: Path) -> None:
    """No warning and no print reaches whoever runs the program."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from dino_model import random_network
network = random_network(Path({str(text)!r}))
from groundingdino.util.misc import NestedTensor
with torch.inference_mode():
    network(NestedTensor(torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)), captions=["car ."])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout + ran.stderr == ""


def test_settings_that_do_not_go_together_are_refused(text: Path) -> None:
    from dino_model import small_settings

    from discover_stream.semantics.grounding_dino_compat import build_network

    bert = json.loads((text / "config.json").read_text())
    lacking = {name: value for name, value in small_settings().items() if name != "hidden_dim"}
    with pytest.raises(AttributeError, match="hidden_dim"):
        build_network(lacking, load_tokenizer(text), bert)
