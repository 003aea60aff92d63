"""Options for `vllm serve` that are given by hand, after ``--``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kimi_cli.serve.facts import Flag, Wish
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.options import Options

WHY = "as given after --"
_OPTIMISED = re.compile(r"-O(\d|\.\w.*)?", re.ASCII)
"""``-O3``: vLLM's own spelling (vllm/utils/argparse_utils.py)."""
_NUMBER = re.compile(r"-\d", re.ASCII)

_OURS = {
    "--port": "say --port before --",
    "--host": "say --host before --",
    "--api-key": "kimi makes a key, or none with --no-key",
    "--uds": "kimi talks to it over a port",
    "--grpc": "kimi talks HTTP with it",
    "--ssl-keyfile": "kimi talks plain HTTP with it; encrypt in a proxy",
    "--ssl-certfile": "kimi talks plain HTTP with it; encrypt in a proxy",
    "--trust-remote-code": "kimi asks before, or is told by --yes",
    "--config": "it could say anything of this; give its options one by one",
    "--nnodes": "name the computers with --nodes",
    "--node-rank": "name the computers with --nodes",
    "--headless": "name the computers with --nodes",
    "--model": "name the model before --",
    "--help": "`vllm serve --help=all` shows it",
    "--version": "`vllm --version` shows it",
}
_WISHES = {
    "--tensor-parallel-size": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel",
    "--decode-context-parallel-size": "decode_context_parallel",
    "--data-parallel-size": "data_parallel",
}
_SHORT = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "-dp": "--data-parallel-size",
    "-n": "--nnodes",
    "-r": "--node-rank",
    "-h": "--help",
}
"""Short names that must be understood before vLLM was asked for its options."""


@dataclass(frozen=True, slots=True)
class Given:
    """One option: its name in full (``--no-…`` and ``--a.b`` stay), its values; none: a switch."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """As arguments; a value that looks like an option stands behind a "="."""
        if len(self.values) == 1 and self.values[0].startswith("-"):
            return (f"{self.name}={self.values[0]}",)
        return (self.name, *self.values)

    @property
    def flag(self) -> Flag:
        """For the screen and the plan."""
        import shlex

        if len(self.values) < 2:
            return Flag(self.name, self.values[0] if self.values else None, WHY)
        return Flag(self.name, shlex.join(self.values), WHY)


def parse(words: Sequence[str], options: Options | None) -> tuple[Given, ...]:
    """The options in `words`, each in the spelling of `options`, those of the installed vLLM (None:
    it can't be asked).

    Raises NotReady for a word that belongs to no option, for one that vLLM does not know, and for
    those that kimi sets itself.
    """
    found: list[Given] = []
    closed = True
    for word in words:
        if not _is_option(word):
            if closed:
                raise NotReady("extra", f"{word!r} after -- is no option of vLLM's")
            found[-1] = replace(found[-1], values=(*found[-1].values, word))
            continue
        name, equals, value = word.partition("=")
        found.append(Given(_spelled(name, options), (value,) if equals else ()))
        closed = bool(equals)
    return tuple(found)


def names(words: Iterable[str]) -> frozenset[str]:
    """What the options in `words` are called in full, whether they are any or not."""
    stems = (word.partition("=")[0] for word in words if _is_option(word))
    return frozenset(_in_full(stem) for stem in stems)


def into_wish(given: Iterable[Given], wish: Wish) -> tuple[Wish, tuple[Given, ...]]:
    """The wish with what changes the whole plan, the cut of the model, and the other options.
    Raises NotReady for a number that is none."""
    rest = []
    numbers: dict[str, Any] = {}
    for one in given:
        field = _WISHES.get(one.name)
        if field is None:
            rest.append(one)
        elif len(one.values) == 1 and one.values[0].isascii() and one.values[0].isdecimal():
            numbers[field] = int(one.values[0])
        else:
            raise NotReady("extra", f"{' '.join(one.words)}: a whole number is needed")
    return replace(wish, **numbers), tuple(rest)


def override(
    flags: Sequence[Flag], given: Sequence[Given], options: Options | None
) -> tuple[tuple[Flag, ...], tuple[str, ...]]:
    """The plan's flags without those that are given by hand, and a note for each of them."""
    by_hand: Mapping[str, Given] = {_key(one.name, options): one for one in given}
    kept, notes = [], []
    for flag in flags:
        new = by_hand.get(_key(flag.name, options))
        if new is None:
            kept.append(flag)
        elif (new.name, *new.values) != (flag.name, *([flag.value] if flag.value else [])):
            planned = flag.name if flag.value is None else f"{flag.name} {flag.value}"
            notes.append(f"{' '.join(new.words)} {WHY}, in place of {planned}")
    return tuple(kept), tuple(notes)


def values(given: Iterable[Given], name: str) -> tuple[str, ...] | None:
    """The values of an option, of the last time it was given; None when it was not."""
    found = None
    for one in given:
        if one.name == name:
            found = one.values
    return found


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not _NUMBER.match(word)


def _key(name: str, options: Options | None) -> str:
    return (options or Options(())).long(name)


def _in_full(stem: str) -> str:
    # vLLM takes "_" for "-" in names.
    wanted = stem.replace("_", "-") if stem.startswith("--") else stem
    return _SHORT.get(wanted, wanted)


def _spelled(name: str, options: Options | None) -> str:
    if _OPTIMISED.fullmatch(name):
        return name
    stem, dot, field = name.partition(".")
    wanted = _in_full(stem)
    long = _key(wanted, options)
    # vLLM understands the beginning of a name as well.
    for own, why in _OURS.items():
        if own == long or (options is None and own.startswith(long)):
            raise NotReady("extra", f"{name} is not for after --: {why}")
    negated = wanted.startswith("--no-") and long != wanted
    if options is not None and not options.known(wanted) and not (negated and options.known(long)):
        near = options.near(wanted)
        raise NotReady(
            "extra",
            f"the installed vLLM has no option {name}",
            f"did you mean {near}?" if near else "`vllm serve --help=all` shows them",
        )
    return (wanted if negated else long) + dot + field
