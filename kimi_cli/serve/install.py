"""How vLLM gets onto this computer (vLLM documentation, "Installation")."""

from __future__ import annotations

from dataclasses import dataclass

from kimi_cli.serve.facts import Vendor

GUIDE = "https://docs.vllm.ai/en/latest/getting_started/installation/"
_FRESH = ("uv venv --python 3.12 ~/vllm", ". ~/vllm/bin/activate")


@dataclass(frozen=True, slots=True)
class Install:
    """What suits this computer, and the commands for it; none where words alone help."""

    how: str
    commands: tuple[str, ...] = ()


def install_steps(vendor: Vendor, system: str, processor: str) -> Install:
    """How to install vLLM. `vendor` is "" where there is no GPU; `system` and `processor` are as
    `platform.system` and `platform.machine` name them."""
    if system == "Windows":
        return Install("vLLM runs on Linux; on Windows inside WSL 2", ("wsl --install",))
    if system == "Darwin":
        chip = "Apple's GPUs are served by vllm-metal, which is not planned for here"
        return Install(chip if processor == "arm64" else "vLLM needs Linux for GPUs")
    if vendor == "amd":
        how = "vLLM's own image is what its documentation recommends for AMD"
        return Install(how, ("docker pull vllm/vllm-openai-rocm",))
    if vendor == "nvidia":
        how = "vLLM into an environment of its own, for the CUDA of this driver"
        return Install(how, (*_FRESH, "uv pip install vllm --torch-backend=auto"))
    return Install(f"without a GPU vLLM serves small models only: {GUIDE}cpu/")
