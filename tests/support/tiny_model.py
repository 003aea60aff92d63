"""A model of random weights that vLLM loads in no time: the form of a real one, and no sense.

Its tokenizer has a token for each byte and the special tokens of chats, tool calls and thoughts.
The same options make the same bytes.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
KIMI_SPECIAL = (
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
)
"""What vLLM's parsers named ``kimi_k2`` look for."""
END_OF_TEXT, END_OF_MESSAGE = SPECIAL.index("<|endoftext|>"), SPECIAL.index("<|im_end|>")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BF16 = 2
"""Bytes of a weight."""
SPREAD = 0.05
"""The standard deviation of the weights."""
Weights = Callable[[str, tuple[int, ...]], bytes]
"""The values in bfloat16 of the weight of a name and dimensions; asked for in their order."""
TEMPLATE = """\
{%- if tools %}<|im_start|>system
{%- if messages[0].role == "system" %}
{{ messages[0].content }}
{%- endif %}
Tools:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
Call one as <tool_call>{"name": ..., "arguments": {...}}</tool_call><|im_end|>
{% elif messages[0].role == "system" %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>{{ message.content }}</tool_response><|im_end|>
{% elif message.role != "system" or not loop.first %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}\
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@dataclass(frozen=True)
class Shape:
    """How large it is. `context` in tokens; `heads` and `kv_heads` divide `hidden`."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    inner: int = 256
    context: int = 65_536

    @property
    def kv_bytes(self) -> int:
        """A token's cache, keys and values in bfloat16."""
        return 2 * BF16 * self.layers * self.kv_heads * (self.hidden // self.heads)


def write_model(
    folder: Path, shape: Shape | None = None, *, shards: int = 1, kimi: bool = False
) -> Path:
    """Make a model in a new folder; returns it. `shards`: the weights in so many files. `kimi`:
    with the tokens around a Kimi model's tool calls."""
    special = SPECIAL + (KIMI_SPECIAL if kimi else ())
    values = _Numbers().weights
    return write_folder(folder, shape or Shape(), values, TEMPLATE, special, shards=shards)


def write_folder(
    folder: Path,
    shape: Shape,
    weights: Weights,
    template: str,
    special: tuple[str, ...],
    texts: tuple[str, ...] = (),
    shards: int = 1,
) -> Path:
    """Make a model of given weights in a new folder; returns it. `special` begins as `SPECIAL`
    does; `texts` are tokens too, shown as what they are."""
    vocabulary = padded(len(vocabulary_of(special, texts)))
    folder.mkdir(parents=True)
    _write_json(folder / "config.json", _config(shape, vocabulary))
    _write_json(folder / "generation_config.json", {"eos_token_id": END_OF_MESSAGE})
    _write_json(folder / "tokenizer.json", _tokenizer(special, texts))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": SPECIAL[END_OF_MESSAGE],
            "pad_token": SPECIAL[END_OF_TEXT],
            "chat_template": template,
            "model_max_length": shape.context,
        },
    )
    _write_weights(folder, dict(_tensors(shape, vocabulary)), weights, shards)
    return folder


def vocabulary_of(special: tuple[str, ...], texts: tuple[str, ...] = ()) -> list[str]:
    """All tokens in the order of their numbers: the special ones, one a byte, the texts."""
    return [*special, *_byte_names(), *texts]


def padded(count: int) -> int:
    """The size of a vocabulary of so many tokens."""
    return -(-count // 64) * 64


def truncate(file: Path) -> None:
    """Leave the first half of a file, as a download that was cut off does."""
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)


def _config(shape: Shape, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": END_OF_MESSAGE,
    }


def _tokenizer(special: tuple[str, ...], texts: tuple[str, ...]) -> dict[str, Any]:
    """A tokenizer.json of a byte-level BPE that joins nothing: one token a byte."""
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    words = vocabulary_of(special, texts)
    added = {number: name for number, name in enumerate(words) if name in {*special, *texts}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": name in special,
            }
            for number, name in added.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": False},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": [],
        },
    }


def _byte_names() -> Iterator[str]:
    """The character that stands for each byte in a byte-level vocabulary: itself where it can be
    seen in Latin-1, else the next one from U+0100 on (GPT-2, `bytes_to_unicode`)."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    for byte in range(256):
        yield chr(byte if byte in seen else next(others))


def _tensors(shape: Shape, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight's name and dimensions, as Qwen2 has them."""
    wide, narrow = shape.hidden, shape.hidden // shape.heads * shape.kv_heads
    yield "model.embed_tokens.weight", (vocabulary, wide)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for name, rows in (("q", wide), ("k", narrow), ("v", narrow)):
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, wide)
            yield f"{prefix}self_attn.{name}_proj.bias", (rows,)
        yield f"{prefix}self_attn.o_proj.weight", (wide, wide)
        yield f"{prefix}mlp.gate_proj.weight", (shape.inner, wide)
        yield f"{prefix}mlp.up_proj.weight", (shape.inner, wide)
        yield f"{prefix}mlp.down_proj.weight", (wide, shape.inner)
        yield f"{prefix}input_layernorm.weight", (wide,)
        yield f"{prefix}post_attention_layernorm.weight", (wide,)
    yield "model.norm.weight", (wide,)
    yield "lm_head.weight", (vocabulary, wide)


def _write_weights(
    folder: Path, tensors: dict[str, tuple[int, ...]], weights: Weights, shards: int
) -> None:
    if shards == 1:
        _write_safetensors(folder / WEIGHTS, tensors, weights)
        return
    names = list(tensors)
    where = {}
    total = 0
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        total += _write_safetensors(folder / file, part, weights)
        where.update(dict.fromkeys(part, file))
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _write_safetensors(file: Path, tensors: dict[str, tuple[int, ...]], weights: Weights) -> int:
    """A file of the safetensors format: the length of a JSON header, the header, the weights
    (safetensors README, "Format"). Returns the weights' bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = []
    at = 0
    for name, dimensions in tensors.items():
        data.append(values := weights(name, dimensions))
        header[name] = {
            "dtype": "BF16",
            "shape": dimensions,
            "data_offsets": [at, at + len(values)],
        }
        at += len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    return at


class _Numbers:
    """Weights as bfloat16, which is the upper half of a float32."""

    def __init__(self) -> None:
        self._random = random.Random(0)
        # 256 values that lie as a normal distribution's do: enough for what makes no sense.
        bell = NormalDist(0, SPREAD)
        self._table = [bf16(bell.inv_cdf((step + 0.5) / 256)) for step in range(256)]

    def weights(self, name: str, dimensions: tuple[int, ...]) -> bytes:
        """Those of a normalisation leave everything as it is."""
        if "norm" in name:
            return bf16(1.0) * count(dimensions)
        return b"".join(map(self._table.__getitem__, self._random.randbytes(count(dimensions))))


def bf16(value: float) -> bytes:
    """A number as bfloat16."""
    return struct.pack("<f", value)[2:]


def count(dimensions: tuple[int, ...]) -> int:
    """How many weights there are."""
    return math.prod(dimensions)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
