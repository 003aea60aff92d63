"""A plan as text: widths, tables, commands that a shell takes back, and the calls it proposes."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.frontends.serve.layout_text import command, dotted, named, paragraph, table
from kimi_cli.frontends.serve.plan_json import result_fields
from kimi_cli.frontends.serve.plan_view import (
    Asked,
    amount,
    assignment,
    gib,
    gpu_name,
    machine_name,
    memory_lines,
    no_gpu_lines,
    result_lines,
    tokens,
)
from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import (
    EnvVar,
    Gpu,
    GpuMemory,
    Machine,
    Node,
    NoPlan,
    Plan,
    Process,
    Vendor,
    Way,
)
from kimi_cli.serve.install import install_steps
from kimi_cli.serve.planner import plan

GIB = 1 << 30
ROW = GpuMemory("localhost", 0, "NVIDIA H200", 140 * GIB, 0, 70 * GIB, 40 * GIB, 10 * GIB, 20 * GIB)
plain = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=30)


# --- lines ---


@given(st.lists(plain, min_size=1, max_size=12), st.integers(20, 120))
def test_a_command_is_what_the_shell_makes_of_it(words: list[str], width: int) -> None:
    lines = list(command(words, [], width))
    assert all(line.endswith(" \\") for line in lines[:-1])
    whole = " ".join([*(line.removesuffix(" \\") for line in lines[:-1]), lines[-1]])
    assert shlex.split(whole) == words


def test_a_copied_command_runs() -> None:
    """A real shell; the key is taken from its own variable, and asked for where it has none."""
    words = [
        "printf",
        "%s|",
        "--flag",
        '{"a": "b c"}',
        "--other",
        "x" * 60,
        "it's",
        "$HOME",
        "--end",
    ]
    secret = EnvVar("SECRET", "", "", secret=True)
    before = [assignment(EnvVar("PLACE", "a b", "")), assignment(secret)]
    text = "\n".join(command(words, before, 80))
    assert len(text.splitlines()) > 2
    run = subprocess.run(
        ["sh", "-c", text], env={"SECRET": "s"}, capture_output=True, text=True, timeout=30
    )
    assert run.stdout == "|".join([*words[2:], ""])
    empty = subprocess.run(["sh", "-c", text], env={}, capture_output=True, text=True, timeout=30)
    assert empty.returncode != 0 and "SECRET" in empty.stderr and not empty.stdout


def test_options_stay_with_their_values() -> None:
    words = ["vllm", "serve", "a/b", *("--aaaa-bbbb", "value") * 9, "--switch"]
    for line in command(words, [], 60):
        assert line.count("--aaaa-bbbb") == line.count("value")
        assert len(line) <= 60 - 8


@given(
    st.lists(st.tuples(plain, st.text("ab ", max_size=200)), max_size=6),
    st.integers(60, 120),
)
def test_nothing_but_a_long_word_is_wider_than_the_screen(
    rows: list[tuple[str, str]], width: int
) -> None:
    for line in named(rows, width):
        widest = max(map(len, line.split()), default=0)
        assert len(line) <= width or widest > 20
    for line in paragraph(" ".join(text for _, text in rows), width):
        assert len(line) <= width or max(map(len, line.split())) > width - 4


def test_names_with_texts_hang() -> None:
    rows = [("one", "word " * 30), ("a name as long as " + "x" * 30, "text"), ("last", "")]
    lines = list(named(rows, 60))
    assert lines[0].startswith("    one   word")
    assert all(line.startswith(" " * 10 + "word") for line in lines[1:3])
    assert lines[-3:] == ["    " + rows[1][0], " " * 10 + "text", "    last"]


def test_pieces_are_broken_between_only() -> None:
    assert list(dotted(["a b", "c d", "e f"], 12, "")) == ["a b · c d", "  e f"]
    assert list(dotted([], 12)) == []


def test_table() -> None:
    assert list(table([("GPU", "total"), ("0-7 H200", "9.0")])) == [
        "    GPU       total",
        "    0-7 H200    9.0",
    ]


# --- figures and names ---


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0"), (512, "512"), (1000, "1,000"), (131072, "128k"), (262144, "256k")),
        *((1 << 20, "1M"), (715073, "715.1k"), (5721089, "5.7M"), (40960, "40k")),
    ],
)
def test_lengths(count: int, text: str) -> None:
    assert tokens(count) == text


def test_amounts_are_as_above_a_start() -> None:
    assert [amount(n) for n in (9840, 262_144, 4_194_304)] == ["9,840", "262.1k", "4.2M"]


def test_sizes() -> None:
    assert (gib(0), gib(-1), gib(GIB * 3 // 2), gib(-GIB)) == ("0.0", "0.0", "1.5", "-1.0")


def test_machines_have_names() -> None:
    assert machine_name(describe("8xH200")) == "8 × H200 140 GiB"
    assert machine_name(describe("8xH200", 2)) == "2 nodes of 8 × H200 140 GiB"
    assert machine_name(Machine((), True)) == "no GPU"
    assert gpu_name(Gpu("NVIDIA H100 80GB HBM3", 80 * GIB, 0)) == "H100 80GB HBM3"
    assert gpu_name(Gpu("AMD Instinct MI300X", 192 * GIB, 0)) == "MI300X 192 GiB"


def test_rows_that_are_alike_are_one() -> None:
    rows = [replace(ROW, index=index) for index in range(4)]
    alike = list(memory_lines(rows, several=False))
    assert len(alike) == 2 and "0-3 H200" in alike[1] and "in use" not in alike[0]
    rows[1] = replace(rows[1], others=5 * GIB, free=15 * GIB)
    apart = list(memory_lines(rows, several=True))
    assert [line.split()[1] for line in apart[1:]] == ["0", "1", "2-3"]
    assert "in use" in apart[0] and all("localhost" in line for line in apart[1:])


# --- the whole ---


def planned(model: str, gpus: str, nodes: int = 1) -> Plan | NoPlan:
    return plan(find_model(model), describe(gpus, nodes))


def test_who_uses_the_memory_is_named() -> None:
    users = tuple(Process(pid, f"job{pid}", pid * GIB) for pid in (4, 3, 2, 1))
    gpu = Gpu("NVIDIA H200", 140 * GIB, 130 * GIB, 0, users, "9.0")
    node = Node((gpu,), driver="570.1", cuda="12.8")
    result = plan(find_model("qwen3-coder-30b-a3b-instruct"), Machine((node,), described=False))
    text = "\n".join(result_lines(result, Asked("m", {}), ["a note"], None, 80))
    assert "NVIDIA driver 570.1 · CUDA 12.8 · compute capability 9.0\n" in text
    assert "GPU 0 is used by job4 (pid 4, 4.0 GiB)" in text and "and 1 more" in text
    assert "! a note" in text


def test_every_variable_of_a_command_has_its_reason() -> None:
    """Also those of one node: which of its GPUs are meant."""
    busy = Gpu("NVIDIA RTX A6000", 48 * GIB, 10 * GIB, 0, (), "8.6")
    gpus = (busy, *(replace(busy, free_bytes=48 * GIB, index=index) for index in (1, 2, 3)))
    result = plan(find_model("qwen3.6-27b"), Machine((Node(gpus),), described=False))
    assert isinstance(result, Plan)
    text = "\n".join(result_lines(result, Asked("m", {}), [], None, 80))
    about = text.split("  environment\n")[1].split("\n\n")[0]
    assert "CUDA_VISIBLE_DEVICES" in about
    for variable in result.commands[0].environment:
        assert variable.name in about and variable.why.split()[0] in about


def test_the_call_that_a_way_means() -> None:
    given = {"--gpus": "8xH100", "--nodes": "2", "--context": "128k", "--variant": "int4"}
    asked = Asked("my model", given)
    start = "kimi serve plan 'my model'"
    assert asked.command(Way("context", "", ("--context", "64k"))) == (
        f"{start} --gpus 8xH100 --nodes 2 --context 64k --variant int4"
    )
    assert asked.command(Way("gpus", "", ("--gpus", "4xB200"))) == (
        f"{start} --gpus 4xB200 --context 128k --variant int4"
    )
    assert asked.command(Way("model", "", ("other",))) == (
        "kimi serve plan other --gpus 8xH100 --nodes 2 --context 128k"
    )


def test_the_call_of_a_run_that_a_way_means() -> None:
    asked = Asked("m", {"--nodes": "a,b"}, ("kimi", "serve"))
    assert asked.command(Way("context", "", ("--context", "64k"))) == (
        "kimi serve m --nodes a,b --context 64k"
    )
    # Nothing can be started on GPUs that are not here.
    assert asked.command(Way("gpus", "", ("--gpus", "4xB200"))) == "kimi serve plan m --gpus 4xB200"


@pytest.mark.parametrize("width", [20, 60, 80, 100])
def test_any_width_holds(width: int) -> None:
    for result in (planned("kimi-k2.5", "8xH200"), planned("kimi-k2.5", "2xH100")):
        for line in result_lines(result, Asked("kimi-k2.5", {}), ["word " * 50], None, width):
            assert len(line) <= max(width, 60) or max(map(len, line.split())) > 20, line
    install = install_steps("nvidia", "Linux", "x86_64")
    for line in no_gpu_lines("m", ["looked " * 30], ["noted " * 30], install, width):
        assert len(line) <= max(width, 60)


@pytest.mark.parametrize(
    ("vendor", "system", "words"),
    [
        ("nvidia", "Linux", "uv pip install vllm --torch-backend=auto"),
        ("amd", "Linux", "docker pull vllm/vllm-openai-rocm"),
        ("nvidia", "Windows", "WSL"),
        ("", "Darwin", "vllm-metal"),
        ("", "Linux", "https://docs.vllm.ai/"),
    ],
)
def test_how_to_install(vendor: Vendor, system: str, words: str) -> None:
    install = install_steps(vendor, system, "arm64")
    assert words in " ".join([install.how, *install.commands])


def test_no_secret_is_in_any_document() -> None:
    result = planned("kimi-k2.5", "8xH200")
    assert isinstance(result, Plan)
    document = result_fields(result, Asked("kimi-k2.5", {}), [], None)
    secrets = [one for one in document["commands"][0]["environment"] if one["secret"]]
    assert secrets and not any(one["value"] for one in secrets)
