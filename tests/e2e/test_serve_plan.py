"""`kimi serve plan` as a process: found and described GPUs, what fits and what does not."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support import gpu_programs as recorded
from tests.support.program import PROGRAM, Kimi, Run

GIB = 1 << 30
STAND_IN = Path(recorded.__file__).parent / "nvml"
HEAVY = ("torch", "vllm", "transformers", "rich", "openai", "prompt_toolkit", "tiktoken")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is first on PATH, where drivers' programs are put."""
    folder = tmp_path / "gpu-programs"
    folder.mkdir()
    return folder


def plan(
    kimi: Kimi,
    *args: str,
    programs: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Run:
    """A run that sees these programs and no real GPU."""
    hermetic = {
        "PATH": str(programs or "/nowhere"),
        "PYTHONPATH": str(STAND_IN),
        "FAKE_NVML": "/nowhere",
    }
    return kimi("serve", "plan", *args, env={**hermetic, **(env or {})})


def wide_lines(out: str, width: int) -> list[str]:
    return [line for line in out.splitlines() if len(line) > width]


def shell_words(out: str) -> list[list[str]]:
    """The commands that a plan ends with, as a shell would take them apart."""
    whole = out.replace("\\\n", " ")
    return [
        shlex.split(line)
        for line in whole.splitlines()
        if line.startswith("    ") and " vllm serve " in f" {line}"
    ]


def test_a_described_machine(kimi: Kimi) -> None:
    run = plan(kimi, "kimi-k2.5", "--gpus", "8xH200")
    assert (run.code, run.err) == (0, "")
    title = " ".join(run.out.split("\n\n")[0].split())
    assert title.startswith(
        "kimi serve plan Kimi K2.5 · int4 · 8 × H200 140 GiB · tensor parallel 8"
    )
    assert title.endswith("256k context")
    table = re.search(
        r"^ +GPU +total +weights +kv +overhead +free\n +0-7 H200 +(.*)$", run.out, re.M
    )
    assert table
    total, *parts = map(float, table[1].split())
    assert total == 139.8
    assert sum(parts) == pytest.approx(total, abs=0.3)
    (words,) = shell_words(run.out)
    assert "VLLM_API_KEY=${VLLM_API_KEY:?}" in words
    at = words.index("vllm")
    assert words[at : at + 3] == ["vllm", "serve", "moonshotai/Kimi-K2.5"]
    for option in (
        "--tensor-parallel-size 8",
        "--tool-call-parser kimi_k2",
        "--reasoning-parser kimi_k2",
        "--max-model-len 262144",
        "--enable-auto-tool-choice",
    ):
        assert option in " ".join(words)
    assert "install" not in run.out


def test_every_flag_of_the_command_has_its_reason(kimi: Kimi) -> None:
    found = plan(kimi, "kimi-k2.5", "--gpus", "8xH200", "--json").json()
    (command,) = found["commands"]
    explained = {flag["name"] for flag in found["flags"] if flag["why"]}
    assert {word for word in command["argv"] if word.startswith("--")} == explained
    text = plan(kimi, "kimi-k2.5", "--gpus", "8xH200").out
    for flag in found["flags"]:
        assert re.search(rf"^    {re.escape(flag['name'])}\b", text, re.M), flag["name"]


@pytest.mark.parametrize(
    "args",
    [
        ("kimi-k2.5", "--gpus", "8xH200"),
        ("kimi-k2.5", "--gpus", "8xH100"),
        ("kimi-k3", "--gpus", "8xH200", "--nodes", "2"),
        ("kimi-k2.5", "--gpus", "1xRTX 4090"),
        ("kimi-k2-instruct", "--gpus", "8xH200", "--nodes", "2", "--context", "128k"),
        ("kimi-k2.5", "--gpus", "8xMI300X"),
        ("gpt-oss-20b", "--gpus", "1xRTX 4090", "--sessions", "2"),
    ],
)
def test_fits_on_80_columns(kimi: Kimi, args: Sequence[str]) -> None:
    """But for what is to be copied in one piece."""
    run = plan(kimi, *args)
    assert run.code in (0, 1)
    for line in wide_lines(run.out, 80):
        assert re.match(r" +(kimi serve plan |--[a-z-]+ )\S", line), line


def test_a_wider_terminal_is_used(kimi: Kimi) -> None:
    args = ("serve", "plan", "kimi-k2.5", "--gpus", "8xH200")
    longest = {}
    for columns in (60, 80, 100, 200):
        process = pexpect.spawn(
            str(PROGRAM),
            list(args),
            env=kimi.environment(),
            cwd=str(kimi.cwd),
            dimensions=(24, columns),
            encoding="utf-8",
        )
        process.expect(pexpect.EOF, timeout=60)
        out = process.before or ""
        lines = [line for line in out.splitlines() if not re.match(r" +--spec", line)]
        longest[columns] = max(map(len, lines))
    assert longest[60] < longest[80] <= 80 < longest[100] <= 100
    assert longest[200] == longest[100]


def test_two_nodes(kimi: Kimi) -> None:
    args = ("kimi-k2-instruct", "--gpus", "8xH200", "--nodes", "2")
    run = plan(kimi, *args)
    assert run.code == 0, run.out
    assert "2 nodes of 8 × H200 140 GiB" in run.out
    assert "  on node0\n" in run.out and "  on node1\n" in run.out
    assert len(shell_words(run.out)) == 2
    found = plan(kimi, *args, "--json").json()
    assert [one["rank"] for one in found["commands"]] == [0, 1]
    assert [row["host"] for row in found["memory"]] == ["node0"] * 8 + ["node1"] * 8


def test_what_does_not_fit_says_by_how_much_and_what_would(kimi: Kimi) -> None:
    run = plan(kimi, "kimi-k2.5", "--gpus", "8xH100", "--context", "128k")
    assert run.code == 1
    first = run.out.splitlines()[0]
    assert re.search(r"short by [\d.]+ GiB$", first)
    ways = re.findall(r"^ +(kimi serve plan .+)$", run.out, re.M)
    assert len(ways) > 1
    for way in ways:
        again = plan(kimi, *shlex.split(way)[3:], "--json")
        assert again.code == 0, way
        assert again.json()["context"] >= 1 << 17, way

    found = plan(kimi, "kimi-k2.5", "--gpus", "8xH100", "--context", "128k", "--json")
    assert found.code == 1
    document = found.json()
    assert document["fits"] is False
    assert document["short_by_bytes"] > 0
    assert [way["command"] for way in document["ways"] if way["command"]] == ways


def test_a_wish_that_fits_with_less(kimi: Kimi) -> None:
    run = plan(kimi, "qwen3-coder-30b-a3b-instruct", "--gpus", "1xH100", "--sessions", "50")
    assert run.code == 1
    ways = re.findall(r"^ +(kimi serve plan .+)$", run.out, re.M)
    shorter = [shlex.split(way) for way in ways if "--context" in way]
    assert shorter
    assert plan(kimi, *shorter[0][3:]).code == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("kimi-k2.55", "--gpus", "8xH200"), "near are kimi-k2.5"),
        (("kimi-k2.5", "--gpus", "8xH1000"), "no GPU is called 'H1000' here; near are"),
        (("kimi-k2.5", "--gpus", "many"), "many"),
        (("kimi-k2.5", "--gpus", "8xH200", "--context", "12q"), "write 131072 or 128k"),
        (("kimi-k2.5", "--gpus", "8xH200", "--context", "0"), "write 131072 or 128k"),
        (("kimi-k2.5", "--gpus", "8xH200", "--utilisation", "3"), "between 0 and 1"),
        (("/nowhere/at/all", "--gpus", "8xH200"), "/nowhere/at/all is no folder"),
    ],
)
def test_usage(kimi: Kimi, args: Sequence[str], words: str) -> None:
    run = plan(kimi, *args)
    assert (run.code, run.out) == (2, "")
    assert words in run.err and run.err.startswith("kimi: ")
    assert "Traceback" not in run.err
    document = plan(kimi, *args, "--json")
    assert document.code == 2
    assert words in document.json()["error"]["message"]
    assert document.json()["fits"] is None


