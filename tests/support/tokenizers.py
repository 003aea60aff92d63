"""Small tokenizers in the form that Kimi models carry."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

WORDS = ("the", " the", "token", " token", "中文", "混合", "English", "123", "456", "don't", "xx")


def ranks_of(words: Sequence[str] = WORDS) -> dict[bytes, int]:
    """A vocabulary of all bytes and of the words, with what a merge needs on the way there."""
    tokens = [bytes((byte,)) for byte in range(256)]
    for word in words:
        raw = word.encode()
        tokens += [raw[:end] for end in range(2, len(raw) + 1)]
    return {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}


def model_file(ranks: Mapping[bytes, int]) -> bytes:
    """A ``tiktoken.model``: a token in base64 and its rank a line."""
    return b"".join(b"%b %d\n" % (base64.b64encode(t), rank) for t, rank in ranks.items())


def write_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """A model's folder with a tokenizer and its two special tokens; returns the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    ranks = ranks_of(words)
    special = {str(len(ranks)): "[BOS]", str(len(ranks) + 2): "<|im_end|>"}
    decoder = {number: {"content": name, "special": True} for number, name in special.items()}
    config = {"added_tokens_decoder": decoder, "tokenizer_class": "TikTokenTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    path = folder / "tiktoken.model"
    path.write_bytes(model_file(ranks))
    return path
