"""The options of `vllm serve`, read off its help."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property

_NAME = re.compile(r"--?[A-Za-z][\w.-]*", re.ASCII)
_NEGATED = "--no-"


@dataclass(frozen=True)
class Options:
    """`groups` holds the spellings of each option: ``("--tensor-parallel-size", "-tp")``."""

    groups: tuple[tuple[str, ...], ...]

    @cached_property
    def names(self) -> frozenset[str]:
        """Every spelling."""
        return frozenset(name for group in self.groups for name in group)

    @cached_property
    def _long(self) -> dict[str, str]:
        """The long, positive spelling for each spelling."""
        found = {}
        for group in self.groups:
            long = next((one for one in group if one.startswith("--")), group[0])
            found.update(dict.fromkeys(group, long))
        return found

    def known(self, name: str) -> bool:
        """Whether it is one, or sets a field of one as ``--a.b`` does."""
        return name.split(".")[0] in self.names

    def long(self, name: str) -> str:
        """What it is called in full: ``-tp``, ``--no-a`` as ``--tensor-parallel-size``, ``--a``.
        A name that isn't known stays, but for its ``no-``."""
        stem, dot, field = name.partition(".")
        plain = "--" + stem[len(_NEGATED) :] if stem.startswith(_NEGATED) else stem
        return self._long.get(stem, plain) + dot + field

    def near(self, name: str) -> str:
        """The option that was probably meant; "" when none is like it."""
        wanted = name.split(".")[0]
        starts = sorted(one for one in self.names if one.startswith(wanted) and len(wanted) > 3)
        found = starts[:1] or difflib.get_close_matches(wanted, sorted(self.names), 1, 0.6)
        return found[0] if found else ""


def read_help(text: str) -> Options:
    """The options that a help text of argparse lists (Python documentation, "argparse"): each
    starts a line of its own, two columns in, its spellings joined by commas."""
    groups = []
    for line in text.splitlines():
        if not line.startswith("  -") or line.startswith("   "):
            continue
        # What follows two blanks is what the option does.
        spellings = re.split(r"\s{2,}", line.strip())[0].split(", ")
        names = [found[0] for one in spellings if (found := _NAME.match(one))]
        if names:
            groups.append(tuple(dict.fromkeys(names)))
    return Options(tuple(groups))
