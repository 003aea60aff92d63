"""A plan, or why there is none, as text."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from kimi_cli.frontends.serve.layout_text import INDENT, command, dotted, named, paragraph, table
from kimi_cli.serve.facts import (
    EnvVar,
    Flag,
    Gpu,
    GpuMemory,
    Machine,
    Node,
    NoPlan,
    Plan,
    Process,
    Way,
)
from kimi_cli.serve.install import Install

GIB = 1 << 30
NARROW = 60
OF_ONE_MODEL = (
    *("--variant", "--tensor-parallel", "--pipeline-parallel", "--data-parallel"),
    "--decode-context-parallel",
)
HEADINGS = ("GPU", "total", "in use", "weights", "kv", "overhead", "free")
PLAN = ("kimi", "serve", "plan")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a command was called: its model, and the options that were given. `program` is what
    stands before them."""

    model: str
    options: Mapping[str, str]
    program: tuple[str, ...] = PLAN

    def command(self, way: Way) -> str:
        """The same call with what a way changes."""
        if way.kind == "model":
            model, changed = way.options[0], way.options[1:]
        else:
            model, changed = self.model, way.options
        # Weights and cuts are of one model, and a number of computers of one kind.
        kept = dict(self.options)
        if way.kind == "model":
            for name in OF_ONE_MODEL:
                kept.pop(name, None)
        if "--gpus" in changed:
            kept.pop("--nodes", None)
        kept.update(zip(changed[::2], changed[1::2], strict=True))
        # Nothing is started on GPUs that are not here.
        program = PLAN if "--gpus" in changed else self.program
        return shlex.join([*program, model, *chain(*kept.items())])


def result_lines(
    result: Plan | NoPlan, asked: Asked, notes: Sequence[str], install: Install | None, width: int
) -> Iterator[str]:
    """The plan, or why there is none. `notes` are what was seen while looking for the GPUs, and
    `install` how vLLM gets here, where it isn't. At least 60 columns, which only what is to be
    copied exceeds."""
    width = max(width, NARROW)
    if isinstance(result, NoPlan):
        yield from _no_plan_lines(result, asked, notes, width)
    else:
        yield from _plan_lines(result, notes, install, width)


def no_gpu_lines(
    model: str, looked: Sequence[str], notes: Sequence[str], install: Install, width: int
) -> Iterator[str]:
    """That there is no GPU, where was looked, and how to plan for another computer."""
    width = max(width, NARROW)
    yield "kimi: no GPU was found on this computer"
    for one in (*looked, *notes):
        yield from paragraph(one, width)
    yield ""
    yield f"{INDENT}describe the one to plan for"
    for gpus in ("8xH200", "4xNAME 96GB"):
        yield f"{INDENT * 2}{shlex.join(['kimi', 'serve', 'plan', model, '--gpus', gpus])}"
    yield ""
    yield from _install_lines(install, width)


def _plan_lines(
    plan: Plan, notes: Sequence[str], install: Install | None, width: int
) -> Iterator[str]:
    yield from dotted(_title(plan), width, "")
    yield from _machine_lines(plan.machine, width)
    yield ""
    yield f"{INDENT}memory, GiB per GPU"
    yield from memory_lines(plan.memory, several=len(plan.machine.nodes) > 1)
    yield from dotted(_room(plan), width)
    yield ""
    yield f"{INDENT}why"
    yield from named(((one.what, one.why) for one in plan.reasons), width)
    yield ""
    yield f"{INDENT}flags"
    yield from named(((_flag(one), one.why) for one in plan.flags), width)
    # A node may have variables of its own, such as which of its GPUs are meant.
    everywhere = chain(plan.environment, *(one.environment for one in plan.commands))
    if variables := dict.fromkeys((_setting(one), one.why) for one in everywhere):
        yield ""
        yield f"{INDENT}environment"
        yield from named(variables, width)
    yield from _options(plan, width)
    yield from _remarks((*plan.notes, *notes), plan.estimated, width)
    if install is not None:
        yield ""
        yield from _install_lines(install, width)
    yield from _commands(plan, width)


