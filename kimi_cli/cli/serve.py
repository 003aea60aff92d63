"""`kimi serve`: plan how a model runs on your own GPUs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO

import typer

from kimi_cli.cli.output import json_line
from kimi_cli.serve.facts import Machine, ModelFacts, NoPlan, Vendor, Wish

if TYPE_CHECKING:
    from kimi_cli.serve.detect import Found
    from kimi_cli.serve.install import Install

PLANNED, NO_FIT, USAGE = 0, 1, 2
NO_TERMINAL, WIDEST = 80, 100
UNITS = {"k": 1 << 10, "m": 1 << 20}
PLAIN = str.maketrans({"×": "x", "·": "-", "–": "-", "’": "'"})
"""For terminals without UTF-8."""

app = typer.Typer(
    name="serve",
    help="Serve a model on your own GPUs with vLLM.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def main() -> None:
    """Serve a model on your own GPUs with vLLM."""


@app.command("plan")
def plan_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A name (kimi-k2.5), an id at Hugging Face, or a folder with config.json.",
            metavar="MODEL",
        ),
    ],
    gpus: Annotated[
        str | None,
        typer.Option(help="Plan for these instead of this computer's, as 8xH200.", metavar="GPUS"),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(help="So many computers alike.", metavar="N", min=1, max=256),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="The context that must fit, as 128k or 1M.", metavar="TOKENS"),
    ] = None,
    sessions: Annotated[
        int | None,
        typer.Option(help="How many at full context must fit at once.", metavar="N", min=1),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="A repository or a quantisation, as int4 or nvfp4.", metavar="NAME"),
    ] = None,
    kv_dtype: Annotated[
        Literal["auto", "fp8"] | None,
        typer.Option(help="Numbers in the cache; auto: those of the model.", show_default=False),
    ] = None,
    utilisation: Annotated[
        float | None,
        typer.Option(help="The share of each GPU to use, as 0.92.", metavar="SHARE"),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option(help="Cut every layer over N GPUs.", metavar="N", min=1, max=1024),
    ] = None,
    pipeline_parallel: Annotated[
        int | None,
        typer.Option(help="Spread the layers over N groups.", metavar="N", min=1, max=1024),
    ] = None,
    decode_context_parallel: Annotated[
        int | None,
        typer.Option(help="Spread the cache over N GPUs.", metavar="N", min=1, max=1024),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say how a model would run, with every flag's reason and the commands. Nothing is started.

    Exit codes: 0 a plan, 1 it does not fit, 2 usage or an unknown model.
    """
    from kimi_cli.frontends.serve.plan_view import Asked, result_lines
    from kimi_cli.serve.planner import plan

    given = {
        "--gpus": gpus,
        "--nodes": nodes,
        "--context": context,
        "--sessions": sessions,
        "--variant": variant,
        "--kv-dtype": kv_dtype,
        "--utilisation": utilisation,
        "--tensor-parallel": tensor_parallel,
        "--pipeline-parallel": pipeline_parallel,
        "--decode-context-parallel": decode_context_parallel,
    }
    asked = Asked(model, {name: str(value) for name, value in given.items() if value is not None})
    wish = Wish(
        context=_tokens(context, as_json),
        sessions=sessions,
        variant=variant or "",
        kv_dtype=kv_dtype,
        utilisation=utilisation,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        decode_context_parallel=decode_context_parallel,
    )
    facts = _facts(model, as_json)
    machine, notes = _machine(model, gpus, nodes, as_json)
    try:
        result = plan(facts, machine, wish)
    except ValueError as error:
        _fail("usage", str(error), as_json, USAGE)
    install = None if machine.described else _install(machine.nodes[0].vendor)
    if as_json:
        from kimi_cli.frontends.serve.plan_json import result_fields

        print(json_line(result_fields(result, asked, notes, install)))
    else:
        _show(result_lines(result, asked, notes, install, _width(sys.stdout)), sys.stdout)
    raise typer.Exit(NO_FIT if isinstance(result, NoPlan) else PLANNED)


