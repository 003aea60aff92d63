"""What servers say when a request does not fit into the context window.

The protocol has no field for it: OpenAI has a code, llama.cpp a type and numbers, all others only
words. The forms are those of vLLM, SGLang, llama.cpp, LM Studio, Ollama, TGI, TensorRT-LLM,
Moonshot, OpenAI, Anthropic, Google, xAI, Mistral, Qwen and the gateways before them.
"""

from __future__ import annotations

import re

SMALLEST_WINDOW = 256
"""A smaller number is not a window but something else that was taken for one."""

_N = r"[(\s]*(\d[\d,]*)"

_TOO_LONG = re.compile(
    r"context.length|context.window|context size|max_model_len|max_seq_len|max_num_tokens"
    r"|exceed(ed|s)? (the |your )?(model )?token limit|token limit exceeded|max length exceeded"
    r"|(maximum|max) (prompt|model|sequence|(allowed )?input) length|maximum allowed length"
    r"|maximum number of tokens allowed|configured limit of \d+ tokens"
    r"|(input|prompt|request)( token length)?( is)? too (long|large)|too many tokens"
    r"|token count of \d+ exceeds the limit|range of input length"
    r"|longer than the (model|maximum)|exceeds? the (model's )?(maximum|context)"
    r"|reduce the (length|number of tokens)|inputs` tokens"
    r"|max_(completion_)?tokens must be at least 1, got -",
    re.IGNORECASE,
)
# Words of the same kind about other limits: how fast one may send, how much one may ask for.
_OTHER_LIMIT = re.compile(
    r"throttl|rate limit|per minute|per day|\bTPM\b|please wait"
    r"|max_(completion_|output_)?tokens must be (less|smaller)|maximum value for .?max_",
    re.IGNORECASE,
)
# The first that fits names the window; what was requested is a number too and must not.
_WINDOW = [
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"maximum (?:context|prompt|model|sequence|(?:allowed )?input) length(?: is| of)?{_N}",
        rf"maximum allowed length{_N}",
        rf"context (?:length|size|window)(?: is only| is| of)?{_N}",
        r"(\d[\d,]*) maximum context length",
        rf"token limit(?: of|:){_N}",
        rf"max(?:imum)? length:{_N}",
        r"> ?(\d[\d,]*) maximum",
        rf"maximum number of tokens allowed{_N}",
        rf"exceeds? the (?:configured )?limit of{_N}",
        r"input length should be \[\d+, ?(\d[\d,]*)",
        rf"max_(?:model_len|seq_len|num_tokens){_N}",
        r"must be <= (\d[\d,]*)",
        r"n_ctx\W{1,4}(\d+)",
    )
]


def too_long(words: str) -> bool:
    """Whether the words refuse a request as too long, or its answer as too long for what the
    request leaves of the window."""
    return bool(_TOO_LONG.search(words)) and not _OTHER_LIMIT.search(words)


def window_named(words: str) -> int | None:
    """The context window in tokens that a refusal names, None where it names none."""
    for form in _WINDOW:
        if found := form.search(words):
            window = int(found[1].replace(",", ""))
            return window if window >= SMALLEST_WINDOW else None
    return None
