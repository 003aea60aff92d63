"""The models known by name, and how a name finds its row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import replace

from kimi_cli.serve.facts import ModelFacts

_KINDS = re.compile(r"-(?:nvfp4|mxfp4|fp8|int4|bf16|instruct|preview|code|thinking)$")


class UnknownModel(LookupError):
    """No row has the name; the message says what is near."""


def models() -> tuple[ModelFacts, ...]:
    """Every model, Kimi first, each group in the order in which to propose them."""
    from kimi_cli.serve.catalogue_coders import CODERS
    from kimi_cli.serve.catalogue_data import MOONSHOT

    return MOONSHOT + CODERS


def find_model(name: str) -> ModelFacts:
    """The row for a name as people write it: "k2.5", "Kimi-K2.5", "moonshotai/Kimi-K2.5".

    A repository of one variant ("nvidia/Kimi-K2.5-NVFP4") gives the model with that variant
    alone. Raises UnknownModel.
    """
    rows = models()
    wanted = _plain(name)
    for row in rows:
        for variant in row.variants:
            if wanted == _plain(variant.repo) and _is_derived(row, wanted):
                return replace(row, variants=(variant,))
    names = {spelling: row for row in reversed(rows) for spelling in _spellings(row)}
    if wanted in names:
        return names[wanted]
    starts = [row for row in rows if any(one.startswith(wanted) for one in _spellings(row))]
    if len(starts) == 1:
        return starts[0]
    raise UnknownModel(_unknown(name, wanted, starts, names))


def _is_derived(row: ModelFacts, wanted: str) -> bool:
    """Whether the repository is one of several and not the one that bears the model's name."""
    return len(row.variants) > 1 and wanted not in (row.id, _plain(row.name), *row.aliases)


def _plain(name: str) -> str:
    short = name.strip().rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"[\s_]+", "-", short)


def _spellings(row: ModelFacts) -> Iterator[str]:
    for name in (row.id, row.name, *row.aliases, *(one.repo for one in row.variants)):
        plain = _plain(name)
        yield plain
        yield plain.removeprefix("kimi-")


def _unknown(name: str, wanted: str, starts: list[ModelFacts], names: dict[str, ModelFacts]) -> str:
    near = starts or [
        names[one] for one in difflib.get_close_matches(_KINDS.sub("", wanted), names, 6, 0.5)
    ]
    listed = list(dict.fromkeys(row.id for row in near))[:4]
    hint = f"; near are {', '.join(listed)}" if listed else ""
    return (
        f"no model called {name!r} is known here{hint}. A folder with its config.json will do too"
    )
