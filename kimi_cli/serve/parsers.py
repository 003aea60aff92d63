"""vLLM's parsers for models that the catalogue lacks, by architecture and chat template.

A wrong parser silently leaves tool calls in the text, so that where it can't be told none is given.
"""

from __future__ import annotations

NO_PARSER = (
    "how this model writes tool calls isn't known: without the right --tool-call-parser an agent "
    "gets none"
)
_BY_TYPE = {
    "kimi_k25": ("kimi_k2", "kimi_k2"),
    "kimi_k3": ("kimi_k3", "kimi_k3"),
    "gpt_oss": ("openai", "openai_gptoss"),
    "glm4_moe_lite": ("glm47", "glm45"),
    "minimax_m2": ("minimax_m2", "minimax_m2"),
}
"""Of vLLM 0.33 (`tool_parsers/__init__.py`, `reasoning/__init__.py`) as its recipes pair them."""


def parsers_of(model_type: str, template: str) -> tuple[str, str, tuple[str, ...]]:
    """The tool parser, the reasoning parser ("" for none) and notes, for config.json's
    ``model_type`` and the text of the chat template."""
    if model_type in _BY_TYPE:
        return *_BY_TYPE[model_type], ()
    thinks = "<think>" in template
    if model_type == "kimi_k2":
        # With a reasoning parser all that a model says which never thinks is taken for reasoning.
        return "kimi_k2", "kimi_k2" if thinks else "", ()
    if model_type.startswith("qwen") and "<tool_call>" in template:
        tool = "qwen3_coder" if "<function=" in template else "hermes"
        return tool, "qwen3" if thinks else "", ()
    return "", "", (NO_PARSER,)
