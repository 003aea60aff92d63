"""``kimi models``: what the endpoint has, joined with the catalogue."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from kimi_cli.cli.event_loop import run
from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.here import working_directory
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.model.catalogue import ModelInfo
    from kimi_cli.settings import Loaded

PIPE_WIDTH = 200
_OF = {
    "user": "your settings",
    "project": "the project's settings",
    "environment": "the environment",
    "endpoint": "the endpoint",
    "catalogue": "the catalogue",
    "default": "a guess",
}
"""The sources of a context window, for people."""


def show_models(base_url: str | None, as_json: bool) -> int:
    """Print the endpoint's models; returns the exit code."""
    from dataclasses import replace

    from kimi_cli.agent.model_config import missing_key, model_config
    from kimi_cli.model.endpoint import Listed, list_models
    from kimi_cli.model.errors import REMEDIES, ConfigError
    from kimi_cli.settings import SettingsError, is_trusted, kimi_home, load_settings
    from kimi_cli.workspace.roots import project_root

    root = project_root(working_directory())
    flags = {"endpoint.base_url": base_url} if base_url else {}
    try:
        loaded = load_settings(
            env=os.environ,
            project_root=root,
            flags=flags,
            trusted=is_trusted(kimi_home(os.environ), root),
        )
        settings = loaded.settings
        if problem := missing_key(settings):
            print(f"kimi: {problem}", file=sys.stderr)
            return EXIT_CODES[StopReason.AUTHENTICATION]
        found = run(list_models(model_config(settings, settings.model, "", "")))
    except (SettingsError, ConfigError) as error:
        print(f"kimi: {error}", file=sys.stderr)
        return 2
    if found.error is not None:
        remedy = REMEDIES[found.error.kind]
        print(f"kimi: {found.error.message}. {remedy.advice}", file=sys.stderr)
        return EXIT_CODES[remedy.stop]

    def row(model: Listed) -> dict[str, Any]:
        given = model_config(settings, model.id, "", "").given
        window, source, detail = _window(model.info, loaded)
        info, price = given.over(replace(model.info, context=window)), model.price
        return {
            "id": model.id,
            "current": model.id == settings.model,
            "context": info.context,
            "context_source": source,
            "context_detail": detail,
            "thinking": " | ".join(info.efforts) or info.thinking,
            "inputs": ["text", *sorted(info.media(found.dialect.hosted))],
            "price": price
            and {
                "currency": price.currency,
                "input": price.input,
                "cached_input": price.cached_input,
                "output": price.output,
                "source": price.source,
                "date": price.date,
            },
        }

    rows = [row(model) for model in found.models]
    if as_json:
        print(json.dumps({"dialect": found.dialect.name, "models": rows}, ensure_ascii=False))
    else:
        _print_table(rows)
    return 0


def _window(info: ModelInfo, loaded: Loaded) -> tuple[int, str, str]:
    """The context window that a session gets, who says so, and where (a file with its line, a
    variable). Where endpoint and catalogue say the same, the catalogue counts as the source."""
    from kimi_cli.model.catalogue import lookup
    from kimi_cli.model.dialects import recognised
    from kimi_cli.settings.keys import dotted

    entry = loaded.settings.models.get(info.id)
    if entry and entry.context is not None:
        source = loaded.sources[dotted(("models", info.id, "context"))]
        return entry.context, source.kind, source.detail
    own = lookup(info.id)
    # Served under another name: the row is that of the model it was loaded from.
    known = lookup(info.repository) if info.listed and not own.listed else own
    if known.listed and recognised(loaded.settings.endpoint.base_url):
        # Moonshot's own hosts are not asked for the window of a model that is known.
        return known.context, "catalogue", ""
    if info.context != known.context:
        return info.context, "endpoint", ""
    return info.context, "catalogue" if known.listed else "default", ""


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    # An id must be found whole, by people who copy it and by programs that search for it.
    table.add_column("model", no_wrap=True)
    price_name = "price per 1M tokens (in, cached, out)"
    for name in ("context", "from", "thinking", "input", price_name):
        table.add_column(name, overflow="fold")
    for row in rows:
        price = row["price"]
        cost = (
            f"{price['currency']} {price['input']:g}, {price['cached_input']:g}, "
            f"{price['output']:g}"
            if price
            else ""
        )
        mark = " *" if row["current"] else ""
        inputs = ", ".join(row["inputs"])
        table.add_row(
            row["id"] + mark, _size(row["context"]), _OF[row["context_source"]],
            row["thinking"], inputs, cost,
        )  # fmt: skip
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)


def _size(window: int) -> str:
    return f"{window:,}" if window % 1024 else f"{window // 1024:,}k"
