"""The options and the environment of `vllm serve` for a layout, each with its reason.

Option names are those of vllm/engine/arg_utils.py and vllm/entrypoints/launchers/cli_args.py, the
variables those of vllm/envs.py, of vLLM 0.32 and 0.33.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kimi_cli.serve.facts import EnvVar, Flag, Layout, ModelFacts, NodeCommand, Plan, Wish
from kimi_cli.serve.fit import Fit, Place

MASTER_PORT = 29_501
DATA_PORT = 29_550
# vLLM gives up on a load after ten minutes; disks that a cluster shares give about this much.
_LOAD_BYTES_S = 500 * 10**6
_READY_STEP_S = 600
# With less to spare than this a small error of the estimate would stop the start.
_CERTAIN = 2 << 30

_GONE = {
    "--disable-log-requests": "vLLM logs no requests unless told to",
    "--max-seq-len-to-capture": "vLLM takes it from the model now",
    "--swap-space": "vLLM has no swap space any more",
    "--num-scheduler-steps": "vLLM schedules ahead by itself",
}
_RENAMED = {
    "--kv-cache-memory": "--kv-cache-memory-bytes",
    "--guided-decoding-backend": "--structured-outputs-config.backend",
}


def merge(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Each option once, the last one given, at the place of the first."""
    merged: dict[str, Flag] = {}
    for flag in flags:
        merged[flag.name] = flag
    return tuple(merged.values())


def without_gone(
    flags: Iterable[Flag], known: frozenset[str] | None = None
) -> tuple[tuple[Flag, ...], tuple[str, ...]]:
    """The flags that vLLM still has, and a note for each that was renamed or left out.

    `known` holds the option names of the installed vLLM, where somebody asked it; without, the
    table of those that disappeared decides.
    """
    kept: list[Flag] = []
    notes: list[str] = []
    for flag in flags:
        # "--a.b" sets a field of "--a"; "--no-a" is the switch "--a" turned off.
        name = flag.name.split(".")[0]
        here = known is not None and (name in known or name.replace("--no-", "--", 1) in known)
        if here or (known is None and name not in _GONE and name not in _RENAMED):
            kept.append(flag)
        elif name in _RENAMED and (known is None or _RENAMED[name].split(".")[0] in known):
            kept.append(replace(flag, name=_RENAMED[name]))
            notes.append(f"{name} is called {_RENAMED[name]} now")
        else:
            why = _GONE.get(name, "this vLLM does not know it")
            notes.append(f"left out {name}: {why}")
    return tuple(kept), tuple(notes)


def for_installed(plan: Plan, known: frozenset[str]) -> Plan:
    """The plan for the vLLM that has exactly these options, with a note for each change."""
    flags, notes = without_gone(plan.flags, known)
    commands = tuple(
        replace(command, argv=_keep(command.argv, plan.flags, known)) for command in plan.commands
    )
    return replace(plan, flags=flags, commands=commands, notes=(*plan.notes, *notes))


def _keep(argv: tuple[str, ...], flags: tuple[Flag, ...], known: frozenset[str]) -> tuple[str, ...]:
    given = {flag.name: flag for flag in flags}
    kept: list[str] = []
    place = 0
    while place < len(argv):
        word = argv[place]
        flag = given.get(word)
        width = 1 if flag is None or flag.value is None else 2
        if flag is None:
            kept.append(word)
        else:
            for one in without_gone((flag,), known)[0]:
                kept.extend(words(one))
        place += width
    return tuple(kept)


def words(flag: Flag) -> tuple[str, ...]:
    """The flag as arguments."""
    return (flag.name,) if flag.value is None else (flag.name, flag.value)


def common_flags(model: ModelFacts, fit: Fit, wish: Wish) -> tuple[Flag, ...]:
    """The options that every node is started with."""
    return merge(
        (
            *_server(model, wish),
            *_parallel(fit),
            *_memory(fit, wish),
            *_parsers(model),
            *model.flags,
            *fit.variant.flags,
            *(flag for profile in fit.profiles for flag in profile.flags),
        )
    )


def _server(model: ModelFacts, wish: Wish) -> Iterable[Flag]:
    name = wish.served_name or model.id
    local = wish.host in ("127.0.0.1", "localhost", "::1")
    yield Flag(
        "--host",
        wish.host,
        "only this computer reaches it: the key does not guard every address"
        if local
        else "as asked; /health, /metrics and others answer without a key",
    )
    yield Flag("--port", str(wish.port), "where kimi looks for it")
    yield Flag("--served-model-name", name, "the name that requests use")
    if model.trust_remote_code:
        yield Flag(
            "--trust-remote-code", None, "runs Python from the model's repository, as it requires"
        )


def _parallel(fit: Fit) -> Iterable[Flag]:
    layout = fit.candidate.layout
    if layout.tensor > 1:
        yield Flag("--tensor-parallel-size", str(layout.tensor), "cuts every layer over the GPUs")
    if layout.pipeline > 1:
        yield Flag("--pipeline-parallel-size", str(layout.pipeline), "each stage has its layers")
    if layout.data > 1:
        yield Flag("--data-parallel-size", str(layout.data), "as many copies share the requests")
    if layout.expert_parallel:
        yield Flag(
            "--enable-expert-parallel", None, "experts stay whole and are shared out over the GPUs"
        )
    if layout.decode_context > 1:
        yield Flag(
            "--decode-context-parallel-size",
            str(layout.decode_context),
            "each GPU keeps a part of the cache, not all of it",
        )


