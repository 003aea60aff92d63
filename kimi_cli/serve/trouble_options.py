"""Troubles with options, parsers and addresses. The texts are those of argparse and of
vllm/entrypoints/{cli_args,launchers/launcher}.py, parser/parser_manager.py and config/model.py."""

from __future__ import annotations

import re
from difflib import get_close_matches

from kimi_cli.serve.running import Repair
from kimi_cli.serve.trouble_case import Case, Row, Told, row

_NEAREST = 5


def _unknown(found: re.Match[str], case: Case) -> Told:
    words = found[1].split()
    options = [word for word in words if word.startswith("-")] or words[:1]
    names = ", ".join(options)
    mine = [word for word in options if not case.given(word.partition("=")[0])]
    repair = None
    if mine and len(mine) == len(options):
        # "" takes an option away.
        drop = tuple((word.partition("=")[0], "") for word in mine)
        repair = Repair(drop, f"left out {names}: this vLLM does not have it")
    return Told(
        f"this vLLM has no option {names}",
        f"start it without; `vllm serve --help=all` lists what version "
        f"{case.launch.vllm_version or 'this one'} has",
        repair,
    )


def _value(found: re.Match[str], case: Case) -> Told:
    return Told(f"vLLM refuses the value of {found[1]}: {found[2]}", f"change or drop {found[1]}")


def _no_parser(found: re.Match[str], case: Case) -> Told:
    what = "reasoning" if "easoning" in found[0] else "tool call"
    option = "--reasoning-parser" if what == "reasoning" else "--tool-call-parser"
    name, names = found[1], re.split(r"[,\s]+", (found[2] or "").strip(" {}\"'"))
    near = get_close_matches(name, [one for one in names if one], _NEAREST, 0.5)
    like = f"; alike: {', '.join(near)}" if near else ""
    version = f" {case.launch.vllm_version}" if case.launch.vllm_version else ""
    hint = near[0] if near else "NAME"
    return Told(
        f"vLLM{version} has no {what} parser {name}{like}",
        f"{case.again('--', option, hint)}, or a newer vLLM",
    )


def _unsuited(found: re.Match[str], case: Case) -> Told:
    why = f": {found[3].strip()}" if found[3] else ""
    return Told(
        f"the parser {found[2]} is not made for this model's tokenizer{why}",
        f"`kimi serve plan {case.launch.request.model}` says which belongs to the model: "
        f"{case.again('--', found[1], 'NAME')}",
    )


def _port(found: re.Match[str], case: Case) -> Told:
    if inner := re.search(r"addr='tcp://[^']{0,99}:(\d{1,5})'", found.string):
        return Told(
            f"port {inner[1]}, over which vLLM's processes talk, is taken on this computer",
            "another server for several nodes runs here? `kimi serve ps` shows those of kimi",
        )
    who = case.holders()
    port = case.launch.port
    return Told(
        f"port {port} is taken{f' by {who}' if who else ' by another program'}",
        case.again("--port", str(port + 1 if port < 65535 else 8000)),
    )


def _master_port(found: re.Match[str], case: Case) -> Told:
    port = found[1] or case.option("--master-port") or "29501"
    return Told(
        f"port {port}, over which the nodes find each other, is taken on this computer",
        f"another server for several nodes runs here? Otherwise: "
        f"{case.again('--', '--master-port', str(int(port[:5]) + 10))}",
    )


def _address(found: re.Match[str], case: Case) -> Told:
    return Told(
        f"this computer has no address {case.launch.host} to take requests at",
        case.again("--host", "127.0.0.1"),
    )


def _low_port(found: re.Match[str], case: Case) -> Told:
    return Told(f"port {case.launch.port} may only be used by root", case.again("--port", "8000"))


def _beyond(found: re.Match[str], case: Case) -> Told:
    asked = int(found[1])
    limits = [int(float(one)) for one in re.findall(r"=(\d{1,12}(?:\.\d+)?)", found[2])]
    what = f"the model handles {limits[0]:,} tokens" if limits else "the model handles fewer tokens"
    if not limits:
        return Told(f"{what}, not {asked:,}", case.again())
    return Told(
        f"{what}, not {asked:,}",
        case.again("--context", str(limits[0])),
        Repair(
            (("--max-model-len", str(limits[0])),),
            f"context {asked:,} → {limits[0]:,} tokens, all that the model can",
        ),
    )


OPTIONS: tuple[Row, ...] = (
    row("unknown-option", r"error: unrecognized arguments: ([^\n]+)", _unknown),
    row(
        "tool-parser",
        r"--enable-auto-tool-choice requires --tool-call-parser",
        lambda found, case: Told(
            "tool calls are on, but no parser is named that reads them",
            case.again("--", "--tool-call-parser", "NAME"),
        ),
    ),
    row("option-value", r"error: argument (-[^\s:]+): ([^\n]+)", _value),
    row(
        "parser",
        r"invalid (?:tool call|reasoning) parser: (\S+)(?: \(chose from \{([^}]*))?",
        _no_parser,
    ),
    row(
        "parser",
        r"(?:Tool|Reasoning) parser '([^']+)' not found(?:\. Available parsers: ([^\"\n]*))?",
        _no_parser,
    ),
    row("parser", r"tool_parser:'([^']+)' which has not been registered()", _no_parser),
    row(
        "unsuited-parser",
        r"(--tool-call-parser|--reasoning-parser) (\S+).{0,40}? cannot be used with the tokenizer"
        r" of '[^']*'(?::([^\n]*))?",
        _unsuited,
    ),
    row(
        "master-port",
        r"server socket has failed to (?:listen|bind).{0,120}?port: (\d+).{0,80}?EADDRINUSE",
        _master_port,
    ),
    row("port", r"\[Errno 98\]|[Aa]ddress already in use", _port),
    row("address", r"\[Errno 99\]|Cannot assign requested address", _address),
    row("port", r"PermissionError: \[Errno 13\] [^\n/]*$", _low_port),
    row(
        "context-model",
        r"max_model_len \((\d{1,12})\) is greater than the derived max_model_len \(([^)]*)\)",
        _beyond,
    ),
)
