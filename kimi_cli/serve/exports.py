"""A plan as a file for a cluster's own tools: Kubernetes (LeaderWorkerSet), Slurm, SkyPilot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from shlex import quote
from typing import Any

from kimi_cli.serve import flags, gpus
from kimi_cli.serve.facts import EnvVar, Flag, Plan
from kimi_cli.serve.wording import count

KINDS = ("lws", "slurm", "skypilot")
VLLM = "0.33.0"
"""The version whose options the plan has; its images are tagged so."""
_NOT_NAME = re.compile(r"[^a-z0-9]+")
_PER_NODE = (
    *("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("VLLM_HOST_IP", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"),
)
"""What holds for one computer only; a cluster's scheduler gives each its own."""


class CannotExport(ValueError):
    """The plan can't be said in this form; the message says why."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What all forms are made of. `flags` and `environment` are those of every node; `per_node`
    and `gpu` its GPUs."""

    plan: Plan
    name: str
    image: str
    nodes: int
    per_node: int
    gpu: str
    port: int
    served_name: str
    flags: tuple[Flag, ...]
    environment: tuple[EnvVar, ...]

    def command(self, head: str, rank: str, first: str) -> tuple[list[str], list[str]]:
        """``vllm serve`` with its options, each a piece of a shell's line: for every node, and
        what all but the head have besides. The three are put in as they are, for the shell to
        expand."""
        every, others = flags.rank_words(self.plan.layout, self.nodes, head, rank, first)
        given = [" ".join(map(quote, flags.words(flag))) for flag in self.flags]
        start = f"vllm serve {quote(self.plan.variant.repo)}"
        return [start, *given, *_paired(every)], _paired(others)

    def about(self) -> Iterator[str]:
        """What it is, in lines without a mark for comments."""
        layout = self.plan.layout
        cut = []
        for size, what in (
            (layout.tensor, "tensor parallel"),
            (layout.pipeline, "pipeline parallel"),
            (layout.data, "data parallel"),
            (layout.decode_context, "decode context parallel"),
        ):
            if size > 1:
                cut.append(f"{what} {size}")
        where = f"{count(self.nodes, 'node')} of {self.per_node} {self.gpu}"
        yield f"{self.plan.model.name} on {where}: {', '.join(cut) or 'one GPU a copy'}."
        yield f"Context {self.plan.context:,} tokens. Made by kimi serve plan --export."

    @property
    def copies(self) -> int:
        """Data-parallel copies on each node."""
        return max(1, self.plan.layout.data // self.nodes)

    @property
    def load_seconds(self) -> int:
        """So long a start may take once the weights are there."""
        return flags.ready_timeout(self.plan.variant.weight_bytes)

    @property
    def weights_gib(self) -> int:
        """Room for the download, with some to spare."""
        return -(-self.plan.variant.weight_bytes * 12 // (10 << 30))


def export(plan: Plan, kind: str, *, name: str = "") -> str:
    """The plan as the text of one file, ending with a newline. `kind` is one of KINDS, `name` what
    the service is called there ("": after the model). Raises CannotExport."""
    if kind not in KINDS:
        raise CannotExport(f"{kind!r} is none of {', '.join(KINDS)}")
    module: Any = import_module(f"kimi_cli.serve.export_{kind}")
    text: str = module.write(_sheet(plan, name))
    return text


def _sheet(plan: Plan, name: str) -> Sheet:
    used = {one.host for one in plan.commands}
    nodes = [node for node in plan.machine.nodes if node.host in used]
    kinds = {gpu.name for node in nodes for gpu in node.gpus}
    if not nodes or not kinds or nodes[0].vendor not in ("nvidia", "amd"):
        raise CannotExport("a plan without GPUs has no such form")
    if len(kinds) > 1:
        mixed = ", ".join(sorted(kinds))
        raise CannotExport(f"a cluster gives nodes alike, this plan mixes {mixed}")
    amd = nodes[0].vendor == "amd"
    version = VLLM
    if gpus.version(_two(plan.variant.min_vllm)) > gpus.version(_two(VLLM)):
        version = plan.variant.min_vllm
    given = {flag.name: flag.value or "" for flag in plan.flags}
    label = _NOT_NAME.sub("-", (name or plan.model.id).lower()).strip("-")[:50] or "model"
    card = gpus.find_card(kinds.pop(), any_size=True)
    return Sheet(
        plan=plan,
        name=label.strip("-"),
        image=f"vllm/vllm-openai{'-rocm' if amd else ''}:v{version}",
        nodes=len(plan.commands),
        per_node=plan.layout.world // len(plan.commands),
        gpu=card.name if card else nodes[0].gpus[0].name,
        port=int(given["--port"]),
        served_name=given["--served-model-name"],
        flags=tuple(
            replace(flag, value="0.0.0.0") if flag.name == "--host" else flag for flag in plan.flags
        ),
        environment=tuple(
            one for one in plan.environment if not one.secret and one.name not in _PER_NODE
        ),
    )


def _two(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _paired(words: Iterable[str]) -> list[str]:
    """An option and its value together; what a shell is to expand stays as it is."""
    pieces: list[str] = []
    for word in words:
        if word.startswith("--"):
            pieces.append(word)
        else:
            pieces[-1] += f" {word}"
    return pieces


def sh_lines(pieces: Iterable[str], indent: str) -> str:
    """A command for any shell, a piece a line, joined by backslashes."""
    return f" \\\n{indent}  ".join(pieces)


def bash_function(sheet: Sheet, head: str, rank: str) -> str:
    """``serve``, a function in bash that becomes vLLM on the node it is called on. `head` and
    `rank` name the shell's variables that hold the head's address and the node's number."""
    first = f'"$(({rank} * {sheet.copies}))"'
    every, others = sheet.command(f'"${head}"', f'"${rank}"', first)
    text = "serve() {\n  local command=(\n"
    text += "".join(f"    {piece}\n" for piece in every) + "  )\n"
    if others:
        text += f'  if [ "${rank}" -ne 0 ]; then\n    command+=({" ".join(others)})\n'
        text += "    unset VLLM_API_KEY\n  fi\n"
    return text + '  exec "${command[@]}"\n}\n'


def comment(text: Iterable[str]) -> str:
    """Lines of comment, in all three forms."""
    return "".join(f"# {line}".rstrip() + "\n" for line in text)


def indented(text: str, blanks: int) -> str:
    """The text further to the right; empty lines stay empty."""
    return "".join(
        " " * blanks + line if line.strip() else line for line in text.splitlines(keepends=True)
    )