def _memory(fit: Fit, wish: Wish) -> Iterable[Flag]:
    certain = fit.cache.room - fit.cache.session(fit.context) >= _CERTAIN
    fixed = wish.context is not None or any(one.context for one in fit.profiles)
    if fixed or (fit.reached and certain):
        why = "the longest conversation" if fixed else "all that the model can"
        yield Flag("--max-model-len", str(fit.context), why)
    else:
        yield Flag(
            "--max-model-len",
            "auto",
            f"vLLM measures how long a conversation fits; about {fit.context:,} tokens",
        )
    yield Flag(
        "--gpu-memory-utilization", f"{fit.utilisation:g}", "the share of each GPU reckoned with"
    )
    if fit.kv_dtype == "fp8":
        yield Flag("--kv-cache-dtype", "fp8", "half the bytes a token")


def _parsers(model: ModelFacts) -> Iterable[Flag]:
    if model.tool_parser:
        yield Flag("--enable-auto-tool-choice", None, "without it every call for tools is refused")
        yield Flag("--tool-call-parser", model.tool_parser, "the form of this model's tool calls")
    if model.reasoning_parser:
        yield Flag("--reasoning-parser", model.reasoning_parser, "keeps thoughts out of answers")
    yield Flag(
        "--enable-prompt-tokens-details", None, "says how much of a prompt came from the cache"
    )


def environment(fit: Fit) -> tuple[EnvVar, ...]:
    """The variables that every node is started with."""
    merged: dict[str, EnvVar] = {}
    seconds = ready_timeout(fit.variant.weight_bytes)
    if seconds > _READY_STEP_S:
        merged["VLLM_ENGINE_READY_TIMEOUT_S"] = EnvVar(
            "VLLM_ENGINE_READY_TIMEOUT_S",
            str(seconds),
            f"{fit.variant.weight_bytes / 1e9:,.0f} GB don't load in vLLM's ten minutes",
        )
    merged["VLLM_NO_USAGE_STATS"] = EnvVar(
        "VLLM_NO_USAGE_STATS", "1", "vLLM reports home otherwise"
    )
    for one in (
        *fit.variant.environment,
        *(variable for profile in fit.profiles for variable in profile.environment),
    ):
        merged[one.name] = one
    return tuple(merged.values())


def ready_timeout(weight_bytes: int) -> int:
    """Seconds to wait for a load, in steps of ten minutes."""
    steps = -(-weight_bytes // (_LOAD_BYTES_S * _READY_STEP_S))
    return max(1, steps) * _READY_STEP_S


KEY = EnvVar("VLLM_API_KEY", "", "the key, which a command line would show to everybody", True)


def commands(
    fit: Fit, flags: tuple[Flag, ...], shared: tuple[EnvVar, ...]
) -> tuple[NodeCommand, ...]:
    """What to start on each node, the head first."""
    base = ["vllm", "serve", fit.variant.repo, *(word for flag in flags for word in words(flag))]
    nodes, layout = len(fit.places), fit.candidate.layout
    found = []
    for rank, place in enumerate(fit.places):
        first = str(rank * layout.data // nodes)
        every, others = rank_words(layout, nodes, head_of(fit), str(rank), first)
        argv = (*base, *every, *(others if rank else ()))
        variables = (*shared, *_node_variables(place, nodes), *((KEY,) if rank == 0 else ()))
        found.append(NodeCommand(place.node.host, rank, argv, variables))
    return tuple(found)


def head_of(fit: Fit) -> str:
    """Where the other nodes reach the first."""
    head = fit.places[0].node
    return head.address or head.host


def _node_variables(place: Place, nodes: int) -> Iterable[EnvVar]:
    node = place.node
    used = [gpu.index for gpu in place.gpus]
    if len(used) < len(node.gpus):
        amd = node.vendor == "amd"
        name = "HIP_VISIBLE_DEVICES" if amd else "CUDA_VISIBLE_DEVICES"
        text = ",".join(str(index) for index in used)
        if not amd and len({gpu.name for gpu in node.gpus}) > 1:
            yield EnvVar(
                "CUDA_DEVICE_ORDER", "PCI_BUS_ID", "CUDA numbers the fastest first otherwise"
            )
        yield EnvVar(name, text, "the GPUs of this plan, the others stay free")
    if nodes > 1 and node.address:
        yield EnvVar("VLLM_HOST_IP", node.address, "where the other nodes reach this one")
    if nodes > 1 and node.interface:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            yield EnvVar(name, node.interface, "the network that joins the nodes")


def rank_words(
    layout: Layout, nodes: int, head: str, rank: str, first: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What tells a node its place: the arguments of every node, and those that all but the head
    have besides (vllm docs/serving/parallelism_scaling.md, data_parallel_deployment.md).

    `head` is the head's address, `rank` the node's number and `first` that of its first
    data-parallel copy, all as they are to be written. Nothing for a single node.
    """
    if nodes == 1:
        return (), ()
    if layout.data > 1:
        every = (
            *("--data-parallel-size-local", str(layout.data // nodes)),
            *("--data-parallel-address", head),
            *("--data-parallel-rpc-port", str(DATA_PORT)),
        )
        return every, ("--headless", "--data-parallel-start-rank", first)
    ranks = (
        *("--nnodes", str(nodes)),
        *("--node-rank", rank),
        *("--master-addr", head),
        *("--master-port", str(MASTER_PORT)),
    )
    return ranks, ("--headless",)
