"""Which GPUs this computer has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kimi_cli.serve.detect_amd import find_amd
from kimi_cli.serve.detect_nvidia import find_nvidia
from kimi_cli.serve.facts import Machine, Vendor


@dataclass(frozen=True, slots=True)
class Found:
    """The computer with its GPUs, or no machine. `notes` are for the user; `problems` are, for
    each way of looking that saw none, why not."""

    machine: Machine | None
    notes: tuple[str, ...] = ()
    problems: tuple[tuple[Vendor, str], ...] = ()


def find_machine(env: Mapping[str, str]) -> Found:
    """This computer's GPUs as a program started with `env` would see them. Never raises; takes as
    long as the driver's programs do."""
    problems: list[tuple[Vendor, str]] = []
    notes: list[str] = []
    vendors: tuple[Vendor, Vendor] = ("nvidia", "amd")
    for vendor in vendors:
        sight = find_nvidia(env) if vendor == "nvidia" else find_amd(env)
        notes += sight.notes
        if sight.node is not None:
            machine = Machine(nodes=(sight.node,), described=False)
            return Found(machine, tuple(notes), tuple(problems))
        problems.append((vendor, sight.problem))
    return Found(None, tuple(notes), tuple(problems))