def _no_plan_lines(
    refused: NoPlan, asked: Asked, notes: Sequence[str], width: int
) -> Iterator[str]:
    short = refused.short_by_bytes
    end = f"short by {gib(short)} GiB" if short else "can't run"
    called = f"{shlex.join(asked.program)} {refused.model.name}"
    yield from dotted((called, machine_name(refused.machine), end), width, "")
    yield from _machine_lines(refused.machine, width)
    yield ""
    yield from paragraph(refused.why, width)
    if refused.ways:
        yield ""
        yield f"{INDENT}what fits"
        for way in refused.ways:
            yield from paragraph(way.text, width, INDENT * 2, INDENT * 3)
            if way.options:
                yield f"{INDENT * 4}{asked.command(way)}"
    yield from _remarks(notes, (), width)


def memory_lines(rows: Sequence[GpuMemory], several: bool) -> Iterator[str]:
    """The memory table. GPUs of one node that are alike share a row; `several` names the node."""
    cells: list[Sequence[str]] = [HEADINGS]
    for _, group in groupby(rows, key=_alike):
        alike = list(group)
        one = alike[0]
        host = f"{one.host} " if several else ""
        figures = (one.total, one.others, one.weights, one.kv, one.overhead, one.free)
        label = f"{host}{_range([row.index for row in alike])} {short_name(one.name)}"
        cells.append([label, *map(gib, figures)])
    if not any(row.others for row in rows):
        at = HEADINGS.index("in use")
        cells = [[*row[:at], *row[at + 1 :]] for row in cells]
    yield from table(cells)


def machine_name(machine: Machine) -> str:
    """``8 × H200 140 GiB``, ``2 nodes of 8 × H100 80GB``, ``no GPU``."""
    kinds = [node_name(node) for node in machine.nodes]
    if len(kinds) < 2:
        return kinds[0] if kinds else "no GPU"
    counted = [(kind, len(list(same))) for kind, same in groupby(kinds)]
    return " + ".join(f"{count} nodes of {kind}" if count > 1 else kind for kind, count in counted)


def node_name(node: Node) -> str:
    """``8 × H200 140 GiB``."""
    names = [gpu_name(gpu) for gpu in node.gpus]
    counted = [(name, len(list(same))) for name, same in groupby(sorted(names))]
    return " + ".join(f"{count} × {name}" for name, count in counted) or "no GPU"


def gpu_name(gpu: Gpu) -> str:
    """``H200 140 GiB``; some names hold a size already."""
    name = short_name(gpu.name)
    if "GB" in name.upper() or not gpu.total_bytes:
        return name
    return f"{name} {gpu.total_bytes / GIB:.0f} GiB"


def short_name(name: str) -> str:
    """The name without the maker's."""
    for start in ("NVIDIA ", "AMD ", "Instinct "):
        name = name.removeprefix(start)
    return name


def gib(size: int) -> str:
    """A size in GiB with one decimal; never "-0.0"."""
    return f"{max(size, 0) / GIB:.1f}" if size > -GIB / 20 else f"{size / GIB:.1f}"


def tokens(count: int) -> str:
    """``256k``, ``1M`` for round lengths in powers of two; else ``715.1k``, ``5.7M``."""
    if count >= 1 << 20 and not count % (1 << 20):
        return f"{count >> 20}M"
    if count >= 1 << 10 and not count % (1 << 10) and count < 1 << 20:
        return f"{count >> 10}k"
    return amount(count)


def amount(count: int) -> str:
    """How many tokens fit, in powers of ten as the line above a start has it: ``9,840``,
    ``715.1k``, ``4.2M``."""
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def _title(plan: Plan) -> Iterator[str]:
    yield f"kimi serve plan {plan.model.name}"
    yield plan.variant.quantisation
    yield machine_name(plan.machine)
    layout = plan.layout
    for name, size in (
        ("tensor parallel", layout.tensor),
        ("pipeline parallel", layout.pipeline),
        ("data parallel", layout.data),
        ("expert parallel", layout.expert_ranks),
        ("decode context parallel", layout.decode_context),
    ):
        if size > 1:
            yield f"{name} {size}"
    yield f"{tokens(plan.context)} context"


