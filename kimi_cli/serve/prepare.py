"""From what the user asked to run to all that is needed to start it.

Looks at the model, the machine and the installed vLLM; starts nothing but vLLM's help, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kimi_cli.serve import extra, headline
from kimi_cli.serve.cpu_facts import cpu_machine, is_loopback
from kimi_cli.serve.extra import Given
from kimi_cli.serve.facts import (
    Machine,
    ModelFacts,
    NoPlan,
    Plan,
    Vendor,
    Wish,
)
from kimi_cli.serve.finish import finished
from kimi_cli.serve.installed import Vllm, options, version_numbers
from kimi_cli.serve.naming import server_name
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.remote import is_here
from kimi_cli.serve.running import Launch, Request

__all__ = ["NotReady", "Ready", "needs_trust", "prepare"]

_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)", re.ASCII)
_UNITS = {"": 1, "k": 1_000, "K": 1 << 10, "m": 1_000_000, "M": 1 << 20}
"""Of vLLM's numbers for people (vllm/utils/argparse_utils.py, human_readable_int)."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What to start, and the plan it comes from, with the options that were given by hand."""

    launch: Launch
    plan: Plan


def prepare(
    request: Request,
    env: Mapping[str, str],
    home: Path,
    vllm: Vllm | None,
    *,
    machine: Machine | None = None,
) -> Ready | NoPlan:
    """Decide everything about the start of a server, or say why the model does not fit.

    `vllm` is the one of this computer. `machine` is what was seen of other computers; without, this
    one is looked at, or what the request describes is believed. The port is the wish's: hold it
    first. Code of the model's repository is allowed only where the request trusts it; ask
    `needs_trust` before. Raises NotReady.
    """
    hosts = request.hosts or ("localhost",)
    here = any(map(is_here, hosts))
    if here and vllm is None:
        raise _no_vllm(machine)
    vllm = vllm if here else None
    # What changes the plan is known by name; the rest is looked at when vLLM has been asked.
    wish, _ = extra.into_wish(extra.parse(request.extra, None), request.wish)
    model = _model(request.model, env, vllm)
    notes: tuple[str, ...] = ()
    if machine is None:
        machine, notes = _machine(request, env, vllm)
    if request.spans:
        machine = replace(machine, spans=True)
    result = _plan(model, machine, wish)
    if isinstance(result, NoPlan):
        return result
    notes = (*notes, *_version_notes(result, vllm), *_open_notes(request))
    known = options(vllm, home, env) if vllm else None
    given = extra.into_wish(extra.parse(request.extra, known), request.wish)[1]
    plan = finished(result, request, known, given, vllm, env)
    if request.trusted and (whose := needs_trust(plan)):
        notes = (*notes, f"vLLM runs code that {whose} brings (--trust-remote-code)")
    plan = replace(plan, notes=tuple(dict.fromkeys((*_kept_notes(plan.notes, vllm), *notes))))
    return Ready(_launch(request, plan, given, vllm, home, env), plan)


def needs_trust(plan: Plan) -> str:
    """The repository or folder whose Python code would run; "" when none would."""
    return plan.variant.repo if plan.model.trust_remote_code else ""


def _no_vllm(machine: Machine | None) -> NotReady:
    import platform

    from kimi_cli.serve.detect import find_machine
    from kimi_cli.serve.install import install_steps

    seen = machine or find_machine({}).machine
    vendor: Vendor = seen.nodes[0].vendor if seen else ""
    steps = install_steps(vendor, platform.system(), platform.machine())
    return NotReady(
        "no-vllm",
        "vLLM is not installed on this computer, or not in PATH",
        f"{steps.how}; KIMI_VLLM names one that is elsewhere",
        steps.commands,
    )


def _model(name: str, env: Mapping[str, str], vllm: Vllm | None) -> ModelFacts:
    """The model's facts. Of an id at Hugging Face that nobody here knows, the files that describe
    it are fetched."""
    from kimi_cli.serve.catalogue import UnknownModel
    from kimi_cli.serve.local_files import ReadError
    from kimi_cli.serve.read_model import read_model
    from kimi_cli.serve.small_files import fetch_small_files

    try:
        try:
            return read_model(name, env)
        except UnknownModel as unknown:
            if not _REPO.fullmatch(name) or vllm is None:
                raise
            if why := fetch_small_files(name, vllm.path, env):
                raise UnknownModel(f"{unknown}; at Hugging Face: {why}") from None
            return read_model(name, env)
    except UnknownModel as error:
        raise NotReady("unknown-model", str(error)) from None
    except ReadError as error:
        whole = (f"hf download {name}",) if _REPO.fullmatch(name) else ()
        todo = "all of it here, it can be read" if whole else ""
        raise NotReady("unreadable-model", str(error), todo, whole) from None


