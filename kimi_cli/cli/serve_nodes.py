"""The computers that `--nodes` of `kimi serve MODEL` means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kimi_cli.serve.facts import Machine
from kimi_cli.serve.installed import Vllm
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.running import Launch, Request

HERE = "localhost"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of several computers. `machine` None: there is nothing to know beforehand.
    `programs` are vLLM's paths by host."""

    machine: Machine | None = None
    notes: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)


def counted_hosts(nodes: str) -> tuple[str, ...]:
    """``3`` as localhost, node1 and node2, else the names. Raises NotReady."""
    if nodes.isdecimal() and nodes.isascii():
        if not 1 <= int(nodes) <= 256:
            raise NotReady("usage", "--nodes goes from 1 to 256")
        others = tuple(f"node{rank}" for rank in range(1, int(nodes)))
        return (HERE, *others) if others else ()
    hosts = tuple(host.strip() for host in nodes.split(",") if host.strip())
    if len(set(hosts)) != len(hosts):
        raise NotReady("usage", f"--nodes names a computer twice: {nodes}")
    return () if hosts == (HERE,) else hosts


def with_head(request: Request) -> Request:
    """The request with this computer, where it is the head, by the name that means it everywhere.
    Raises NotReady where the head is another one and nobody says how it is reached."""
    from kimi_cli.serve.cpu_facts import is_loopback

    hosts = request.hosts
    if head_is_here(request):
        if not hosts or is_loopback(hosts[0]):
            return request
        return replace(request, hosts=(HERE, *hosts[1:]))
    if is_loopback(request.wish.host):
        raise NotReady(
            "nodes",
            f"the first of --nodes answers requests, and {hosts[0]} is not this computer",
            "put this one first, as localhost, or say with --host which of its addresses the "
            "server is to listen on, that this computer reaches",
        )
    return request


def head_is_here(request: Request) -> bool:
    """Whether the head is this computer."""
    from kimi_cli.serve.cpu_facts import is_loopback
    from kimi_cli.serve.remote import is_here

    hosts = request.hosts
    return not hosts or is_loopback(hosts[0]) or is_here(hosts[0])


def look(request: Request, vllm: Vllm | None, env: Mapping[str, str], *, alike: bool) -> Seen:
    """Look at the computers of a request, `alike`: at this one for all, with the programs of `env`.
    Raises NotReady."""
    from kimi_cli.serve.cpu_facts import is_loopback

    hosts = request.hosts
    if not hosts or request.gpus or (vllm and vllm.cpu and all(map(is_loopback, hosts))):
        return Seen()
    return _alike(hosts, env) if alike else _each(request, vllm, env)


def with_programs(launch: Launch, seen: Seen) -> Launch:
    """The launch with vLLM's path on each other computer, and what was seen there."""
    commands = tuple(
        replace(one, argv=(seen.programs[one.host], *one.argv[1:]))
        if one.argv[0] == "vllm" and seen.programs.get(one.host)
        else one
        for one in launch.commands
    )
    notes = tuple(dict.fromkeys((*launch.notes, *seen.notes)))
    return replace(launch, commands=commands, notes=notes)


def _alike(hosts: tuple[str, ...], env: Mapping[str, str]) -> Seen:
    from kimi_cli.serve.detect import find_machine

    found = find_machine(env)
    if found.machine is None:
        why = "no GPU was found here that the others could be like"
        raise NotReady("no-gpu", why, "describe what each has with --gpus, as 8xH200")
    (node,) = found.machine.nodes
    machine = Machine(tuple(replace(node, host=host) for host in hosts), described=False)
    only = f"planned for {len(hosts)} computers like this one, the only one looked at"
    return Seen(machine, (*found.notes, only))


def _each(request: Request, vllm: Vllm | None, env: Mapping[str, str]) -> Seen:
    from kimi_cli.serve.find_nodes import find_nodes
    from kimi_cli.serve.remote import BadHost

    folder = Path(request.model).expanduser()
    try:
        found = find_nodes(
            request.hosts,
            env,
            vllm=vllm.path if vllm else "",
            folder=str(folder.resolve()) if folder.is_dir() else "",
        )
    except BadHost as error:
        raise NotReady("usage", str(error)) from None
    if found.problems:
        words = "; ".join(problem.words for problem in found.problems)
        todo = "\n".join(f"{one.host}: {one.todo}" for one in found.problems if one.todo)
        raise NotReady(found.problems[0].kind, words, todo)
    return Seen(found.machine, found.notes, found.programs)
