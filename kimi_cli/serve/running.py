"""What the parts that run a server tell each other: what was asked, what is started, how it goes.

Every size is in bytes, every length in tokens, every time in seconds (since the epoch where it is
a moment). Nothing here computes or does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kimi_cli.serve.facts import NodeCommand, Wish

Stage = Literal[
    "starting",
    "download",
    "load",
    "compile",
    "profile",
    "graphs",
    "warmup",
    "proving",
    "ready",
    "limited",
    "stopping",
    "stopped",
    "failed",
]
LOADING: tuple[Stage, ...] = (
    "starting",
    "download",
    "load",
    "compile",
    "profile",
    "graphs",
    "warmup",
    "proving",
)
"""The stages before it can be used, in their order; a repair goes back to the first."""
UP: tuple[Stage, ...] = ("ready", "limited")
"""It answers; limited: but not with tool calls."""
OVER: tuple[Stage, ...] = ("stopped", "failed")


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked to run; enough to ask for it again. `extra` are options for `vllm serve`
    as given after ``--``. `gpus` describes the machine where it is not to be looked at. `hosts`
    are the nodes, the head first; empty: this computer. `trusted`: code of the model's repository
    may run. `key` False: no API key. `name` is what the server is called here."""

    model: str
    wish: Wish = field(default_factory=Wish)
    extra: tuple[str, ...] = ()
    gpus: str = ""
    hosts: tuple[str, ...] = ()
    ray: bool = False
    spans: bool = False
    trusted: bool = False
    key: bool = True
    name: str = ""
    port_given: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to start one server, decided beforehand. `commands` has the head first;
    their argv[0] is the absolute path of vLLM's program on this computer, or its name for other
    hosts. The key is in no command: the head's environment gets it as it starts. `context` is the
    longest a conversation may be, as planned; `title` and `about` are the two lines that a person
    reads of the plan; `notes` what there is to know besides."""

    name: str
    request: Request
    commands: tuple[NodeCommand, ...]
    host: str
    port: int
    served_name: str
    repo: str
    context: int
    weight_bytes: int = 0
    thinking: str = ""
    tool_parser: str = ""
    reasoning_parser: str = ""
    inputs: tuple[str, ...] = ("text",)
    vllm_version: str = ""
    title: str = ""
    about: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """A change that makes the next start work: options to set, by name and value (None: a
    switch), and the words that say so."""

    set: tuple[tuple[str, str | None], ...]
    why: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a server did not start or died: what happened, what to do next, and the line of the
    log that tells it. `kind` is a short fixed word for scripts."""

    kind: str
    what: str
    todo: str
    evidence: str = ""
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the start is. `done` is a share from 0 to 1 (None: can't be told), `detail` says of
    what ("105/163"), `eta` the seconds that are left of this stage (None: unknown), `waiting` what
    it seems to wait for when nothing has moved for long ("" while all is well)."""

    stage: Stage
    since: float
    done: float | None = None
    detail: str = ""
    eta: float | None = None
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was tried on the running server, and in words what came of it."""

    name: str
    ok: bool
    words: str = ""


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server as its keeper last wrote it down. `id` marks every process of it (the variable
    KIMI_SERVER_ID of its environment). `context` is what vLLM itself says once it answers.
    `answered` is the moment of the first answer of vLLM, `ready` when it was proved. `tokens` fit
    into its cache (0: not told). `notes` are for people: repairs, hints."""

    id: str
    launch: Launch
    keeper_pid: int
    started: float
    progress: Progress
    context: int = 0
    tokens: int = 0
    answered: float | None = None
    ready: float | None = None
    ended: float | None = None
    checks: tuple[Checked, ...] = ()
    notes: tuple[str, ...] = ()
    trouble: Trouble | None = None
    repairs: tuple[Repair, ...] = field(default=())

    @property
    def base_url(self) -> str:
        """Where an OpenAI client finds it."""
        host = self.launch.host
        if host in ("0.0.0.0", "::", ""):
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.launch.port}/v1"
