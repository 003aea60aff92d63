"""The command line: flags in, exit code out. No logic of its own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kimi_cli.cli.commands import add_commands
from kimi_cli.cli.completion import session_ids
from kimi_cli.cli.exit_codes import EXIT_CODES, help_text
from kimi_cli.cli.optional_value import PROMPT, Main
from kimi_cli.protocol.stops import StopReason
from kimi_cli.version import VERSION

if TYPE_CHECKING:
    from kimi_cli.cli.starting import Options

EPILOG = "Exit codes:\n\n\b\n" + help_text()

SUB_APPS = {
    "config": "Show and change the settings.",
    "policy": "What the agent may do: explain it, show the rules, change them.",
    "serve": "Serve a model on your own GPUs with vLLM.",
    "sessions": "List, show, rename, export, fork and delete sessions.",
}

app = typer.Typer(
    name="kimi",
    cls=Main,
    help="An agentic coding assistant for the terminal, for Kimi models.",
    epilog=EPILOG,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"kimi {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Option(
            "-p",
            "--prompt",
            help="Run headless with this prompt; - reads it from stdin.",
            metavar="TEXT",
        ),
    ] = None,
    input_format: Annotated[
        Literal["text", "stream-json"],
        typer.Option(help="stream-json: operations over stdin, one JSON object a line."),
    ] = "text",
    output_format: Annotated[
        Literal["text", "json", "stream-json"],
        typer.Option(help="text: the answer; json: one object; stream-json: one event a line."),
    ] = "text",
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="The model's id.", metavar="NAME")
    ] = None,
    thinking: Annotated[
        str | None, typer.Option(help="on, off, or an effort the model knows.", metavar="SWITCH")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="The endpoint's URL, usually ending in /v1.", metavar="URL")
    ] = None,
    local: Annotated[
        str | None,
        typer.Option(
            "--local",
            help="Use the server that `kimi serve` runs here; with a MODEL that one, started if "
            "need be.",
            metavar="[MODEL]",
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            help="moonshot, moonshot-subscription, vllm, sglang, openai-compatible or auto.",
            metavar="NAME",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="An image to show the model; may be repeated.", metavar="FILE"),
    ] = None,
    cwd: Annotated[
        Path | None, typer.Option("-C", "--cwd", help="Work in this folder.", metavar="DIR")
    ] = None,
    add_dir: Annotated[
        list[Path] | None,
        typer.Option(help="A further folder of the workspace; may be repeated.", metavar="DIR"),
    ] = None,
    sandbox: Annotated[
        Literal["read-only", "workspace-write", "off"] | None,
        typer.Option(help="What commands may write to; workspace-write by default."),
    ] = None,
    network: Annotated[
        Literal["on", "off"] | None,
        typer.Option(help="Whether sandboxed commands reach the network; off by default."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A rule such as 'shell(git push)'; may be repeated.", metavar="RULE"),
    ] = None,
    ask: Annotated[
        list[str] | None, typer.Option(help="Ask before what this rule means.", metavar="RULE")
    ] = None,
    deny: Annotated[
        list[str] | None,
        typer.Option(help="Never do what this rule means, also with --yolo.", metavar="RULE"),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust this folder's own settings, for this run.")
    ] = False,
    mode: Annotated[
        Literal["ask", "auto", "plan", "yolo"] | None,
        typer.Option(help="What happens without asking; auto by default."),
    ] = None,
    yolo: Annotated[
        bool, typer.Option("--yolo", help="Ask nothing; the sandbox and deny rules stay.")
    ] = False,
    on_ask: Annotated[
        str | None,
        typer.Option(
            help="Headless, when something needs approval: deny it, or end with 20.",
            metavar="[deny|fail]",
        ),
    ] = None,
    max_steps: Annotated[
        str | None, typer.Option(help="Most model requests of the run.", metavar="N")
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(help="Most tokens of the run, input and output together.", metavar="N"),
    ] = None,
    max_cost: Annotated[
        str | None,
        typer.Option(help="Most money of the run, in the price's currency.", metavar="AMOUNT"),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Wall-clock limit of the run.", metavar="SECONDS")
    ] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="The answer must validate against this.", metavar="FILE")
    ] = None,
    verify: Annotated[
        str | None,
        typer.Option(help="Done only when this command exits with 0.", metavar="CMD"),
    ] = None,
    system_prompt_file: Annotated[
        Path | None, typer.Option(help="Replaces the system prompt.", metavar="FILE")
    ] = None,
    no_session: Annotated[
        bool, typer.Option("--no-session", help="Store nothing of this run.")
    ] = False,
    continue_: Annotated[
        bool, typer.Option("-c", "--continue", help="Go on with this project's last session.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            "-r",
            "--resume",
            help="Go on with this session; without an ID, choose one.",
            metavar="[ID]",
            autocompletion=session_ids,
        ),
    ] = None,
    fork: Annotated[
        bool, typer.Option("--fork", help="With -c or -r: go on in a copy of the session.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Write a redacted log under KIMI_HOME/logs.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("-v", "--version", callback=_version, is_eager=True, help="The version."),
    ] = False,
) -> None:
    """An agentic coding assistant for the terminal, for Kimi models."""
    if context.invoked_subcommand is not None:
        _no_flags_before(context, context.invoked_subcommand)
        return
    from kimi_cli.cli.starting import Options

    flags: dict[str, object] = {
        "model": model,
        "thinking": thinking,
        "endpoint.base_url": base_url,
        "endpoint.dialect": dialect,
        "headless.on_ask": on_ask,
        "sandbox.mode": sandbox,
        "sandbox.network": network and network == "on",
        "policy.allow": allow,
        "policy.ask": ask,
        "policy.deny": deny,
        "budget.max_steps": max_steps,
        "budget.max_tokens": max_tokens,
        "budget.max_cost": max_cost,
        "budget.timeout": timeout,
    }
    options = Options(
        flags={key: value for key, value in flags.items() if value is not None},
        prompt=prompt,
        input_format=input_format,
        output_format=output_format,
        images=image or [],
        cwd=cwd,
        add_dirs=add_dir or [],
        mode="yolo" if yolo else mode or "auto",
        trust=trust,
        json_schema=json_schema,
        verify=verify,
        system_prompt_file=system_prompt_file,
        keep_session=not no_session,
        continue_last=continue_,
        resume=resume,
        fork=fork,
        debug=debug,
        local=local,
    )
    raise typer.Exit(_start(options, context.meta.get(PROMPT, "")))


def _start(options: Options, prompt: str) -> int:
    from kimi_cli.cli.interactive import start, wants_terminal

    if wants_terminal(options):
        return start(options, prompt)
    if prompt:
        print(
            "kimi: a prompt without -p needs a terminal; kimi -p TEXT runs without", file=sys.stderr
        )
        return 2
    from kimi_cli.cli.headless import start as start_headless

    return start_headless(options)


def _no_flags_before(context: typer.Context, command: str) -> None:
    """End with a usage error for a flag that a command would silently ignore."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = name.strip("_").replace("_", "-")
            context.fail(f"--{flag} has no effect before the command {command!r}")


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A "…" that the terminal's encoding lacks is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    add_commands(app)
    for name, about in SUB_APPS.items():
        app.add_typer(_sub_app(arguments, name, about), name=name)
    try:
        app(list(arguments), prog_name="kimi", standalone_mode=True)
    except SystemExit as end:
        return _code(end.code)
    except KeyboardInterrupt:
        return 130
    except Exception:
        import traceback

        # Python's own end would be exit code 1, which scripts take for "task failed".
        traceback.print_exc()
        return EXIT_CODES[StopReason.INTERNAL]
    return 0


def _sub_app(arguments: Sequence[str], name: str, about: str) -> typer.Typer:
    """The commands below ``name``; only named, not loaded, where none of them can be meant."""
    if arguments[:1] == [name] or "_KIMI_COMPLETE" in os.environ:
        from importlib import import_module

        loaded: typer.Typer = import_module(f"kimi_cli.cli.{name}").app
        return loaded
    named = typer.Typer(help=about)
    named.callback()(lambda: None)
    return named


def _code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1
