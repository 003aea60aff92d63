"""`kimi serve MODEL`: its options. What they start is in serve_start."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from kimi_cli.cli.serve_nodes import counted_hosts
from kimi_cli.cli.serve_options import (
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
from kimi_cli.cli.serve_output import USAGE, fail
from kimi_cli.serve.facts import Wish
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.running import Request

EXTRA = "kimi.vllm-options"
"""Where the context keeps what follows ``--``."""
PORT = 8000


class Run(TyperCommand):
    """Keeps what follows ``--`` for vLLM."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[EXTRA] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- OPTIONS OF VLLM]"]


def run_command(
    call: typer.Context,
    model: Model,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it running once it is ready.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="With --detach: don't wait until it is ready.")
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Don't ask: code of the model's repository may run."),
    ] = False,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the commands and start nothing.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="The address to listen on.", metavar="ADDRESS")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(help="8000, or the next free one.", metavar="N", min=1, max=65_535),
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Ask clients for no API key.")] = False,
    name: Annotated[
        str, typer.Option(help="What to call the server here.", metavar="NAME", show_default=False)
    ] = "",
    nodes: Annotated[
        str,
        typer.Option(
            help="The computers to use; the first answers requests.", metavar="N|HOST,HOST..."
        ),
    ] = "",
    ray: Annotated[
        bool, typer.Option("--ray", help="Let the Ray cluster start the other nodes.")
    ] = False,
    spans: Annotated[
        bool,
        typer.Option("--spans", help="NVLink or InfiniBand joins the nodes: cut layers over all."),
    ] = False,
    gpus: Gpus = None,
    context: Context = None,
    sessions: Sessions = None,
    variant: Variant = None,
    kv_dtype: KvDtype = None,
    utilisation: Utilisation = None,
    tensor_parallel: TensorParallel = None,
    pipeline_parallel: PipelineParallel = None,
    data_parallel: DataParallel = None,
    decode_context_parallel: DecodeContextParallel = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --detach or --print: as JSON.")
    ] = False,
) -> None:
    """Run a model: kimi serve MODEL. What follows -- goes to vllm serve.

    Exit codes: 0 ready, or stopped by you; 1 it failed or does not fit; 2 usage.
    """
    if no_wait and not detach:
        fail("usage", "--no-wait goes with --detach", as_json, USAGE)
    if as_json and not (detach or only_print):
        fail("usage", "--json goes with --detach or --print", as_json, USAGE)
    alike = nodes.isdecimal()
    try:
        hosts = counted_hosts(nodes)
    except NotReady as error:
        fail(error.kind, error.message, as_json, USAGE)
    if alike and hosts and not (only_print or ray):
        message = "to start vLLM on other computers they have to be named, this one first"
        fail("usage", message, as_json, USAGE, "--nodes localhost,HOST2, or --print, or --ray")
    try:
        fit = None if context is None else tokens(context)
    except ValueError as error:
        fail("context", str(error), as_json, USAGE)
    request = Request(
        model=model,
        wish=Wish(
            context=fit,
            sessions=sessions,
            variant=variant or "",
            kv_dtype=kv_dtype,
            utilisation=utilisation,
            tensor_parallel=tensor_parallel,
            pipeline_parallel=pipeline_parallel,
            data_parallel=data_parallel,
            decode_context_parallel=decode_context_parallel,
            host=host,
            port=PORT if port is None else port,
        ),
        extra=call.meta.get(EXTRA, ()),
        gpus=gpus or "",
        hosts=hosts,
        ray=ray,
        spans=spans,
        trusted=yes,
        key=not no_key,
        name=name,
        port_given=port is not None,
    )
    from kimi_cli.cli import serve_start

    if only_print:
        raise typer.Exit(serve_start.print_commands(request, as_json, alike=alike))
    raise typer.Exit(serve_start.run(request, detach=detach, wait=not no_wait, as_json=as_json))
