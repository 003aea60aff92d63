"""A plan made ready for one vLLM: its options as this version knows them, those given by hand, and
what a server of ours needs besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kimi_cli.serve import extra, flags
from kimi_cli.serve.extra import Given
from kimi_cli.serve.facts import EnvVar, Flag, NodeCommand, Plan
from kimi_cli.serve.installed import Vllm
from kimi_cli.serve.options import Options
from kimi_cli.serve.remote import is_here
from kimi_cli.serve.running import Request

GPU_ORDERS = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
DRAIN_SECONDS = 30
TRUST = "--trust-remote-code"
_PROGRAM = "vllm"
_QUIET = "--disable-access-log-for-endpoints"

_LOG = (
    EnvVar("VLLM_LOGGING_COLOR", "0", "the log is read by programs"),
    EnvVar("NO_COLOR", "1", "the log is read by programs"),
    EnvVar("VLLM_DISABLE_LOG_LOGO", "1", "the log is read by programs"),
    EnvVar("DO_NOT_TRACK", "1", "as for vLLM's own report home"),
)
_OFFLINE = (
    EnvVar("HF_HUB_OFFLINE", "1", "every file is here: nothing has to be asked for"),
    EnvVar("TRANSFORMERS_OFFLINE", "1", "every file is here: nothing has to be asked for"),
)


def finished(
    plan: Plan,
    request: Request,
    known: Options | None,
    given: Sequence[Given],
    vllm: Vllm | None,
    env: Mapping[str, str],
) -> Plan:
    """The plan with the options and variables that each node is started with.

    `known` are the options of the vLLM that is used and `vllm` the one of this computer; None where
    they can't be told. `given` are those given by hand.
    """
    # What differs from node to node stands behind what all have.
    shared = ("", "", "", *(word for flag in plan.flags for word in flags.words(flag)))
    own = [list(command.argv[len(shared) :]) for command in plan.commands]
    ours = [one for one in plan.flags if one.name != TRUST or request.trusted]
    if known and known.known("--shutdown-timeout"):
        seconds = str(DRAIN_SECONDS)
        ours.append(Flag("--shutdown-timeout", seconds, "requests in flight end first"))
    if known and known.known(_QUIET):
        ours.append(Flag(_QUIET, "/health,/metrics", "asked for often: the log would fill"))
    if request.ray:
        ours += _ray_flags(plan)
        own = [[]]
    kept, notes = extra.override(ours, given, known)
    more = _implied(given, kept)
    words = tuple(word for one in (*more, *given) for word in one.words)
    plan = replace(plan, flags=kept, notes=(*plan.notes, *notes))
    bare = tuple(
        replace(command, argv=tuple(word for flag in kept for word in flags.words(flag)))
        for command in plan.commands[: len(own)]
    )
    plan = replace(plan, commands=bare)
    if known is not None:
        plan = flags.for_installed(plan, known.names)
    commands = []
    for command, ranks in zip(plan.commands, own, strict=True):
        argv = (
            _program(command.host, vllm),
            "serve",
            plan.variant.repo,
            *command.argv,
            *_without(ranks, given),
            *words,
        )
        variables = _environment(command, plan, request, given, env)
        commands.append(replace(command, argv=argv, environment=variables))
    return replace(
        plan,
        flags=(*plan.flags, *(one.flag for one in (*more, *given))),
        commands=tuple(commands),
        environment=tuple(one for one in plan.environment if request.key or not one.secret),
    )


def _ray_flags(plan: Plan) -> Iterable[Flag]:
    why = "Ray spreads it over the nodes of its cluster"
    # Copies have a backend of their own, which starts each of them.
    name = "--data-parallel-backend" if plan.layout.data > 1 else "--distributed-executor-backend"
    yield Flag(name, "ray", why)


def _implied(given: Sequence[Given], planned: Sequence[Flag]) -> tuple[Given, ...]:
    """What a parser for tool calls is no use without (vllm, entrypoints/common/cli_args.py)."""
    switch = "--enable-auto-tool-choice"
    names = {one.name for one in given} | {one.name for one in planned}
    if "--tool-call-parser" in names and not names & {switch, "--no-enable-auto-tool-choice"}:
        return (Given(switch),)
    return ()


def _program(host: str, vllm: Vllm | None) -> str:
    return vllm.path if vllm and is_here(host) else _PROGRAM


def _without(ranks: Sequence[str], given: Sequence[Given]) -> tuple[str, ...]:
    """A node's own options without those given by hand, as another --master-port."""
    by_hand = {one.name for one in given}
    kept: list[str] = []
    drop = False
    for word in ranks:
        if word.startswith("--"):
            drop = word in by_hand
        if not drop:
            kept.append(word)
    return tuple(kept)


def _environment(
    command: NodeCommand,
    plan: Plan,
    request: Request,
    given: Sequence[Given],
    env: Mapping[str, str],
) -> tuple[EnvVar, ...]:
    """A node's variables. What the user's own environment sets for vLLM stays, here."""
    planned = [one for one in command.environment if request.key or not one.secret]
    if request.ray:
        # Ray hands the GPUs out, on each node its own.
        planned = [one for one in planned if one.name not in GPU_ORDERS]
    if is_here(command.host):
        if _is_complete(plan, given, env):
            planned += _OFFLINE
        planned = [one for one in planned if one.secret or not env.get(one.name)]
    return (*planned, *_LOG)


def _is_complete(plan: Plan, given: Sequence[Given], env: Mapping[str, str]) -> bool:
    """Whether every file that vLLM loads is on this computer: weights, tokenizer, code."""
    from kimi_cli.serve.local_files import CONFIG, ReadError, model_folder, read_json, weights

    others = ("--speculative-config", "--tokenizer", "--hf-config-path", "--lora-modules")
    names = {flag.name.split(".")[0] for flag in plan.flags} | {one.name for one in given}
    if names.intersection(others):
        return False
    try:
        folder = model_folder(plan.variant.repo, env)
        if folder is None or not weights(folder).complete:
            return False
        code = read_json(folder / CONFIG).get("auto_map")
    except ReadError:
        return False
    named = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "tekken.json", "vocab.json")
    if not any((folder / name).is_file() for name in named):
        return False
    # "other/repository--module.Class" is code from elsewhere.
    wanted = [str(one) for one in code.values()] if isinstance(code, dict) else []
    return all((folder / f"{one.split('.')[0]}.py").is_file() for one in wanted)
