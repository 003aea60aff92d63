"""A launch and recorded logs, for tests of what reads vLLM's log."""

from __future__ import annotations

from pathlib import Path

from kimi_cli.serve.facts import NodeCommand, Wish
from kimi_cli.serve.log_reader import LogReader
from kimi_cli.serve.running import Launch, Request, Stage

LOGS = Path(__file__).parent / "vllm_logs"


def recorded(name: str) -> str:
    """The log of that run, with its bars as they were drawn."""
    return (LOGS / f"{name}.log").read_bytes().decode()


def launch(
    *options: str,
    model: str = "/models/tiny",
    hosts: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    port: int = 18100,
    weight_bytes: int = 0,
) -> Launch:
    """A server whose head was started with these options."""
    nodes = hosts or ("localhost",)
    return Launch(
        name="tiny",
        request=Request(model, Wish(port=port), extra=extra, hosts=hosts),
        commands=tuple(
            NodeCommand(host, rank, ("vllm", "serve", model, *options), ())
            for rank, host in enumerate(nodes)
        ),
        host="127.0.0.1",
        port=port,
        served_name="tiny",
        repo=model,
        context=16_384,
        weight_bytes=weight_bytes,
        vllm_version="0.32.0",
    )


def read(text: str, *, weight_bytes: int = 0) -> LogReader:
    """What has read all of the text."""
    reader = LogReader(weight_bytes)
    reader.feed(text, 0.0)
    return reader


def stages_of(text: str) -> list[Stage]:
    """The stages that a log goes through, as its lines come one by one."""
    reader = LogReader()
    seen: list[Stage] = []
    for number, line in enumerate(text.splitlines(keepends=True)):
        reader.feed(line, float(number))
        stage = reader.progress(float(number)).stage
        if not seen or seen[-1] != stage:
            seen.append(stage)
    return seen
