"""Standard input and output of headless runs, where a whole run would show no more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_cli.agent import StopReason, StopTurn
from kimi_cli.cli.app import run
from kimi_cli.cli.optional_value import filled
from kimi_cli.frontends.headless.checks import SchemaCheck
from kimi_cli.frontends.headless.writer import Writer


def test_a_non_blocking_stdout_is_waited_for() -> None:
    reader, end = os.pipe()
    os.set_blocking(end, False)
    errors: list[OSError] = []
    writer = Writer(end, errors.append)
    text = "x" * 300_000
    writer.write(text)
    with os.fdopen(reader, "rb") as stream:
        assert stream.read(len(text)) == text.encode()
    assert writer.close(10)
    assert errors == []
    os.close(end)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    ("command", "held"),
    [("PROGRAM", True), ("PROGRAM; true", True), ("sleep 0.5 | PROGRAM; true", False)],
)
def test_a_pipe_that_an_ancestor_holds_is_told_from_a_pipeline(command: str, held: bool) -> None:
    code = "from kimi_cli.frontends.headless.stdin import _held_above; print(_held_above(0))"
    program = f"'{sys.executable}' -c '{code}'"
    with subprocess.Popen(
        ["sh", "-c", command.replace("PROGRAM", program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read().decode().strip() == str(held)


@pytest.mark.parametrize("answer", ['{"a": NaN}', "[" * 200_000])
def test_an_answer_that_json_does_not_know_is_sent_back(answer: str) -> None:
    assert "not JSON" in (asyncio.run(SchemaCheck({})(answer)) or "")


def test_a_schema_that_leads_nowhere_is_a_matter_of_configuration() -> None:
    with pytest.raises(StopTurn) as caught:
        asyncio.run(SchemaCheck({"$ref": "#/definitions/none"})("1"))
    assert caught.value.reason is StopReason.CONFIGURATION


@pytest.mark.parametrize(
    "schema", ["5", "null", "[]", '{"$schema": []}', '{"type": 5}', "[" * 99999]
)
def test_a_schema_that_is_none_is_a_usage_error(schema: str, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(schema)
    assert run(["-p", "x", "--json-schema", str(file)]) == 2


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("-r -p x", ["-r", "", "-p", "x"]),
        ("-p x -r", ["-p", "x", "-r", ""]),
        ("-p x -r 7f3", ["-p", "x", "-r", "7f3"]),
        ("-r 7f3 -p x", ["-r", "7f3", "-p", "x"]),
        ("--resume --fork", ["--resume", "", "--fork"]),
        ("--resume=7f3 -r", ["--resume=7f3", "-r", ""]),
        ("-r7f3 -p x", ["-r7f3", "-p", "x"]),
        ("-yr --max-steps 3", ["-yr", "", "--max-steps", "3"]),
        # What looks like the option may be another one's value, or a command's.
        ("-p -r", ["-p", "-r"]),
        ("-p -r -r", ["-p", "-r", "-r", ""]),
        ("--prompt -r x", ["--prompt", "-r", "x"]),
        ("-p=-r --fork -r -", ["-p=-r", "--fork", "-r", "-"]),
        ("sessions -r", ["sessions", "-r"]),
        ("-y -- -r", ["-y", "--", "-r"]),
        ("-r --", ["-r", "", "--"]),
        ("-p", ["-p"]),
        ("", []),
    ],
)
def test_a_value_that_may_be_left_out(given: str, meant: list[str]) -> None:
    assert filled(given.split(), {"-y", "--fork"}, {"-r", "--resume"}) == meant


def test_an_exception_nobody_foresaw_is_an_internal_error() -> None:
    assert run(["-p", "x", "-C", "a" * 5000]) == 70


def test_what_the_encoding_of_stdout_lacks_is_replaced(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "kimi_cli", "config", "show"],
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "ascii", "KIMI_HOME": str(tmp_path), "KIMI_API_KEY": "sk-test"},
        capture_output=True,
        check=True,
    )
    assert b'endpoint.api_key = "?"' in shown.stdout
