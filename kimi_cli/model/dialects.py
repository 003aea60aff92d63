"""How endpoints that speak chat completions differ, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from kimi_cli.model.catalogue import ModelInfo
from kimi_cli.model.errors import ConfigError

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of endpoint.

    ``reasoning_field`` names the field in which reasoning goes back, "" where it never does.
    ``switch`` is how thinking is set: the ``thinking`` object of the request, or the template's
    arguments, or not at all; ``effort_field`` the field of a thinking effort where it stands
    outside the switch. ``sampling`` "catalogue" sends the model card's values, "omit" only what
    the user forces. ``caps`` says whether an answer's length is limited even when nobody asks:
    vLLM and SGLang then allow the rest of the window, which is better than any number.
    ``native_ids`` numbers a Kimi model's tool calls ``functions.NAME:IDX``. ``counts`` is how the
    server counts the tokens of a request before it is sent. ``hosted``: run by Moonshot, so prices
    hold and video is understood.
    """

    name: str
    reasoning_field: Literal["reasoning_content", "reasoning", ""]
    switch: Literal["thinking", "template", "none"]
    effort_field: Literal["reasoning_effort", ""]
    sampling: Literal["omit", "catalogue"]
    cap_field: Literal["max_completion_tokens", "max_tokens"]
    caps: bool
    native_ids: bool
    include_usage: bool
    cache_key: bool
    tool_media: Literal["inline", "user"]
    counts: Literal["estimate", "tokenize", ""]
    hosted: bool
    metered: bool


_MOONSHOT = Dialect(
    name="moonshot",
    reasoning_field="reasoning_content",
    switch="thinking",
    # platform.kimi.ai, "Use thinking effort": K3 takes a top-level field, and no `thinking`.
    effort_field="reasoning_effort",
    sampling="omit",
    cap_field="max_completion_tokens",
    caps=True,
    native_ids=False,
    include_usage=True,
    cache_key=True,
    tool_media="inline",
    counts="estimate",
    hosted=True,
    metered=True,
)
_SUBSCRIPTION = replace(
    _MOONSHOT,
    name="moonshot-subscription",
    # Moonshot's own client sends thinking.effort here (MoonshotAI/kimi-code).
    effort_field="",
    metered=False,
)
_VLLM = Dialect(
    name="vllm",
    # vllm#33402: `reasoning_content` of the history was silently dropped for a while.
    reasoning_field="reasoning",
    switch="template",
    effort_field="",
    sampling="catalogue",
    cap_field="max_tokens",
    caps=False,
    native_ids=True,
    include_usage=True,
    cache_key=False,
    tool_media="user",
    counts="tokenize",
    hosted=False,
    metered=False,
)
_SGLANG = replace(
    _VLLM,
    name="sglang",
    reasoning_field="reasoning_content",
    # Its /tokenize takes a finished prompt, no messages.
    counts="",
)
_COMPATIBLE = Dialect(
    name="openai-compatible",
    reasoning_field="",
    switch="none",
    effort_field="reasoning_effort",
    sampling="omit",
    cap_field="max_tokens",
    caps=True,
    native_ids=False,
    include_usage=True,
    cache_key=False,
    tool_media="user",
    counts="",
    hosted=False,
    metered=False,
)

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (_MOONSHOT, _SUBSCRIPTION, _VLLM, _SGLANG, _COMPATIBLE)
}


def dialect_named(name: str) -> Dialect:
    """The dialect of a setting. Raises ConfigError for a name that is none."""
    if name not in DIALECTS:
        raise ConfigError(f"unknown dialect {name!r}; there are: {', '.join((AUTO, *DIALECTS))}")
    return DIALECTS[name]


def recognised(base_url: str) -> Dialect | None:
    """The dialect that the address alone tells, None for a host that could be anything."""
    host = urlsplit(base_url).hostname or ""
    if host == "api.kimi.com":
        return _SUBSCRIPTION
    if host in ("api.moonshot.ai", "api.moonshot.cn"):
        return _MOONSHOT
    return None


