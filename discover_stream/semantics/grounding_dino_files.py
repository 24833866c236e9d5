"""The files of Grounding DINO: where they are, on the hub or in a folder, and reading them.

A folder holds what the hub does:

    FOLDER/groundingdino_swint_ogc.pth      the weights; any one .pth or .safetensors file
    FOLDER/GroundingDINO_SwinT_OGC.cfg.py   its settings; without such a file those of the Swin-T model
    FOLDER/bert-base-uncased/               config.json and vocab.txt or tokenizer.json; no weights of BERT

Nothing in a folder is executed: settings are read as literals, weights without pickled code.
"""

from __future__ import annotations

import ast
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from discover_stream.types import InputError

HUB_MODEL = "ShilongLiu/GroundingDINO"
HUB_WEIGHTS = "groundingdino_swint_ogc.pth"
HUB_SETTINGS = "GroundingDINO_SwinT_OGC.cfg.py"
HUB_TEXT = "google-bert/bert-base-uncased"
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
"""What the published Swin-T model is made of, by repository and file on the Hugging Face hub."""

PACKAGED_SETTINGS = "GroundingDINO_SwinT_OGC.py"
"""The settings of that model inside groundingdino-py."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")

_UNUSED = frozenset({"label_enc.weight", "bert.embeddings.position_ids"})
"""In published checkpoints, but in no network: a table for training, and a counter 0, 1, 2, ..."""


@dataclass(frozen=True, slots=True)
class DinoFiles:
    """Where everything is: weights, settings (None: the packaged ones), and the folder of the text encoder."""

    weights: Path
    settings: Path | None
    text: Path


def find_files(source: str | Path | None) -> DinoFiles:
    """Find the files of a model.

    Args:
        source: a folder, or `owner/name` on the hub; None for `HUB_MODEL`. What is missing from the hub's cache
            is fetched.

    Raises:
        InputError: something is missing; the message names it, and where to get it.
    """
    if source is None:
        return _from_hub(HUB_MODEL)
    folder = Path(source)
    if folder.is_dir():
        return _from_folder(folder)
    if isinstance(source, str) and _HUB_NAME.fullmatch(source):
        return _from_hub(source)
    raise InputError(f"Grounding DINO: {folder} is no folder; {_remedy(folder)}")


def _remedy(folder: str | Path) -> str:
    return (
        f"put {HUB_WEIGHTS} from {HUB_MODEL} on the Hugging Face hub, and a folder {HUB_TEXT.split('/')[1]} with "
        f"config.json and vocab.txt from {HUB_TEXT}, into {folder}"
    )


def _from_folder(folder: Path) -> DinoFiles:
    weights = sorted(path for path in folder.iterdir() if path.suffix in (".pth", ".safetensors"))
    if not weights:
        raise InputError(f"Grounding DINO: no weights (.pth or .safetensors) in {folder}; {_remedy(folder)}")
    if len(weights) > 1:
        names = ", ".join(path.name for path in weights)
        raise InputError(f"Grounding DINO: several files of weights in {folder} ({names}); leave one of them there")
    settings = sorted(folder.glob("*.py"))
    if len(settings) > 1:
        names = ", ".join(path.name for path in settings)
        raise InputError(f"Grounding DINO: several files of settings in {folder} ({names}); leave one of them there")
    chosen = settings[0] if settings else None
    text = folder / Path(str(read_settings(chosen).get("text_encoder_type", "bert-base-uncased"))).name
    if not (text / "config.json").is_file() or not any((text / n).is_file() for n in ("vocab.txt", "tokenizer.json")):
        raise InputError(
            f"Grounding DINO: no config.json with vocab.txt or tokenizer.json in {text}; {_remedy(folder)}"
        )
    return DinoFiles(weights[0], chosen, text)


def _from_hub(name: str) -> DinoFiles:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    def fetch(repository: str, file: str) -> Path:
        try:
            return Path(hf_hub_download(repository, file))
        # Off-line, nothing in the cache, a repository or file that is not there, a broken connection.
        except (OSError, HfHubHTTPError, HFValidationError) as error:
            raise InputError(
                f"Grounding DINO: {file} of {repository} is neither in the hub's cache nor could it be fetched "
                f"({type(error).__name__}); check the network, or {_remedy('a folder')} and name that folder as the "
                "grounder's path"
            ) from error

    settings, weights = fetch(name, HUB_SETTINGS), fetch(name, HUB_WEIGHTS)
    text = {fetch(HUB_TEXT, file).parent for file in TEXT_FILES}  # one folder of the cache
    return DinoFiles(weights, settings, text.pop())


def read_settings(path: Path | None) -> dict[str, Any]:
    """The settings in a configuration file of groundingdino-py, `name = literal` line by line; never executed.

    Args:
        path: None for the packaged ones of the Swin-T model.

    Raises:
        InputError: the file cannot be read or holds anything else.
    """
    try:
        if path is None:
            text = (resources.files("groundingdino") / "config" / PACKAGED_SETTINGS).read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        settings = {}
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    settings[name] = ast.literal_eval(value)
                case _:
                    raise ValueError(f"line {statement.lineno} is no assignment")
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"Grounding DINO: settings {path}: cannot be read ({reason}); use the file that comes with the weights"
        ) from error
    return settings


def read_bert_config(folder: Path) -> dict[str, Any]:
    """BERT's `config.json`. Raises InputError where it is not one."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Grounding DINO: {path}: cannot be read ({error}); fetch it from {HUB_TEXT}") from error
    if not isinstance(content, dict) or content.get("model_type", "bert") != "bert":
        raise InputError(f"Grounding DINO: {path}: not the configuration of a BERT; fetch it from {HUB_TEXT}")
    return content


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer in a folder. Raises InputError for files that make none, or lack what captions need."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    # Files of others can be wrong in more ways than transformers has exceptions of its own for.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"Grounding DINO: {folder}: no tokenizer can be made of it ({reason}); fetch it from {HUB_TEXT}"
        ) from error
    if not tokenizer.is_fast:
        raise InputError(f"Grounding DINO: {folder}: not a fast tokenizer; add tokenizer.json from {HUB_TEXT}")
    needed = ("[CLS]", "[SEP]", ".", "?")
    absent = [t for t in needed if tokenizer.convert_tokens_to_ids(t) in (None, tokenizer.unk_token_id)]
    if absent:
        raise InputError(
            f"Grounding DINO: {folder}: the vocabulary lacks {', '.join(absent)}; fetch it from {HUB_TEXT}"
        )
    return tokenizer


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a checkpoint strictly: every tensor of the network is in it, in the right size, and nothing else.

    Raises:
        InputError: the file is missing, damaged, holds code, or is of another network.
    """
    given = _read_tensors(path)
    own = network.state_dict()
    strange = [name for name in given if name not in own]
    absent = [name for name in own if name not in given]
    other = [name for name in own if name in given and given[name].shape != own[name].shape]
    for problem, names in (("lacks", absent), ("also holds", strange), ("has another size of", other)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(
                f"Grounding DINO: weights {path}: made for other settings: the file {problem} {names[0]}{more}; use "
                "weights, settings and text encoder that belong together"
            )
    network.load_state_dict(given)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        SafetensorError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as e:
        reason = " ".join(str(e).split())[:120]
        raise InputError(f"Grounding DINO: weights {path}: cannot be read ({reason}); fetch them again") from e
    content = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"Grounding DINO: weights {path}: no table of tensors; fetch them again")
    named = {str(name).removeprefix("module."): value for name, value in content.items()}
    return {name: value for name, value in named.items() if name not in _UNUSED}
