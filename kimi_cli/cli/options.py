"""What is wrong with the settings that flags give, in the user's words."""

from __future__ import annotations

from collections.abc import Mapping

from kimi_cli.frontends.setting_words import value_problems
from kimi_cli.settings.keys import split_key

FLAGS = {
    "model": "--model",
    "thinking": "--thinking",
    "endpoint.base_url": "--base-url",
    "endpoint.dialect": "--dialect",
    "headless.on_ask": "--on-ask",
    "budget.max_steps": "--max-steps",
    "budget.max_tokens": "--max-tokens",
    "budget.max_cost": "--max-cost",
    "budget.timeout": "--timeout",
}


def flag_problems(flags: Mapping[str, object]) -> str:
    """A line for each flag whose value can't be one, by the dotted key that it sets; "" where all
    can be."""
    return "\n".join(
        problem
        for name, value in flags.items()
        for problem in value_problems(split_key(name), value, FLAGS.get(name, name))
    )
