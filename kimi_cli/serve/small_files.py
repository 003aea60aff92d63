"""The small files of a repository at Hugging Face, by the program that came with vLLM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

PATIENCE = 60.0
"""Seconds; they are some kilobytes, a tokenizer some megabytes."""
PATTERNS = ("*.json", "*.jinja")


def fetch_small_files(repo: str, vllm: str, env: Mapping[str, str]) -> str:
    """Get what describes a model, not its weights, into Hugging Face's cache, with the ``hf`` that
    lies beside vLLM's program (huggingface_hub, "Command Line Interface"): the user's own endpoint,
    token and cache count. Returns why there is nothing, "" for success."""
    program = Path(vllm).with_name("hf")
    if not os.access(program, os.X_OK):
        return f"{program} is not there"
    included = [word for pattern in PATTERNS for word in ("--include", pattern)]
    try:
        done = subprocess.run(
            [str(program), "download", repo, *included],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            env={**env, "NO_COLOR": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE:.0f} s"
    except OSError as error:
        return f"{program}: {error.strerror}"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), f"hf ended with {done.returncode}")
