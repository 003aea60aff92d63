"""Starts that can't go well: what happened and what to do next, and nothing is left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Run
from tests.support.real_vllm import START_SECONDS, Serving, free_port
from tests.support.tiny_model import INDEX, Shape, truncate, write_model

pytestmark = [pytest.mark.long, pytest.mark.vllm]


def start(kimi: Serving, model: Path, *args: str) -> Run:
    """In the background: the run ends once the server is up, or has failed."""
    asked = ["--detach", "--name", "one", "--port", str(free_port())]
    return kimi("serve", model, *asked, *args, deadline=START_SECONDS)


def failed(kimi: Serving, run: Run) -> str:
    """The kind of the trouble, after a look at the words that tell it: no traceback."""
    said = run.out + run.err
    assert run.code == 1, said
    assert "Traceback" not in said
    server = kimi.server("one")
    error = server["error"]
    assert (server["alive"], server["state"]) == (False, "failed")
    assert error["message"] and error["todo"]
    assert _joined(error["message"]) in _joined(said) and _joined(error["todo"]) in _joined(said)
    assert server["log"] in _joined(said) or Path(server["log"]).name in said
    return str(error["kind"])


def test_an_unknown_parser(kimi: Serving, model: Path) -> None:
    run = start(kimi, model, "--", "--tool-call-parser", "kimi_k9")
    said = run.out + run.err
    assert run.code in (1, 2), said
    assert "kimi_k9" in said and "parser" in said and "Traceback" not in said
    # vLLM's own list of the fifty others is of no help; the nearest one is.
    assert "kimi_k2" in said


def test_a_parser_for_other_models(kimi: Serving, model: Path) -> None:
    run = start(kimi, model, "--", "--tool-call-parser", "llama3_json")
    assert failed(kimi, run)
    assert "llama3_json" in run.out + run.err
    assert "✓ chat" not in run.out and "ready on" not in run.out


def test_a_parser_that_reads_another_notation(kimi: Serving, scripted: Path) -> None:
    """vLLM starts and answers, and leaves every call in the text."""
    run = start(kimi, scripted, "--", "--tool-call-parser", "pythonic")
    assert run.code == 0, run.out + run.err
    assert "✓ chat · ✗ tool call · running, with limits," in run.out
    server = kimi.server("one")
    assert server["state"] == "limited"
    assert _verdicts(server) == {"chat": True, "tool call": False}
    words = server["checks"][1]["words"]
    assert "came as text" in words and "parser" in words and words in _joined(run.out)
    assert kimi("serve", "stop", "one").code == 0


def test_an_unknown_option(kimi: Serving, model: Path) -> None:
    run = start(kimi, model, "--", "--max-model-length", "4096")
    assert run.code == 2, run.out + run.err
    assert "--max-model-length" in run.err and "--max-model-len" in run.err
    assert not list(kimi.home.glob("servers/*/vllm.log"))


def test_a_file_that_was_cut_off(kimi: Serving, damaged: Path) -> None:
    truncate(sorted(damaged.glob("*.safetensors"))[-1])
    run = start(kimi, damaged)
    said = run.out + run.err
    assert run.code in (1, 2) and "Traceback" not in said
    assert re.search(r"safetensors|weights|incomplete|damaged", said), said
    if list(kimi.home.glob("servers/one")):
        failed(kimi, run)


def test_missing_weights(kimi: Serving, damaged: Path) -> None:
    for file in damaged.glob("*.safetensors"):
        file.unlink()
    (damaged / INDEX).unlink()
    run = start(kimi, damaged)
    assert run.code in (1, 2)
    assert "weights" in run.err and "Traceback" not in run.err


def test_no_config(kimi: Serving, damaged: Path) -> None:
    (damaged / "config.json").unlink()
    run = start(kimi, damaged)
    assert run.code == 2
    assert "config.json" in run.err and "Traceback" not in run.err


def test_a_context_that_no_memory_holds(kimi: Serving, tmp_path: Path) -> None:
    # 8 MiB a token: 128k of them would be a terabyte.
    shape = Shape(hidden=2048, layers=1, heads=1, kv_heads=1, inner=8, context=1 << 30)
    model = write_model(tmp_path / "long", shape)
    run = start(kimi, model, "--context", str(1 << 30))
    assert run.code == 1, run.out + run.err
    said = _joined(run.out + run.err)
    assert "--context" in said
    assert not kimi.engine()


def test_a_context_that_does_not_fit_is_repaired(kimi: Serving, model: Path) -> None:
    # vLLM gets room for so many tokens only, which no plan can know.
    room = 64 * 128
    run = start(kimi, model, "--", "--num-gpu-blocks-override", "64", "--block-size", "128")
    assert run.code == 0, run.out + run.err
    server = kimi.server("one")
    # It can be used, by somebody who wants no tools: this model calls none.
    assert server["state"] == "limited"
    assert _verdicts(server) == {"chat": True, "tool call": False}
    assert "running, with limits," in run.out
    assert 0 < server["context"] <= room
    (repair,) = server["repairs"]
    assert str(server["context"]) in repair.replace(",", "") or "context" in repair
    assert _joined(repair) in _joined(run.out)
    assert kimi("serve", "stop", "one").code == 0


def _verdicts(server: dict[str, Any]) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in server["checks"]}


def _joined(text: str) -> str:
    """Without the line ends that the terminal's width made."""
    return " ".join(text.split())
