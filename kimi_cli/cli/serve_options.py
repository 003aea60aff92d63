"""The options that `kimi serve MODEL` and `kimi serve plan` have in common."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

UNITS = {"k": 1 << 10, "m": 1 << 20}

Model = Annotated[
    str,
    typer.Argument(
        help="A name (kimi-k2.5), an id at Hugging Face, or a folder with config.json.",
        metavar="MODEL",
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(help="Plan for these instead of this computer's, as 8xH200.", metavar="GPUS"),
]
Context = Annotated[
    str | None,
    typer.Option(help="The context that must fit, as 128k or 1M.", metavar="TOKENS"),
]
Sessions = Annotated[
    int | None,
    typer.Option(help="How many at full context must fit at once.", metavar="N", min=1),
]
Variant = Annotated[
    str | None,
    typer.Option(help="A repository or a quantisation, as int4 or nvfp4.", metavar="NAME"),
]
KvDtype = Annotated[
    Literal["auto", "fp8"] | None,
    typer.Option(help="Numbers in the cache; auto: those of the model.", show_default=False),
]
Utilisation = Annotated[
    float | None,
    typer.Option(help="The share of each GPU to use, as 0.92.", metavar="SHARE"),
]
TensorParallel = Annotated[
    int | None,
    typer.Option(help="Cut every layer over N GPUs.", metavar="N", min=1, max=1024),
]
PipelineParallel = Annotated[
    int | None,
    typer.Option(help="Spread the layers over N groups.", metavar="N", min=1, max=1024),
]
DataParallel = Annotated[
    int | None,
    typer.Option(help="Run N copies, which share the requests.", metavar="N", min=1, max=1024),
]
DecodeContextParallel = Annotated[
    int | None,
    typer.Option(help="Spread the cache over N GPUs.", metavar="N", min=1, max=1024),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def tokens(text: str) -> int:
    """``128k`` as 131072. Raises ValueError with words for people."""
    digits, unit = text.strip().lower(), 1
    if digits[-1:] in UNITS:
        digits, unit = digits[:-1], UNITS[digits[-1:]]
    if not (digits.isascii() and digits.isdecimal() and int(digits)):
        raise ValueError(f"{text!r} is no number of tokens; write 131072 or 128k")
    return int(digits) * unit
