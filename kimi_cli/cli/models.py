"""``kimi models``: what the endpoint has, joined with the catalogue."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from kimi_cli.cli.event_loop import run
from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.here import working_directory
from kimi_cli.protocol.stops import StopReason

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
    from kimi_cli.agent.model_config import missing_key, model_config
    from kimi_cli.frontends.models import model_row
    from kimi_cli.model.endpoint import list_models
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

    rows = [model_row(model, found.dialect, loaded) for model in found.models]
    if as_json:
        print(json.dumps({"dialect": found.dialect.name, "models": rows}, ensure_ascii=False))
    else:
        _print_table(rows)
    return 0


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from kimi_cli.frontends.models import price_text, window_text

    table = Table(box=None, pad_edge=False, header_style="bold")
    # An id must be found whole, by people who copy it and by programs that search for it.
    table.add_column("model", no_wrap=True)
    price_name = "price per 1M tokens (in, cached, out)"
    for name in ("context", "from", "thinking", "input", price_name):
        table.add_column(name, overflow="fold")
    for row in rows:
        mark = " *" if row["current"] else ""
        inputs = ", ".join(row["inputs"])
        table.add_row(
            row["id"] + mark, window_text(row["context"]), _OF[row["context_source"]],
            row["thinking"], inputs, price_text(row["price"]),
        )  # fmt: skip
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(table)
