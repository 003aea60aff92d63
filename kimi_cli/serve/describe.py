"""A machine from words: "8xH200", "2xRTX 4090", "4xB200 180GB"."""

from __future__ import annotations

import difflib
import re

from kimi_cli.serve.facts import Gpu, Machine, Node
from kimi_cli.serve.gpus import GIB, card_names, find_card

_FORM = re.compile(r"\s*(?:(\d+)\s*[x×*]\s*)?([^,+]*?)\s*", re.ASCII)
_SIZE = re.compile(r"[\s:@(]+(\d+(?:\.\d+)?)\s*(?:gb|gib|g)\b\)?\s*$", re.IGNORECASE)
_MOST_GPUS = 64
_MOST_NODES = 256


class UnknownGpu(ValueError):
    """The text names no GPU that the table has; the message says what is near."""


def describe(text: str, nodes: int = 1, *, spans: bool = False) -> Machine:
    """The machine that `text` describes, `nodes` times over.

    A text is COUNTxNAME, COUNT left out for one; a name the table lacks needs its size:
    "4xNewCard 96GB". Several kinds in one computer are joined with "+". `spans`: NVLink or
    InfiniBand joins the nodes. Raises UnknownGpu, and ValueError for counts that make no sense.
    """
    if not 1 <= nodes <= _MOST_NODES:
        raise ValueError(f"{nodes} nodes: between 1 and {_MOST_NODES} can be planned for")
    gpus: list[Gpu] = []
    linked: list[bool] = []
    vendors: set[str] = set()
    for part in re.split(r"[,+]", text):
        count, name = _split(part, text)
        card = find_card(name)
        size = _SIZE.search(name)
        if card is None and size:
            stem = find_card(name, any_size=True)
            total = int(float(size[1]) * GIB)
            shown = name.strip()
            known = stem.capability if stem else ""
            linked.append(bool(stem and stem.nvlink))
            vendors.add(stem.vendor if stem else "nvidia")
        elif card is not None:
            total, shown, known = card.total_bytes, card.name, card.capability
            linked.append(card.nvlink)
            vendors.add(card.vendor)
        else:
            raise UnknownGpu(_unknown(name))
        for _ in range(count):
            gpus.append(Gpu(shown, total, total, len(gpus), (), known))
    if len(vendors) > 1:
        raise ValueError(f"{text!r} mixes vendors: one server runs on one kind")
    vendor = "amd" if "amd" in vendors else "nvidia"
    nvlink = all(linked) and len(gpus) > 1
    hosts = ["localhost"] if nodes == 1 else [f"node{rank}" for rank in range(nodes)]
    return Machine(
        tuple(
            Node(tuple(gpus), host, nvlink, vendor="amd" if vendor == "amd" else "nvidia")
            for host in hosts
        ),
        described=True,
        spans=spans,
    )


def _split(part: str, text: str) -> tuple[int, str]:
    found = _FORM.fullmatch(part)
    if not found or not found[2]:
        raise ValueError(f"{text!r} is no description of GPUs: write for example 8xH200")
    count = int(found[1] or 1)
    if not 1 <= count <= _MOST_GPUS:
        raise ValueError(f"{count} GPUs in one computer: between 1 and {_MOST_GPUS} make sense")
    return count, found[2]


def _unknown(name: str) -> str:
    names = {known.lower(): known for known in card_names()}
    near = difflib.get_close_matches(name.strip().lower(), names, 3, 0.5)
    hint = f"; near are {', '.join(names[one] for one in near)}" if near else ""
    return f"no GPU is called {name!r} here{hint}. With its size it will do: {name} 80GB"