def test_usage_that_the_parser_refuses(kimi: Kimi) -> None:
    for args in ((), ("kimi-k2.5", "--nodes", "0"), ("kimi-k2.5", "--kv-dtype", "fp4")):
        run = plan(kimi, *args)
        assert run.code == 2
        assert "Usage: kimi serve plan" in run.err
    assert kimi("serve").code == 2


def test_no_gpu_and_none_described(kimi: Kimi) -> None:
    run = plan(kimi, "kimi-k2.5")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("kimi: no GPU was found on this computer\n")
    for words in ("nvidia-smi is not there", "amd-smi is not there", "--gpus 8xH200", "install: "):
        assert words in run.err
    assert not wide_lines(run.err, 80)
    (described,) = re.findall(r"^ +(kimi serve plan .*8xH200)$", run.err, re.M)
    assert plan(kimi, *shlex.split(described)[3:]).code == 0
    document = plan(kimi, "kimi-k2.5", "--json")
    assert document.code == 1
    error = document.json()["error"]
    assert error["kind"] == "no-gpu"
    assert len(error["looked"]) == 2 and error["install"]["how"]
    # A model that isn't known is said first: looking for GPUs takes its time.
    assert plan(kimi, "kimi-k2.55").code == 2


def test_found_by_nvidia_smi(kimi: Kimi, programs: Path) -> None:
    recorded.nvidia_smi(
        programs,
        recorded.query(8, used=(88524,)),
        topology=recorded.matrix(8, "NV18"),
        apps=recorded.APPS,
    )
    run = plan(kimi, "qwen3-coder-30b-a3b-instruct", programs=programs)
    assert run.code == 0, run.err
    head = " ".join(run.out.split("\n\n")[0].split())
    assert "8 × H200 140 GiB" in head
    assert "NVIDIA driver 570.86.10 · CUDA 12.8 · compute capability 9.0" in head
    assert "NVLink between all" in head
    assert "GPU 0 is used by VLLM::Worker_TP0 (pid 41312, 85.9 GiB)" in head
    assert re.search(r"^ +GPU +total +in use +weights", run.out, re.M)
    assert "uv pip install vllm --torch-backend=auto" in run.out
    assert not wide_lines(run.out.split("not used")[0], 80)


