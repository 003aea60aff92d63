"""The GPUs that can be named instead of found, and what kind a GPU is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kimi_cli.serve.facts import Gpu, Vendor

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by name. `gib` is the memory a CUDA or ROCm program sees, in GiB, which is less than
    what is printed on the box; `nvlink` whether its usual board joins the GPUs of one computer.
    """

    name: str
    gib: float
    capability: str
    nvlink: bool = False
    vendor: Vendor = "nvidia"

    @property
    def total_bytes(self) -> int:
        return int(self.gib * GIB)


# Capabilities: NVIDIA's CUDA GPU list, LLVM's AMDGPU processor table. H100 and H200 sizes are
# those that programs report on such machines; the others are the vendor's size less the few
# per cent that driver and error correction keep, and so are estimates.
_CARDS = (
    Card("H100", 79.6, "9.0", True),
    Card("H100 80GB", 79.6, "9.0", True),
    Card("H100 NVL", 93.1, "9.0", True),
    Card("H800", 79.6, "9.0", True),
    Card("H20", 95.1, "9.0", True),
    Card("H20 141GB", 139.8, "9.0", True),
    Card("H200", 139.8, "9.0", True),
    Card("H200 NVL", 139.8, "9.0", True),
    Card("GH200", 94.5, "9.0"),
    Card("B200", 178.3, "10.0", True),
    Card("GB200", 184.0, "10.0", True),
    Card("B300", 267.0, "10.3", True),
    Card("GB300", 275.0, "10.3", True),
    Card("GB10", 119.0, "12.1"),
    Card("RTX PRO 6000", 94.9, "12.0"),
    Card("RTX PRO 5000", 47.0, "12.0"),
    Card("RTX PRO 5000 72GB", 70.8, "12.0"),
    Card("RTX 5090", 31.3, "12.0"),
    Card("RTX 5080", 15.4, "12.0"),
    Card("RTX 5070 Ti", 15.4, "12.0"),
    Card("A100", 79.1, "8.0", True),
    Card("A100 80GB", 79.1, "8.0", True),
    Card("A100 40GB", 39.4, "8.0", True),
    Card("A800", 79.1, "8.0", True),
    Card("L40S", 44.4, "8.9"),
    Card("L40", 44.4, "8.9"),
    Card("L20", 44.4, "8.9"),
    Card("L4", 22.0, "8.9"),
    Card("RTX 6000 Ada", 47.4, "8.9"),
    Card("RTX 4090", 23.5, "8.9"),
    Card("RTX 4080", 15.6, "8.9"),
    Card("A40", 44.4, "8.6"),
    Card("RTX A6000", 47.4, "8.6"),
    Card("A10G", 22.0, "8.6"),
    Card("A10", 22.0, "8.6"),
    Card("RTX 3090", 23.5, "8.6"),
    Card("T4", 14.6, "7.5"),
    Card("V100 32GB", 31.7, "7.0", True),
    Card("V100", 15.8, "7.0", True),
    Card("MI300X", 191.5, "gfx942", True, "amd"),
    Card("MI325X", 255.5, "gfx942", True, "amd"),
    Card("MI350X", 287.5, "gfx950", True, "amd"),
    Card("MI355X", 287.5, "gfx950", True, "amd"),
    Card("MI210", 63.9, "gfx90a", False, "amd"),
)

_NOISE = re.compile(
    r"nvidia|geforce|amd|instinct|radeon|tesla|quadro|hbm3e?|sxm\d?|pcie|blackwell|server"
    r"|workstation|max-q|edition|generation|[^a-z0-9]"
)
_SIZE = re.compile(r"(?<=[\s:@(-])\d+(\.\d+)?\s*g(i?b)?\b", re.IGNORECASE)


def _plain(name: str) -> str:
    return _NOISE.sub("", name.lower())


def _spellings() -> dict[str, Card]:
    return {_plain(card.name): card for card in _CARDS}


def find_card(name: str, *, any_size: bool = False) -> Card | None:
    """The card of that name, however it is written: "h200", "NVIDIA H100 80GB HBM3", "4090".

    With `any_size` a memory size in the name that the table lacks doesn't count: good enough to
    know what the card can do, not how much it holds.
    """
    wanted = _plain(name)
    cards = _spellings()
    found = cards.get(wanted) or cards.get("rtx" + wanted)
    if found is None and any_size and _SIZE.search(name):
        return find_card(_SIZE.sub("", name))
    return found


def card_names() -> tuple[str, ...]:
    """Every name in the table, for help and for suggestions."""
    return tuple(card.name for card in _CARDS)


def capability(gpu: Gpu) -> str:
    """The GPU's capability, from its name where it was not read; "" when neither says."""
    if gpu.capability:
        return gpu.capability
    card = find_card(gpu.name, any_size=True)
    return card.capability if card else ""


def version(capability: str) -> tuple[int, int]:
    """A CUDA capability as numbers that compare; (0, 0) for anything else."""
    found = re.fullmatch(r"(\d+)\.(\d+)", capability)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def generation(gpu: Gpu) -> str:
    """ "ampere", "ada", "hopper", "blackwell" (data centre), "blackwell-rtx", the "gfx..." name on
    AMD, or ""."""
    known = capability(gpu)
    if known.startswith("gfx"):
        return known.split(":")[0]
    match version(known):
        case (8, 9):
            return "ada"
        case (8, _):
            return "ampere"
        case (9, _):
            return "hopper"
        case (10, _) | (11, _):
            return "blackwell"
        case (12, _):
            return "blackwell-rtx"
    return ""