def _machine_lines(machine: Machine, width: int) -> Iterator[str]:
    """What was found, and who has memory of it; nothing for a machine that was described."""
    if machine.described:
        return
    for node in machine.nodes:
        maker = {"nvidia": "NVIDIA", "amd": "AMD", "cpu": "", "": ""}[node.vendor]
        facts = [
            f"{maker} driver {node.driver}".strip() if node.driver else "",
            f"CUDA {node.cuda}" if node.cuda else "",
            _capability(node),
            _link(node),
        ]
        yield from dotted([fact for fact in facts if fact], width)
        for gpu in node.gpus:
            yield from _users(gpu, width)


def _capability(node: Node) -> str:
    kinds = sorted({gpu.capability for gpu in node.gpus if gpu.capability})
    word = "compute capability " if node.vendor == "nvidia" else ""
    return word + ", ".join(kinds) if kinds else ""


def _link(node: Node) -> str:
    if len(node.gpus) < 2:
        return ""
    link = "xGMI" if node.vendor == "amd" else "NVLink"
    words = {True: f"{link} between all", False: f"no {link} between all", None: ""}
    return words[node.nvlink]


def _users(gpu: Gpu, width: int) -> Iterator[str]:
    if not gpu.used_by:
        return
    who = ", ".join(map(_user, gpu.used_by[:3]))
    more = len(gpu.used_by) - 3
    text = f"GPU {gpu.index} is used by {who}" + f" and {more} more" * (more > 0)
    yield from paragraph(text, width)


def _user(process: Process) -> str:
    size = f", {gib(process.bytes)} GiB" if process.bytes else ""
    return f"{process.name} (pid {process.pid}{size})"


def _room(plan: Plan) -> Iterator[str]:
    yield f"{amount(plan.tokens)} tokens fit"
    yield f"{plan.sessions:,} session{'s' * (plan.sessions != 1)} of {tokens(plan.context)} at once"
    each = f"{plan.kv_token_bytes:,} bytes a token"
    if plan.kv_token_gpu_bytes != plan.kv_token_bytes:
        each += f", {plan.kv_token_gpu_bytes:,} on each GPU"
    yield each


def _flag(flag: Flag) -> str:
    return flag.name if flag.value is None else f"{flag.name} {shlex.quote(flag.value)}"


def _setting(variable: EnvVar) -> str:
    return variable.name if variable.secret else f"{variable.name}={shlex.quote(variable.value)}"


def _options(plan: Plan, width: int) -> Iterator[str]:
    if plan.options:
        yield ""
        yield f"{INDENT}not used, and worth knowing"
        for option in plan.options:
            yield from named([(option.what, option.why)], width)
            for flag in option.flags:
                yield f"{INDENT * 4}{_flag(flag)}"


def _remarks(notes: Iterable[str], estimated: Sequence[str], width: int) -> Iterator[str]:
    remarks = list(dict.fromkeys(notes))
    if estimated:
        remarks.append("estimated: " + "; ".join(estimated))
    if remarks:
        yield ""
        for remark in remarks:
            yield from paragraph(remark, width, "! ")


def _install_lines(install: Install, width: int) -> Iterator[str]:
    yield from paragraph(f"install: {install.how}", width, INDENT, INDENT * 2)
    for line in install.commands:
        yield INDENT * 2 + line


def _commands(plan: Plan, width: int) -> Iterator[str]:
    for one in plan.commands:
        yield ""
        where = f"on {one.host}" if len(plan.commands) > 1 else "run"
        yield f"{INDENT}{where}"
        before = [assignment(variable) for variable in one.environment]
        for at, line in enumerate(command(one.argv, before, width)):
            yield INDENT * (4 if at else 2) + line


def assignment(variable: EnvVar) -> str:
    """``NAME=value`` for a shell; a secret is taken from the shell's own variable, which must be
    set."""
    if variable.secret:
        return f'{variable.name}="${{{variable.name}:?}}"'
    return f"{variable.name}={shlex.quote(variable.value)}"


def _alike(row: GpuMemory) -> tuple[object, ...]:
    figures = (row.total, row.others, row.weights, row.kv, row.overhead, row.free)
    return (row.host, row.name, *map(gib, figures))


def _range(indices: Sequence[int]) -> str:
    """``0-7``, ``0, 2``."""
    first, last = indices[0], indices[-1]
    if last - first == len(indices) - 1:
        return str(first) if first == last else f"{first}-{last}"
    return ", ".join(map(str, indices))
