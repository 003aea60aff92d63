"""Servers that Ray joins: what `ray status` says, and when it is too little.

The reports are those of ray 2.60 for nodes started with ``ray start --num-gpus 8``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import Plan, Wish
from kimi_cli.serve.planner import plan
from kimi_cli.serve.ray import Cluster, check_ray, read_status
from tests.support import gpu_programs

REPORTS = Path(__file__).parents[1] / "support" / "ray_status"


def report(name: str) -> str:
    return (REPORTS / f"{name}.txt").read_text()


def of(model: str, gpus: str, nodes: int, **wish: int) -> Plan:
    found = plan(find_model(model), describe(gpus, nodes), Wish(**wish))  # type: ignore[arg-type]
    assert isinstance(found, Plan), found.why
    return found


SIXTEEN = of("kimi-k2", "8xH200", 2)


@pytest.mark.parametrize(
    ("name", "cluster"),
    [
        ("one_node", Cluster(1, 8, 0.0)),
        ("two_nodes", Cluster(2, 16, 0.0)),
        ("busy", Cluster(2, 16, 6.0)),
    ],
)
def test_reports_as_ray_writes_them(name: str, cluster: Cluster) -> None:
    assert read_status(report(name)) == cluster


def test_no_report() -> None:
    assert read_status("ConnectionError: Could not find any running Ray instance.") is None
    assert read_status(report("one_node").replace(" 0.0/8.0 GPU\n", "")) == Cluster(1, 0, 0.0)


def ray(folder: Path, answer: str | tuple[int, str]) -> dict[str, str]:
    gpu_programs.program(folder, "ray", {" status ": answer})
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_a_cluster_that_will_do(tmp_path: Path) -> None:
    assert check_ray(SIXTEEN, ray(tmp_path, report("two_nodes"))) is None
    assert check_ray(of("kimi-k2.5", "8xH200", 1), ray(tmp_path, report("one_node"))) is None


def test_too_few_gpus(tmp_path: Path) -> None:
    found = check_ray(SIXTEEN, ray(tmp_path, report("one_node")))
    assert found and found.kind == "ray-gpus"
    assert "8 GPUs on 1 node" in found.what and "needs 16: 8 too few" in found.what
    assert "ray start --address" in found.todo


def test_gpus_that_others_hold(tmp_path: Path) -> None:
    found = check_ray(SIXTEEN, ray(tmp_path, report("busy")))
    assert found and found.kind == "ray-busy" and "10 are free" in found.what


def test_no_cluster(tmp_path: Path) -> None:
    found = check_ray(SIXTEEN, ray(tmp_path, (1, "")))
    assert found and found.kind == "no-ray-cluster"
    assert "ray start --head --port 6379" in found.todo
    assert "ray start --address HEAD:6379" in found.todo


def test_no_ray(tmp_path: Path) -> None:
    found = check_ray(SIXTEEN, {"PATH": str(tmp_path)})
    assert found and found.kind == "no-ray" and "pip install ray" in found.todo


def test_the_ray_beside_vllm_counts(tmp_path: Path) -> None:
    env = ray(tmp_path / "other", report("one_node"))
    ray(tmp_path / "venv", report("two_nodes"))
    program = tmp_path / "venv" / "vllm"
    program.touch()
    (tmp_path / "bin").mkdir()
    os.symlink(program, tmp_path / "bin" / "vllm")
    assert check_ray(SIXTEEN, env, str(tmp_path / "bin" / "vllm")) is None
