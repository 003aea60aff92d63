"""`kimi serve plan`: how a model would run, and why so."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from kimi_cli.cli.output import json_line
from kimi_cli.cli.serve_options import (
    AsJson,
    Context,
    DataParallel,
    DecodeContextParallel,
    Gpus,
    KvDtype,
    Model,
    PipelineParallel,
    Sessions,
    TensorParallel,
    Utilisation,
    Variant,
    tokens,
)
from kimi_cli.cli.serve_output import FAILED, GOOD, USAGE, plan_fail, show, width
from kimi_cli.cli.serve_programs import environment
from kimi_cli.serve.facts import Machine, ModelFacts, NoPlan, Plan, Vendor, Wish

if TYPE_CHECKING:
    from kimi_cli.serve.detect import Found
    from kimi_cli.serve.install import Install


def plan_command(
    model: Model,
    gpus: Gpus = None,
    nodes: Annotated[
        int | None,
        typer.Option(help="So many computers alike.", metavar="N", min=1, max=256),
    ] = None,
    context: Context = None,
    sessions: Sessions = None,
    variant: Variant = None,
    kv_dtype: KvDtype = None,
    utilisation: Utilisation = None,
    tensor_parallel: TensorParallel = None,
    pipeline_parallel: PipelineParallel = None,
    data_parallel: DataParallel = None,
    decode_context_parallel: DecodeContextParallel = None,
    export: Annotated[
        Literal["lws", "slurm", "skypilot"] | None,
        typer.Option(
            help="Print a file for Kubernetes (LeaderWorkerSet), Slurm or SkyPilot instead."
        ),
    ] = None,
    as_json: AsJson = False,
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
        "--data-parallel": data_parallel,
        "--decode-context-parallel": decode_context_parallel,
    }
    asked = Asked(model, {name: str(value) for name, value in given.items() if value is not None})
    wish = Wish(
        context=_context(context, as_json),
        sessions=sessions,
        variant=variant or "",
        kv_dtype=kv_dtype,
        utilisation=utilisation,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        data_parallel=data_parallel,
        decode_context_parallel=decode_context_parallel,
    )
    facts = _facts(model, as_json)
    machine, notes = _machine(model, gpus, nodes, as_json)
    try:
        result = plan(facts, machine, wish)
    except ValueError as error:
        plan_fail("usage", str(error), as_json, USAGE)
    if export and isinstance(result, Plan):
        _print_export(result, export, as_json)
        return
    install = None if machine.described else _install(machine.nodes[0].vendor)
    if as_json:
        from kimi_cli.frontends.serve.plan_json import result_fields

        print(json_line(result_fields(result, asked, notes, install)))
    else:
        show(result_lines(result, asked, notes, install, width(sys.stdout)), sys.stdout)
    raise typer.Exit(FAILED if isinstance(result, NoPlan) else GOOD)


def _print_export(plan: Plan, kind: str, as_json: bool) -> None:
    from kimi_cli.serve.exports import CannotExport, export

    if as_json:
        plan_fail("usage", "--export prints a file of its own form: leave out --json", True, USAGE)
    try:
        text = export(plan, kind)
    except CannotExport as error:
        plan_fail("export", str(error), False, FAILED)
    # It is to be written to a file, whatever the terminal shows.
    print(text, end="")


def _facts(name: str, as_json: bool) -> ModelFacts:
    from kimi_cli.serve.catalogue import UnknownModel
    from kimi_cli.serve.local_files import ReadError
    from kimi_cli.serve.read_model import read_model

    try:
        return read_model(name, os.environ)
    except UnknownModel as error:
        plan_fail("unknown-model", str(error), as_json, USAGE)
    except ReadError as error:
        plan_fail("unreadable-model", str(error), as_json, USAGE)


def _machine(
    model: str, gpus: str | None, nodes: int | None, as_json: bool
) -> tuple[Machine, tuple[str, ...]]:
    """The machine to plan for, and what was seen while looking for it."""
    if gpus is not None:
        from kimi_cli.serve.describe import describe

        try:
            return describe(gpus, nodes or 1), ()
        except ValueError as error:
            plan_fail("gpus", str(error), as_json, USAGE)
    from kimi_cli.serve.detect import find_machine

    found = find_machine(environment())
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
        plan_fail("no-gpu", message, as_json, FAILED, **more)
    from kimi_cli.frontends.serve.plan_view import no_gpu_lines

    assert install is not None
    show(no_gpu_lines(model, looked, found.notes, install, width(sys.stderr)), sys.stderr)
    raise typer.Exit(FAILED)


def _install(vendor: Vendor, *, always: bool = False) -> Install | None:
    """How vLLM gets here; None where it is, unless `always`."""
    import platform
    from shutil import which

    from kimi_cli.serve.install import install_steps

    if not always and which("vllm"):
        return None
    return install_steps(vendor, platform.system(), platform.machine())


def _context(text: str | None, as_json: bool) -> int | None:
    try:
        return None if text is None else tokens(text)
    except ValueError as error:
        plan_fail("context", str(error), as_json, USAGE)