def _facts(name: str, as_json: bool) -> ModelFacts:
    from kimi_cli.serve.catalogue import UnknownModel
    from kimi_cli.serve.local_files import ReadError
    from kimi_cli.serve.read_model import read_model

    try:
        return read_model(name, os.environ)
    except UnknownModel as error:
        _fail("unknown-model", str(error), as_json, USAGE)
    except ReadError as error:
        _fail("unreadable-model", str(error), as_json, USAGE)


def _machine(
    model: str, gpus: str | None, nodes: int | None, as_json: bool
) -> tuple[Machine, tuple[str, ...]]:
    """The machine to plan for, and what was seen while looking for it."""
    if gpus is not None:
        from kimi_cli.serve.describe import describe

        try:
            return describe(gpus, nodes or 1), ()
        except ValueError as error:
            _fail("gpus", str(error), as_json, USAGE)
    from kimi_cli.serve.detect import find_machine

    found = find_machine(os.environ)
    if found.machine is None:
        _no_gpu(model, found, as_json)
    machine, notes = found.machine, found.notes
    if nodes and nodes > 1:
        (node,) = machine.nodes
        alike = tuple(replace(node, host=f"node{rank}") for rank in range(nodes))
        machine = Machine(alike, described=False)
        notes = (*notes, f"planned for {nodes} computers like this one, the only one looked at")
    return machine, notes


def _no_gpu(model: str, found: Found, as_json: bool) -> NoReturn:
    looked = [why for _, why in found.problems if why]
    install = _install("", always=True)
    if as_json:
        from kimi_cli.frontends.serve.plan_json import install_fields

        more = {"looked": looked, "notes": list(found.notes), "install": install_fields(install)}
        message = "no GPU was found on this computer; --gpus describes one"
        _fail("no-gpu", message, as_json, NO_FIT, **more)
    from kimi_cli.frontends.serve.plan_view import no_gpu_lines

    assert install is not None
    _show(no_gpu_lines(model, looked, found.notes, install, _width(sys.stderr)), sys.stderr)
    raise typer.Exit(NO_FIT)


def _install(vendor: Vendor, *, always: bool = False) -> Install | None:
    """How vLLM gets here; None where it is, unless `always`."""
    import platform
    from shutil import which

    from kimi_cli.serve.install import install_steps

    if not always and which("vllm"):
        return None
    return install_steps(vendor, platform.system(), platform.machine())


def _tokens(text: str | None, as_json: bool) -> int | None:
    """``128k`` as 131072."""
    if text is None:
        return None
    digits, unit = text.strip().lower(), 1
    if digits[-1:] in UNITS:
        digits, unit = digits[:-1], UNITS[digits[-1:]]
    if not (digits.isascii() and digits.isdecimal() and int(digits)):
        _fail("context", f"{text!r} is no number of tokens; write 131072 or 128k", as_json, USAGE)
    return int(digits) * unit


def _width(stream: TextIO) -> int:
    """The terminal's columns, as far as they are good to read; 80 where there is no terminal."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return NO_TERMINAL
    return min(columns, WIDEST) if columns else NO_TERMINAL


def _show(lines: Iterable[str], stream: TextIO) -> None:
    from kimi_cli.frontends.plain import clean

    for line in lines:
        text = clean(line)
        try:
            text.encode(stream.encoding)
        except UnicodeEncodeError:
            text = text.translate(PLAIN)
        print(text, file=stream)


def _fail(kind: str, message: str, as_json: bool, code: int, **more: Any) -> NoReturn:
    if as_json:
        print(json_line({"fits": None, "error": {"kind": kind, "message": message, **more}}))
    else:
        from kimi_cli.frontends.plain import clean

        print(f"kimi: {clean(message)}", file=sys.stderr)
    raise typer.Exit(code)