def test_found_by_nvml(kimi: Kimi, tmp_path: Path) -> None:
    size = 143771 << 20
    device = {
        "name": "NVIDIA H200",
        "memory": [size, 617 << 20, size - (617 << 20)],
        "capability": [9, 0],
        "processes": [],
    }
    machine = {
        "devices": [{**device, "uuid": recorded.uuid(index)} for index in range(8)],
        "linked": [[one, other] for one in range(8) for other in range(one + 1, 8)],
        "driver": "580.95.05",
        "cuda": 13000,
    }
    (tmp_path / "nvml.json").write_text(json.dumps(machine))
    env = {"FAKE_NVML": str(tmp_path / "nvml.json")}
    run = plan(kimi, "kimi-k2.5", env=env)
    assert run.code == 0, run.err
    assert "NVIDIA driver 580.95.05 · CUDA 13.0" in run.out
    described = plan(kimi, "kimi-k2.5", "--gpus", "8xH200", "--json").json()
    found = plan(kimi, "kimi-k2.5", "--json", env=env).json()
    assert found["parallel"] == described["parallel"]
    assert found["commands"][0]["argv"] == described["commands"][0]["argv"]
    assert found["machine"]["described"] is False and described["machine"]["described"] is True
    assert found["machine"]["nodes"][0]["cuda"] == "13.0"

    hidden = plan(kimi, "kimi-k2.5", "--json", env={**env, "CUDA_VISIBLE_DEVICES": "0,1"})
    assert hidden.code == 1
    assert len(hidden.json()["machine"]["nodes"][0]["gpus"]) == 2
    assert hidden.json()["notes"] == ["CUDA_VISIBLE_DEVICES leaves 2 of 8 GPUs"]