def recognise(base_url: str, probe: Mapping[str, Any] | None = None) -> Dialect:
    """The dialect of an endpoint: from its address, else from ``probe``, the document that GET
    /models answered with (``owned_by`` of its entries), else the plainest one."""
    known = recognised(base_url)
    if known is not None:
        return known
    entries = probe.get("data") if probe is not None else None
    for entry in entries if isinstance(entries, list) else ():
        owner = str(entry.get("owned_by", "")).lower() if isinstance(entry, dict) else ""
        for dialect in (_VLLM, _SGLANG, _MOONSHOT):
            if owner.startswith(dialect.name):
                return dialect
    return _COMPATIBLE


def thinks(info: ModelInfo, thinking: str) -> bool:
    """Whether the model reasons under a setting that ``thinking_params`` accepts."""
    return info.thinking == "always" or (info.thinking != "none" and thinking != "off")


def thinking_params(dialect: Dialect, info: ModelInfo, thinking: str) -> dict[str, Any]:
    """The request's fields for "on" (or "", the model's default), "off" or an effort. Raises
    ConfigError for what the model or the endpoint can't do."""
    if thinking not in ("", "on", "off"):
        return _effort_params(dialect, info, thinking)
    on = thinking != "off"
    if not on and info.thinking == "always":
        hint = f"; efforts: {', '.join(info.efforts)}" if info.efforts else ""
        raise ConfigError(f"{info.id} always thinks: thinking can't be off{hint}")
    if dialect.switch == "template":
        return _template(info, on)
    if info.thinking != "switchable":
        return _kept(dialect, info)
    if dialect.switch == "thinking":
        return {"thinking": {"type": "enabled" if on else "disabled"}}
    if not on:
        raise ConfigError(
            f"the dialect {dialect.name} has no switch for thinking; set the dialect of the server"
        )
    return {}


def _effort_params(dialect: Dialect, info: ModelInfo, effort: str) -> dict[str, Any]:
    if info.efforts and effort not in info.efforts:
        raise ConfigError(f"{info.id} knows the efforts {', '.join(info.efforts)}, not {effort!r}")
    if not info.efforts and info.thinking != "unknown":
        choices = {"none": "on", "always": "on"}.get(info.thinking, "on, off")
        raise ConfigError(f"{info.id} has no thinking efforts; thinking can be: {choices}")
    if dialect.effort_field or info.thinking == "unknown":
        return {"reasoning_effort": effort}
    if dialect.switch == "template":
        arguments = {"thinking": True, "preserve_thinking": True, "thinking_effort": effort}
        return {"chat_template_kwargs": arguments}
    return {"thinking": {"type": "enabled", "keep": "all", "effort": effort}}


def _template(info: ModelInfo, on: bool) -> dict[str, Any]:
    if info.keeps_thinking:
        return {"chat_template_kwargs": {"thinking": True, "preserve_thinking": True}}
    if info.thinking == "switchable":
        # Qwen and GLM have another name for it than Kimi; templates ignore what they don't know.
        other = {} if info.listed else {"enable_thinking": on}
        return {"chat_template_kwargs": {"thinking": on, **other}}
    if info.thinking == "unknown" and not on:
        return {"chat_template_kwargs": {"thinking": False, "enable_thinking": False}}
    return {}


def _kept(dialect: Dialect, info: ModelInfo) -> dict[str, Any]:
    """The open platform keeps a K3's thinking by itself and wants no switch; the subscription's
    models are told."""
    if dialect.switch == "thinking" and not dialect.effort_field and info.keeps_thinking:
        return {"thinking": {"type": "enabled", "keep": "all"}}
    return {}


def sampling_params(
    dialect: Dialect,
    info: ModelInfo,
    thinking: str,
    temperature: float | None = None,
    top_p: float | None = None,
) -> dict[str, float]:
    """The sampling fields; ``temperature`` and ``top_p`` are what the user forces. Hosted Kimi
    models fix them and refuse other values."""
    if dialect.sampling == "catalogue":
        instant = info.thinking == "switchable" and thinking == "off"
        card = info.instant_temperature if instant else info.temperature
        temperature = card if temperature is None else temperature
        top_p = info.top_p if top_p is None else top_p
    forced = {"temperature": temperature, "top_p": top_p}
    return {key: value for key, value in forced.items() if value is not None}
