"""The keeper's process: ``python -m kimi_cli.agent.keeping FOLDER DESCRIPTOR``."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from kimi_cli.serve.keeper import Keeper
from kimi_cli.serve.running import Checked

WARM_AFTER_SECONDS = 2.0
NO_PARSER = "vLLM runs without a tool parser: give the model's after --, as --tool-call-parser NAME"


async def _prove(base_url: str, key: str, model: str, tools: bool) -> Iterable[Checked]:
    from kimi_cli.model.verify.prove import prove

    found = await prove(base_url, key, model, tools=tools)
    checks = [Checked(name, ok, words) for name, ok, words in found]
    return checks if tools else [*checks, Checked("tool call", False, NO_PARSER)]


def _warm() -> None:
    """Import what proving needs while vLLM loads: afterwards somebody waits for it."""
    import importlib

    from kimi_cli.model.sdk import Connection

    Connection("http://127.0.0.1", "", {}, 1.0).warm()
    importlib.import_module("kimi_cli.model.verify.prove")


def main(folder: str, owner: str) -> None:
    """Keep the server of `folder`; `owner` is the descriptor of a pipe, or -1."""
    keeper = Keeper(Path(folder), _prove)
    # When vLLM's processes have been started: until then, only one thread should fork.
    warming = threading.Timer(WARM_AFTER_SECONDS, _warm)
    warming.daemon = True
    warming.start()
    asyncio.run(keeper.run(int(owner)))


if __name__ == "__main__":
    main(*sys.argv[1:])
