"""A repair changes an option wherever and however it stands in the commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.serve.facts import NodeCommand, Wish
from kimi_cli.serve.repairs import MOST_REPAIRS, may_repair, repaired
from kimi_cli.serve.running import Repair, Request


def with_repair(argv: str, name: str, value: str | None) -> str:
    command = NodeCommand("localhost", 0, tuple(argv.split()), ())
    (found,) = repaired((command,), Repair(((name, value),), ""))
    return " ".join(found.argv)


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("vllm serve m --a 1 --b", "9", "vllm serve m --a 9 --b"),
        ("vllm serve m --a=1 --b", "9", "vllm serve m --a 9 --b"),
        ("vllm serve m --b", "9", "vllm serve m --b --a 9"),
        ("vllm serve m --a 1 --a=2 x", "9", "vllm serve m --a 9 x"),
        ("vllm serve m --a", "9", "vllm serve m --a 9"),
        ("vllm serve m --a --b", None, "vllm serve m --a --b"),
        ("vllm serve m --b", None, "vllm serve m --b --a"),
        ("vllm serve m --a 1 --b", "", "vllm serve m --b"),
        ("vllm serve m --ab 1", "9", "vllm serve m --ab 1 --a 9"),
    ],
)
def test_an_option_is_set_once(before: str, value: str | None, after: str) -> None:
    assert with_repair(before, "--a", value) == after


def test_every_node_is_changed() -> None:
    commands = tuple(NodeCommand(f"n{rank}", rank, ("vllm", "--a", "1"), ()) for rank in range(3))
    found = repaired(commands, Repair((("--a", "2"), ("--b", None)), ""))
    assert {one.argv for one in found} == {("vllm", "--a", "2", "--b")}
    assert [one.host for one in found] == ["n0", "n1", "n2"]


WORDS = st.lists(st.sampled_from(["--a", "--a=3", "--b", "--c", "1", "x"]), max_size=8)


@given(WORDS)
def test_twice_is_once(words: list[str]) -> None:
    once = with_repair(" ".join(["vllm", *words]), "--a", "5")
    assert with_repair(once, "--a", "5") == once
    assert once.split().count("--a") == 1


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("--max-model-len", Request("m", Wish(context=4096))),
        ("--gpu-memory-utilization", Request("m", Wish(utilisation=0.9))),
        ("--kv-cache-dtype", Request("m", Wish(kv_dtype="fp8"))),
        ("--max-num-seqs", Request("m", extra=("--max_num_seqs", "8"))),
    ],
)
def test_no_repair_goes_against_what_the_user_set(name: str, asked: Request) -> None:
    repair = Repair(((name, "1"),), "")
    assert may_repair(repair, (), Request("m"))
    assert not may_repair(repair, (), asked)


def test_repairs_come_to_an_end() -> None:
    repairs = [Repair((("--max-model-len", str(length)),), "") for length in range(9)]
    made: list[Repair] = []
    for repair in repairs:
        if may_repair(repair, made, Request("m")):
            made.append(repair)
            assert not may_repair(repair, made, Request("m"))
    assert made == repairs[:MOST_REPAIRS]
