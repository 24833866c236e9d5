import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from dino_model import write_text_folder
from safetensors.torch import save_file
from torch import nn

from discover_stream.semantics.grounding_dino_files import (
    HUB_MODEL,
    HUB_SETTINGS,
    HUB_TEXT,
    HUB_WEIGHTS,
    TEXT_FILES,
    find_files,
    load_tokenizer,
    load_weights,
    read_bert_config,
    read_settings,
)
from discover_stream.types import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder as far as finding it goes."""
    write_text_folder(tmp_path / "bert-base-uncased")
    (tmp_path / "some.pth").write_bytes(b"")
    return tmp_path


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    said = str(error.value)
    assert "\n" not in said
    return said


def test_a_folder_is_enough(folder: Path) -> None:
    found = find_files(folder)
    assert (found.weights.name, found.settings, found.text) == ("some.pth", None, folder / "bert-base-uncased")
    (folder / "own.cfg.py").write_text("text_encoder_type = 'models/other-bert'\n")
    (folder / "bert-base-uncased").rename(folder / "other-bert")
    found = find_files(str(folder))
    assert found.settings == folder / "own.cfg.py"
    assert found.text == folder / "other-bert"


def test_what_is_missing_is_named_with_the_remedy(folder: Path) -> None:
    (folder / "second.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"several files of weights .*second\.safetensors, some\.pth"):
        find_files(folder)
    for file in ("some.pth", "second.safetensors"):
        (folder / file).unlink()
    with pytest.raises(InputError, match="no weights") as caught:
        find_files(folder)
    assert all(word in one_line(caught) for word in (HUB_WEIGHTS, HUB_MODEL, HUB_TEXT, str(folder)))
    (folder / "some.pth").write_bytes(b"")
    (folder / "bert-base-uncased" / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"vocab\.txt or tokenizer\.json in .*bert-base-uncased"):
        find_files(folder)
    with pytest.raises(InputError, match="is no folder; put") as caught:
        find_files(folder / "gone")
    one_line(caught)


def test_settings_are_read_and_never_run(tmp_path: Path) -> None:
    assert read_settings(None)["backbone"] == "swin_T_224_1k"
    path = tmp_path / "evil.py"
    for text in (f"open({str(tmp_path / 'made')!r}, 'w')\n", "x = __import__('os')\n", "x = = 1\n", "import os\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"evil\.py: cannot be read"):
            read_settings(path)
    assert not (tmp_path / "made").exists()


def test_text_folders_that_are_none(tmp_path: Path) -> None:
    text = write_text_folder(tmp_path / "t")
    assert read_bert_config(text)["hidden_size"] == 32
    (text / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncar\n")
    with pytest.raises(InputError, match=r"the vocabulary lacks \., \?"):
        load_tokenizer(text)
    for content in ('{"model_type": "gpt2"}', "[]", "{"):
        (text / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json: ") as caught:
            read_bert_config(text)
        one_line(caught)
    (text / "vocab.txt").unlink()
    (text / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="no tokenizer can be made of it") as caught:
        load_tokenizer(text)
    one_line(caught)


class Executed:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path(os.environ["DINO_TEST_FOLDER"]) / "made"),)


def test_weights_are_loaded_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, path = nn.Linear(2, 3), tmp_path / "w.pth"
    good = {"module.weight": torch.ones(3, 2), "module.bias": torch.zeros(3), "module.label_enc.weight": torch.ones(2)}
    torch.save({"model": good}, path)
    load_weights(network, path)
    assert bool((network.weight == 1).all())
    save_file({"weight": torch.full((3, 2), 2.0), "bias": torch.zeros(3)}, tmp_path / "w.safetensors")
    load_weights(network, tmp_path / "w.safetensors")
    assert bool((network.weight == 2).all())

    monkeypatch.setenv("DINO_TEST_FOLDER", str(tmp_path))
    bad: list[tuple[object, str]] = [
        ({"weight": torch.ones(3, 2)}, "the file lacks bias"),
        ({**good, "extra": torch.ones(1), "more": torch.ones(1)}, "also holds extra and 1 more"),
        ({**good, "module.bias": torch.zeros(4)}, "another size of bias"),
        ({"model": 7}, "no table of tensors"),
        ([1], "no table of tensors"),
        ({"model": Executed()}, "cannot be read"),
    ]
    for content, message in bad:
        torch.save(content, path)
        with pytest.raises(InputError, match=message) as caught:
            load_weights(network, path)
        assert "w.pth" in one_line(caught)
    assert not (tmp_path / "made").exists()
    for raw in (b"", b"PK\x03\x04 torn", b"\x80\x02garbage"):
        path.write_bytes(raw)
        with pytest.raises(InputError, match="cannot be read"):
            load_weights(network, path)
    with pytest.raises(InputError, match="cannot be read"):
        load_weights(network, tmp_path / "gone.pth")
    assert bool((network.weight == 2).all())


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's interface by which single files are fetched."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        repository, _, file = self.path.lstrip("/").partition("/resolve/main/")
        content = self.files.get(f"{repository}/{file}")
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{abs(hash(content))}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content is not None:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def ask_hub(cache: Path, **environment: str) -> str:
    """What another process, with a hub of its own, finds or says."""
    program = """
from discover_stream.semantics.grounding_dino_files import find_files
from discover_stream.types import InputError
try:
    found = find_files(None)
    print(found.weights.read_text(), found.settings.read_text(), (found.text / "vocab.txt").read_text())
except InputError as error:
    print("InputError:", error)
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    set_up = {**kept, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    ran = subprocess.run([sys.executable, "-c", program], env=set_up, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.strip()


def test_the_hub_and_its_cache(hub: str, tmp_path: Path) -> None:
    Hub.files = {f"{HUB_MODEL}/{HUB_WEIGHTS}": b"weights", f"{HUB_MODEL}/{HUB_SETTINGS}": b"settings"}
    Hub.files |= {f"{HUB_TEXT}/{name}": name.encode() for name in TEXT_FILES}
    assert ask_hub(tmp_path / "cache", HF_ENDPOINT=hub) == "weights settings vocab.txt"
    # From then on no network is needed; without either, what to fetch and where to put it is said.
    assert ask_hub(tmp_path / "cache", HF_HUB_OFFLINE="1") == "weights settings vocab.txt"
    said = ask_hub(tmp_path / "empty", HF_HUB_OFFLINE="1")
    assert said.startswith(f"InputError: Grounding DINO: {HUB_SETTINGS} of {HUB_MODEL} is neither in the hub's cache")
    assert HUB_WEIGHTS in said
    assert "\n" not in said
    Hub.files.pop(f"{HUB_MODEL}/{HUB_WEIGHTS}")
    assert f"{HUB_WEIGHTS} of {HUB_MODEL}" in ask_hub(tmp_path / "partial", HF_ENDPOINT=hub)
