"""Worlds to try the sandbox in, for its tests: one for each kind of user and form."""

from __future__ import annotations

import os
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.boxed import Boxed


def started(user: str, best: str) -> Boxed:
    folder = Path(tempfile.mkdtemp(prefix="kimi-boxed-"))
    folder.chmod(0o755)
    if user == "nobody":
        if os.getuid():
            pytest.skip("only root can become nobody")
        os.chown(folder, 65534, 65534)
    try:
        return Boxed(folder, user, best)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"{error} (an interpreter and modules that {user or 'we'} can't read?)")


def worlds(user: str, best: str, way: str) -> Iterator[Boxed]:
    boxed = started(user, best)
    try:
        if boxed.probe["way"] != way:
            pytest.skip(f"{way} does not work here: {boxed.probe['why']}")
        yield boxed
    finally:
        boxed.kill()
        shutil.rmtree(boxed.world.folder, ignore_errors=True)


def got_through(world: Boxed, command: str, **changes: object) -> str:
    """What a command managed that it must not; empty when nothing."""
    answer = world.run(command, **changes)  # type: ignore[arg-type]
    assert "error" not in answer, answer
    if answer["changed"]:
        world.make()
        return f"changed {answer['changed']}"
    if answer["victim"] is not None:
        return "killed a process outside"
    return "" if answer["code"] != 0 else f"succeeded: {answer['output']}"


def ok(boxed: Boxed, command: str, **changes: object) -> str:
    answer = boxed.run(textwrap.dedent(command), **changes)  # type: ignore[arg-type]
    assert answer.get("code") == 0, answer
    assert answer["changed"] == []
    return str(answer["output"])