def test_found_by_amd_smi(kimi: Kimi, programs: Path) -> None:
    recorded.amd_smi(programs, 8)
    run = plan(kimi, "gpt-oss-120b", programs=programs)
    assert run.code in (0, 1), run.err
    assert "8 × MI300X 192 GiB" in run.out
    assert "AMD driver 6.12.12" in run.out and "xGMI between all" in run.out
    assert "python3.12 (pid 2168274, 63.5 GiB)" in " ".join(run.out.split())


def test_more_computers_like_this_one(kimi: Kimi, programs: Path) -> None:
    recorded.nvidia_smi(programs, recorded.query(8), topology=recorded.matrix(8, "NV18"))
    found = plan(kimi, "kimi-k2-instruct", "--nodes", "2", "--json", programs=programs)
    assert found.code == 0
    assert [node["host"] for node in found.json()["machine"]["nodes"]] == ["node0", "node1"]
    assert any("only one looked at" in note for note in found.json()["notes"])


def test_vllm_that_is_there_needs_no_words(kimi: Kimi, programs: Path) -> None:
    recorded.nvidia_smi(programs, recorded.query(8), topology=recorded.matrix(8, "NV18"))
    assert plan(kimi, "kimi-k2.5", "--json", programs=programs).json()["install"]["commands"]
    recorded.program(programs, "vllm", {"": ""})
    assert plan(kimi, "kimi-k2.5", "--json", programs=programs).json()["install"] is None


def test_a_folder_of_ones_own(kimi: Kimi, project: Path) -> None:
    folder = project / "models" / "my tune"
    folder.mkdir(parents=True)
    config = {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text("<tool_call><think>")
    index = {"metadata": {"total_size": 16 * 10**9}, "weight_map": {"w": "a.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    run = plan(kimi, "models/my tune", "--gpus", "1xRTX 4090")
    assert run.code == 0, run.out + run.err
    (words,) = shell_words(run.out)
    assert str(folder) in words
    assert words[words.index("--tool-call-parser") + 1] == "hermes"
    found = plan(kimi, "models/my tune", "--gpus", "1xRTX 4090", "--json").json()
    assert found["kv_bytes_per_token"] == 36 * 2 * 8 * 128 * 2
    assert found["variant"]["weight_bytes"] == 16 * 10**9
    assert found["model"]["source"] == str(folder / "config.json")


def test_json_documents_say_what_they_mean(kimi: Kimi) -> None:
    """Every field at the top is described in docs/serve.md."""
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    documents: list[Mapping[str, Any]] = [
        plan(kimi, "kimi-k2.5", "--gpus", gpus, "--json").json() for gpus in ("8xH200", "8xH100")
    ]
    for document in documents:
        assert [field for field in document if f"`{field}`" not in page] == []
    memory = documents[0]["memory"]
    assert len(memory) == 8
    for row in memory:
        parts = ("others", "weights", "kv", "overhead", "free")
        assert row["total"] == sum(row[part] for part in parts)
        assert row["free"] >= 0


def test_a_terminal_without_utf_8(kimi: Kimi) -> None:
    run = kimi(
        *("serve", "plan", "kimi-k2.5", "--gpus", "8xH200"),
        env={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    )
    assert run.code == 0
    assert "int4 - 8 x H200 140 GiB" in run.out
    assert run.out.isascii() and "?" not in run.out.replace(":?}", "")


def test_a_plan_imports_nothing_heavy() -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-X", "importtime", str(PROGRAM)),
            *("serve", "plan", "kimi-k2.5", "--gpus", "8xH200"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line for line in run.stderr.splitlines() if "|" in line]
    names = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    assert "kimi_cli" in names
    assert not names & set(HEAVY)
    modules = {line.rsplit("|", 1)[1].strip() for line in lines}
    # Nobody looks for GPUs where they were described.
    assert not {name for name in modules if "detect" in name}
