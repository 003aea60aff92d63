"""Prompt texts, loaded by name; installed as ``kimi_cli.prompts``."""

from pathlib import Path


def load(name: str) -> str:
    """Return the text of ``prompts/NAME.md``, without the final newline.

    Raises FileNotFoundError when there is no such prompt.
    """
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8").rstrip("\n")
