"""The table of Kimi models, keyed by the lower-case ids and stems by which they are known.

Windows, thinking and sampling follow the model cards of huggingface.co/moonshotai and the quick
starts of platform.kimi.ai. Prices stand only where third parties quote Moonshot's without
contradiction; the settings can override them. A key matches an id that equals it or goes on with
``-``, ``_``, ``:``, ``@``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kimi_cli.model.catalogue import ModelInfo, Price

_READ = "2026-11-22"
# Moonshot's own pages were not read: these are others' quotes of them.
_AI = "Moonshot's dollar prices, as quoted by third parties"
_CN = "Moonshot's yuan prices, as quoted by third parties"
_128K, _256K, _1M = 131_072, 262_144, 1_048_576
_IMAGE = frozenset({"image"})
_VIDEO = frozenset({"video"})


def _usd(input: float, cached: float, output: float) -> Price:
    return Price("USD", input, cached, output, _AI, _READ)


def _cny(input: float, cached: float, output: float) -> Price:
    return Price("CNY", input, cached, output, _CN, _READ)


_K15 = ModelInfo(
    id="kimi-k1.5-preview",
    context=_128K,
    thinking="unknown",
    inputs=_IMAGE,
    native_ids=False,
    max_output=16_384,
    note="hosted only, by application",
)
_K2 = ModelInfo(
    id="kimi-k2-instruct",
    context=_128K,
    thinking="none",
    temperature=0.6,
    prices=(_usd(0.60, 0.15, 2.50),),
    repository="moonshotai/Kimi-K2-Instruct",
    note="fp8, about 1 TB; served without a reasoning parser",
)
_K2_0905 = replace(
    _K2,
    id="kimi-k2-0905-preview",
    context=_256K,
    repository="moonshotai/Kimi-K2-Instruct-0905",
)
_K2_TURBO = replace(_K2_0905, id="kimi-k2-turbo-preview", prices=(), note="fast, hosted only")
_K2_THINKING = ModelInfo(
    id="kimi-k2-thinking",
    context=_256K,
    thinking="always",
    temperature=1.0,
    prices=(_usd(0.60, 0.15, 2.50),),
    repository="moonshotai/Kimi-K2-Thinking",
    note="int4, about 594 GB; thinks between its tool calls",
)
_K2_THINKING_TURBO = replace(
    _K2_THINKING,
    id="kimi-k2-thinking-turbo",
    prices=(_usd(1.15, 0.15, 8.00),),
    note="fast, hosted only",
)
_K25 = ModelInfo(
    id="kimi-k2.5",
    context=_256K,
    thinking="switchable",
    temperature=1.0,
    instant_temperature=0.6,
    top_p=0.95,
    inputs=_IMAGE,
    hosted_inputs=_VIDEO,
    prices=(_usd(0.60, 0.10, 3.00),),
    repository="moonshotai/Kimi-K2.5",
    note="video through the hosted API only",
)
_K26 = replace(
    _K25,
    id="kimi-k2.6",
    prices=(_usd(0.95, 0.16, 4.00), _cny(6.5, 1.1, 27.0)),
    repository="moonshotai/Kimi-K2.6",
)
_K27 = ModelInfo(
    id="kimi-k2.7-code",
    context=_256K,
    thinking="always",
    temperature=1.0,
    top_p=0.95,
    inputs=_IMAGE,
    hosted_inputs=_VIDEO,
    keeps_thinking=True,
    prices=(_usd(0.95, 0.19, 4.00), _cny(6.5, 1.3, 27.0)),
    repository="moonshotai/Kimi-K2.7-Code",
    note="keeps its earlier thinking",
)
_K27_FAST = replace(
    _K27,
    id="kimi-k2.7-code-highspeed",
    prices=(_cny(13.0, 2.6, 54.0),),
    note="K2.7 Code at a higher speed, hosted only",
)
_K3 = ModelInfo(
    id="kimi-k3",
    context=_1M,
    thinking="always",
    efforts=("low", "high", "max"),
    inputs=_IMAGE | _VIDEO,
    keeps_thinking=True,
    max_output=65_536,
    prices=(_usd(3.00, 0.30, 15.00), _cny(20.0, 2.0, 100.0)),
    repository="moonshotai/Kimi-K3",
    note="effort max unless another is set",
)
_K31 = replace(_K3, id="kimi-k3.1-pro", prices=(_usd(2.00, 0.20, 10.00),))
_K31_FAST = replace(
    _K31,
    id="kimi-k3.1-pro-highspeed",
    prices=(_usd(4.00, 0.20, 20.00),),
    note="K3.1 Pro at a higher speed, hosted only",
)
_PLAN = "of the subscription: paid by plan, not by token"
_FOR_CODING = ModelInfo(
    id="kimi-for-coding",
    context=_256K,
    thinking="switchable",
    inputs=_IMAGE | _VIDEO,
    note=_PLAN,
)
_LATEST = ModelInfo(
    id="kimi-latest",
    context=_128K,
    thinking="unknown",
    inputs=_IMAGE,
    note="an alias of the hosted API that changes its model",
)

ROWS: Mapping[str, ModelInfo] = {
    "kimi-k1.5": _K15,
    "kimi-k2": _K2,
    "kimi-k2-0711": _K2,
    "kimi-k2-instruct": _K2,
    "kimi-k2-0905": _K2_0905,
    "kimi-k2-instruct-0905": _K2_0905,
    "kimi-k2-turbo": _K2_TURBO,
    "kimi-k2-thinking": _K2_THINKING,
    "kimi-k2-thinking-turbo": _K2_THINKING_TURBO,
    "kimi-k2.5": _K25,
    "kimi-k2.6": _K26,
    "kimi-k2.7-code": _K27,
    "kimi-k2.7-code-highspeed": _K27_FAST,
    "kimi-k3": _K3,
    "k3": replace(_K3, id="k3", prices=(), note=_PLAN),
    "k3-256k": replace(_K3, id="k3-256k", context=_256K, prices=(), note=_PLAN),
    "kimi-k3.1-pro": _K31,
    "kimi-k3.1-pro-highspeed": _K31_FAST,
    "kimi-for-coding": _FOR_CODING,
    "kimi-latest": _LATEST,
}
