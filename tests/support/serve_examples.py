"""The files of examples/serve, made as ``kimi serve plan --export`` makes them.

``python -m tests.support.serve_examples`` writes them anew, after a change on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.exports import export
from kimi_cli.serve.facts import NoPlan, Wish
from kimi_cli.serve.planner import plan

FOLDER = Path(__file__).parents[2] / "examples" / "serve"


@dataclass(frozen=True)
class Example:
    """One file and the plan it is made of."""

    file: str
    model: str
    gpus: str
    nodes: int
    kind: str
    data_parallel: int | None = None

    @property
    def command(self) -> str:
        """What a user types for it."""
        nodes = f" --nodes {self.nodes}" if self.nodes > 1 else ""
        copies = f" --data-parallel {self.data_parallel}" if self.data_parallel else ""
        gpus = f"--gpus {self.gpus}{nodes}{copies}"
        return f"kimi serve plan {self.model} {gpus} --export {self.kind}"

    def text(self) -> str:
        """What the file holds."""
        wish = Wish(data_parallel=self.data_parallel)
        found = plan(find_model(self.model), describe(self.gpus, self.nodes), wish)
        assert not isinstance(found, NoPlan), found.why
        return export(found, self.kind)


EXAMPLES = (
    Example("kimi-k2.5-lws.yaml", "kimi-k2.5", "8xH100", 2, "lws"),
    Example("kimi-k2-slurm.sh", "kimi-k2", "8xH200", 2, "slurm"),
    Example("kimi-k2.5-skypilot.yaml", "kimi-k2.5", "8xH200", 1, "skypilot"),
)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for example in EXAMPLES:
        (FOLDER / example.file).write_text(example.text(), encoding="utf-8")
        if example.kind == "slurm":
            (FOLDER / example.file).chmod(0o755)
