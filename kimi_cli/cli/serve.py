"""`kimi serve`: plan how a model runs on your own GPUs, run it, and look after what runs."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperGroup

from kimi_cli.cli.serve_manage import logs, ps, restart, status, stop
from kimi_cli.cli.serve_plan import plan_command
from kimi_cli.cli.serve_run import Run, run_command
from kimi_cli.cli.serve_verify import verify_command

RUN = "run"


class Serve(TyperGroup):
    """Words that begin with no command are a model to run, and its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in ("-h", "--help") and self.get_command(ctx, args[0]) is None:
            meant = get_close_matches(args[0], self.list_commands(ctx), 1, 0.8)
            if meant:
                ctx.fail(
                    f"there is no command {args[0]!r}; is {meant[0]!r} meant? "
                    f"(a model of that name: kimi serve {RUN} {args[0]})"
                )
            args = [RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="serve",
    cls=Serve,
    no_args_is_help=True,
    add_completion=False,
    subcommand_metavar="MODEL | COMMAND [ARGS]...",
)


@app.callback()
def main() -> None:
    """Serve a model on your own GPUs with vLLM: kimi serve MODEL.

    The options of a run, such as --detach and --port: kimi serve run -h.
    """


app.command(RUN, cls=Run)(run_command)
app.command("plan")(plan_command)
for command in (ps, status, logs, stop, restart):
    app.command()(command)
app.command("verify")(verify_command)
