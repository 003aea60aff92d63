"""Whose programs hold what a server of ours needs."""

from __future__ import annotations

import os

from kimi_cli.serve.detect import find_machine
from kimi_cli.serve.ports import listener
from kimi_cli.serve.reasons import holders


def who_holds(port: int) -> str:
    """Who listens at the port, else who holds memory of this computer's GPUs; "" for nobody."""
    if who := listener(port):
        return who
    machine = find_machine(os.environ).machine
    nodes = machine.nodes if machine else ()
    return ", ".join(holders(gpu for node in nodes for gpu in node.gpus))