def _machine(
    request: Request, env: Mapping[str, str], vllm: Vllm | None
) -> tuple[Machine, tuple[str, ...]]:
    """This computer, or what the request describes, and what was seen while looking."""
    hosts = request.hosts
    if request.gpus:
        from kimi_cli.serve.describe import describe

        if vllm and vllm.cpu:
            raise NotReady("gpus", f"{vllm.path} is built for the CPU and can't use GPUs")
        try:
            machine = describe(request.gpus, max(1, len(hosts)))
        except ValueError as error:
            raise NotReady("gpus", str(error)) from None
        if hosts:
            nodes = zip(machine.nodes, hosts, strict=True)
            machine = replace(machine, nodes=tuple(replace(one, host=host) for one, host in nodes))
        return machine, ()
    if vllm and vllm.cpu and all(map(is_loopback, hosts)):
        return cpu_machine(env, hosts), ()
    if hosts:
        raise NotReady(
            "nodes",
            f"nobody has looked at {', '.join(hosts)}",
            "describe what each has with --gpus, as 8xH200",
        )
    from kimi_cli.serve.detect import find_machine

    found = find_machine(env)
    if found.machine is None:
        looked = "; ".join(why for _, why in found.problems if why)
        raise NotReady(
            "no-gpu",
            f"no GPU was found on this computer ({looked})",
            "small models run without one with vLLM's build for the CPU: "
            "https://docs.vllm.ai/en/latest/getting_started/installation/cpu/",
        )
    return found.machine, found.notes


def _plan(model: ModelFacts, machine: Machine, wish: Wish) -> Plan | NoPlan:
    try:
        if all(node.vendor == "cpu" for node in machine.nodes):
            from kimi_cli.serve.cpu_facts import cores
            from kimi_cli.serve.on_cpu import plan_cpu

            return plan_cpu(model, machine, wish, cores())
        from kimi_cli.serve.planner import plan

        return plan(model, machine, wish)
    except ValueError as error:
        raise NotReady("usage", str(error)) from None


def _version_notes(plan: Plan, vllm: Vllm | None) -> Iterable[str]:
    """What there is to say of vLLM's version. Raises NotReady for one that is too old."""
    least = plan.variant.min_vllm
    if vllm is None:
        yield "vLLM is on other computers: its options were not looked at"
    elif not least:
        return
    elif not vllm.numbers:
        yield f"the version of {vllm.path} can't be told; {plan.model.name} needs {least} or newer"
    elif vllm.numbers < version_numbers(least):
        python = Path(vllm.path).resolve().parent / "python"
        newer = f"uv pip install --python {python} --upgrade vllm --torch-backend=auto"
        raise NotReady(
            "old-vllm",
            f"{plan.model.name} needs vLLM {least} or newer; {vllm.path} is {vllm.version}",
            "bring it up to date where it is installed",
            (newer,) if python.exists() and not vllm.cpu else (),
        )


def _open_notes(request: Request) -> Iterable[str]:
    """What there is to say of an address that other computers reach."""
    host = request.wish.host
    if not is_loopback(host):
        who = "requests and the key cross the network as they are"
        if not request.key:
            who = "whoever reaches it can use it, no key is asked for"
        yield f"it listens on {host} for other computers: {who}"


def _kept_notes(notes: Iterable[str], vllm: Vllm | None) -> Iterable[str]:
    """The notes without what the look at the installed version has answered."""
    for note in notes:
        if not (vllm and note.startswith("needs vLLM ")):
            yield note


def _launch(
    request: Request,
    plan: Plan,
    given: Sequence[Given],
    vllm: Vllm | None,
    home: Path,
    env: Mapping[str, str],
) -> Launch:
    value = {flag.name: flag.value or "" for flag in plan.flags}
    served = (extra.values(given, "--served-model-name") or (value["--served-model-name"],))[0]
    name = server_name(home, request.name, served)
    return Launch(
        name=name,
        request=replace(request, name=name),
        commands=plan.commands,
        host=request.wish.host,
        port=request.wish.port,
        served_name=served,
        repo=plan.variant.repo,
        context=_context(value["--max-model-len"], plan),
        weight_bytes=plan.variant.weight_bytes,
        thinking=plan.model.thinking,
        tool_parser=value.get("--tool-call-parser", ""),
        reasoning_parser=value.get("--reasoning-parser", ""),
        inputs=plan.model.inputs,
        vllm_version=vllm.version if vllm else "",
        title=headline.title(plan),
        about=headline.about(plan),
        notes=plan.notes,
    )


def _context(text: str, plan: Plan) -> int:
    """The longest conversation that the option asks for; the plan's where vLLM is to find out."""
    found = _LENGTH.fullmatch(text)
    return int(float(found[1]) * _UNITS[found[2]]) if found else plan.context
