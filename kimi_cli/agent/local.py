"""The servers that `kimi serve` runs on this computer, as places where a session's model is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from kimi_cli.agent.setup import Place
from kimi_cli.model.catalogue import lookup
from kimi_cli.serve.running import LOADING, UP

if TYPE_CHECKING:
    from kimi_cli.serve.running import ServerState
    from kimi_cli.serve.state import Server

MEDIA = ("image", "video")
EFFORTS = ("low", "medium", "high")
"""Those of OpenAI's `reasoning_effort`, which vLLM hands to the model's template."""
_WHERE = ("model", "endpoint.base_url", "endpoint.api_key")
_THINKING = {"none": "none", "switchable": "switch", "always": "always"}


class Ambiguous(Exception):
    """Several servers are meant; the message lists them, for people."""


def local_flags(state: ServerState, key: str) -> dict[str, object]:
    """The settings that lead to a server, by dotted key. What the catalogue knows of the model that
    it serves stays the catalogue's; of others it is told what the launch tells. Sampling is left
    alone: vLLM goes by the model's own generation_config where nothing is sent."""
    launch = state.launch
    entry: dict[str, object] = {
        "same_as": launch.repo or None,
        "context": state.context or launch.context or None,
        "media": [kind for kind in MEDIA if kind in launch.inputs],
    }
    if not lookup(launch.repo or launch.served_name).listed:
        entry["thinking"] = _THINKING.get(launch.thinking)
        entry["efforts"] = list(EFFORTS) if launch.thinking == "effort" else None
    # TOML quotes as JSON does.
    table = f"models.{json.dumps(launch.served_name, ensure_ascii=False)}"
    return {
        "model": launch.served_name,
        "endpoint.base_url": state.base_url,
        # Empty ones count too: keys and headers of the settings are for another endpoint.
        "endpoint.api_key": SecretStr(key),
        "endpoint.headers": {},
        "endpoint.dialect": "vllm",
        **{f"{table}.{name}": value for name, value in entry.items() if value is not None},
    }


def place_of(server: Server) -> Place:
    """The place of a server that is up. Raises OSError when its key can't be read."""
    notes = []
    if server.state.progress.stage == "limited":
        notes.append(f"the local server {server.name} is limited: {limits(server.state)}")
    key = server.key
    flags = local_flags(server.state, key)
    trouble = partial(_trouble, server.folder, flags)
    return Place(server.name, flags, tuple(notes), trouble)


def limits(state: ServerState) -> str:
    """What does not work on a server that is up."""
    failed = [f"{one.name}: {one.words}" if one.words else one.name for one in state.checks
              if not one.ok]  # fmt: skip
    return "; ".join(failed) or "tool calls don't work there"


def why_over(server: Server) -> str:
    """Why a server is not there any more, and what to do, as far as that is known."""
    trouble = server.state.trouble
    if trouble:
        todo = trouble.todo.strip()
        return f"{trouble.what.strip().rstrip('.')}. {todo[:1].upper()}{todo[1:]}".removesuffix(
            ". "
        )
    return "it was stopped" if server.state.progress.stage in ("stopped", "stopping") else ""


def again(server: Server) -> str:
    """The command that starts it again."""
    return f"`kimi serve restart {server.name}`"


def running(servers: Sequence[Server]) -> list[Server]:
    """Those that are up or will be, the newest first as in ``servers``."""
    return [one for one in servers if one.alive and one.state.progress.stage in (*LOADING, *UP)]


def is_up(server: Server) -> bool:
    """Whether it answers."""
    return server.alive and server.state.progress.stage in UP


def pick(servers: Sequence[Server], wanted: str, *, newest: bool = False) -> Server | None:
    """The running server that ``wanted`` means (its name, a name of its model, its port), or the
    only one where that is ""; None: there is none. ``newest``: of several the one that is up, and
    then the one started last. Raises Ambiguous."""
    found = running(servers)
    if wanted:
        from kimi_cli.serve.state import means

        exact = [one for one in found if one.name == wanted]
        found = exact or [one for one in found if means(one, wanted)]
    if len(found) > 1 and newest:
        found = [min(found, key=lambda one: (not is_up(one), -one.state.started))]
    if len(found) > 1:
        listed = "".join(f"\n  {one.name}  {about(one)}" for one in found)
        raise Ambiguous(f"several local servers run; say which with --local NAME:{listed}")
    return found[0] if found else None


def about(server: Server) -> str:
    """``kimi-k2.5 at http://127.0.0.1:8000/v1, ready``."""
    state = server.state
    return f"{state.launch.served_name} at {state.base_url}, {state.progress.stage}"


def _trouble(folder: Path, flags: Mapping[str, object]) -> str:
    """Why the server of a folder can't be reached with these settings; "" while it can."""
    from kimi_cli.serve.state import look

    server = look(folder)
    if server is None:
        return f"the local server {folder.name} is gone. `kimi serve MODEL` starts one."
    if is_up(server):
        if _is_there(server, flags):
            return ""
        return (
            f"the local server {server.name} was started anew since, and is {about(server)}. "
            "/model goes there, `kimi --local -c` does in a new run."
        )
    if server.state.progress.stage in LOADING and server.alive:
        return f"the local server {server.name} is being started again: wait until it is ready."
    why = why_over(server)
    said = f": {why.rstrip('.')}" if why else ""
    start = "" if "`kimi serve restart" in why else f" {again(server)} starts it again."
    return f"the local server {server.name} has ended{said}.{start}"


def _is_there(server: Server, flags: Mapping[str, object]) -> bool:
    """Whether it still has the address, the key and the model's name of these settings: a restart
    keeps them, another start under its name may not."""
    try:
        now = local_flags(server.state, server.key)
    except OSError:
        return False
    return all(now[name] == flags[name] for name in _WHERE)
