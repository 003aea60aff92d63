"""The command line's contract beside the runs: help, exit codes, config, models, completion."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kimi_cli.cli.exit_codes import EXIT_CODES, MEANINGS, help_text
from kimi_cli.protocol.stops import StopReason
from kimi_cli.version import VERSION
from tests.support.program import PROGRAM, Kimi
from tests.support.replies import Reply, http_error
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
ROOT = Path(__file__).parents[2]
KEY = "sk-0123456789abcdefSECRETtail"


def imported(*args: str) -> set[str]:
    """The modules that a run of the program imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", str(PROGRAM), *args],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {line.rsplit("|", 1)[1].strip() for line in run.stderr.splitlines() if "|" in line}


def test_every_stop_has_a_code_and_every_code_a_meaning() -> None:
    assert set(EXIT_CODES) == set(StopReason)
    assert set(EXIT_CODES.values()) == set(MEANINGS)


def test_help_and_readme_have_the_same_exit_codes(kimi: Kimi) -> None:
    run = kimi("--help")
    assert run.code == 0
    table = run.out.split("Exit codes:")[1]
    in_help = {int(code): meaning for code, meaning in re.findall(r"^ +(\d+)  (.+)$", table, re.M)}
    readme = (ROOT / "README.md").read_text()
    in_readme = {
        int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", readme, re.M)
    }
    assert in_help == in_readme == MEANINGS
    assert all(line.strip() in table for line in help_text().splitlines())


def test_help_names_every_flag_of_the_readme(kimi: Kimi) -> None:
    out = kimi("--help").out
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs" / "headless.md").read_text()
    commands = re.findall(r"kimi (?:[^`\n]|\\\n)*", pages)
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(commands)))
    assert len(flags) > 5
    assert {flag for flag in flags if flag not in out} == set()


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_version(flag: str, kimi: Kimi) -> None:
    run = kimi(flag, env={"HOME": None, "KIMI_HOME": None, "PATH": None})
    assert (run.code, run.out, run.err) == (0, f"kimi {VERSION}\n", "")


def test_version_and_help_import_little() -> None:
    version = imported("--version")
    assert {n for n in version if n.startswith("kimi_cli")} <= {
        "kimi_cli", "kimi_cli.__main__", "kimi_cli.version"
    }  # fmt: skip
    assert not {"typer", "asyncio", "pydantic"} & version
    heavy = {"openai", "httpx", "pydantic", "jsonschema", "git", "asyncio", "kimi_cli.agent"}
    assert not heavy & imported("--help")


def test_config_shows_values_with_sources_and_masked_keys(kimi: Kimi) -> None:
    (kimi.home / "config.toml").write_text(
        f'model = "kimi-k3"\n[endpoint]\napi_key = "{KEY}"\n[endpoint.headers]\nX-T = "{KEY}"\n'
    )
    env = {"KIMI_API_KEY": None, "KIMI_BUDGET__MAX_STEPS": "7"}
    text, as_json = kimi("config", "show", env=env), kimi("config", "show", "--json", env=env)
    assert (text.code, as_json.code) == (0, 0)
    assert KEY not in text.out + as_json.out and "…tail" in text.out
    assert re.search(r'^model = "kimi-k3"  # user .*config\.toml', text.out, re.M)
    rows = as_json.json()
    assert rows["budget.max_steps"] == {
        "value": 7, "source": "environment", "detail": "KIMI_BUDGET__MAX_STEPS"
    }  # fmt: skip
    assert rows["endpoint.headers.X-T"]["value"] == "sk-…tail"
    assert rows["retry.attempts"]["source"] == "default"


def test_config_set_and_path(kimi: Kimi) -> None:
    file = kimi.home / "config.toml"
    file.write_text("# mine\nmodel = 'kimi-k3'  # the big one\n")
    assert kimi("config", "path").out.splitlines()[0] == str(file)
    assert kimi("config", "set", "model", "kimi-k2.6").code == 0
    assert kimi("config", "set", "budget.max_cost", "2.5").code == 0
    assert file.read_text().startswith('# mine\nmodel = "kimi-k2.6"  # the big one\n')
    assert kimi("config", "show", "--json").json()["budget.max_cost"]["value"] == 2.5
    before = file.read_bytes()
    for key, value, complaint in (
        ("budget.max_steps", "zero", " zero: must be a whole number, at least 1"),
        ("budget.warn_at", "2", " 2: must be a number, above 0 and at most 1"),
        ("headless.on_ask", "maybe", " maybe: must be deny or fail"),
        ("context.auto_compact", "no", " no: must be true or false"),
        ("models.x.media", '["smell"]', " ['smell']: must be a list, each image or video"),
        ("endpoint", "5", " 5: must be a table"),
        ("endpoint.api_key", f"{KEY} x", " must be printable ASCII without blanks"),
        ("endpoint.api_key_env", KEY, " must be a text that can be the name of a variable"),
        ("endpoint.headers", KEY, " must be a table"),
        ("budget.max_stepps", "1", " is not a setting (did you mean budget.max_steps?)"),
        ("nonsense", "1", " is not a setting"),
    ):
        run = kimi("config", "set", key, value)
        assert (run.code, run.err) == (2, f"kimi: {key}{complaint}\n")
    assert file.read_bytes() == before


def test_broken_config_names_file_line_and_key(kimi: Kimi) -> None:
    (kimi.home / "config.toml").write_text('model = "kimi-k3"\n\n[budget]\nmax_stepps = 3\n')
    for args in (("-p", "x"), ("config", "show"), ("models",)):
        run = kimi(*args)
        assert (run.code, run.out) == (2, "")
        assert "config.toml, line 4: " in run.err and "budget.max_stepps" in run.err


def test_models_joins_endpoint_and_catalogue(kimi: Kimi, serve: Serve) -> None:
    server = serve(models=["kimi-k3", "kimi-k2.5", "somebody/else"])
    document = kimi("models", "--json", server=server).json()
    assert document["dialect"] == "moonshot"
    rows = {row["id"]: row for row in document["models"]}
    assert list(rows) == ["kimi-k2.5", "kimi-k3", "somebody/else"]
    assert rows["kimi-k2.5"]["current"] and not rows["kimi-k3"]["current"]
    assert rows["kimi-k3"]["context"] == 1_048_576
    assert rows["kimi-k3"]["thinking"] == "low | high | max"
    assert rows["kimi-k2.5"]["inputs"] == ["text", "image", "video"]
    assert rows["kimi-k2.5"]["price"]["currency"] == "USD"
    assert rows["somebody/else"]["price"] is None


def test_models_say_whose_window_counts(kimi: Kimi, serve: Serve) -> None:
    """The user's own before the endpoint's, that before the catalogue's."""
    names = ["kimi-k2.5", "kimi-k3", "somebody/else"]
    file = kimi.home / "config.toml"
    file.write_text('[models."kimi-k2.5"]\ncontext = 100_000\nefforts = ["some", "more"]\n')
    env = {"KIMI_MODELS__KIMI-K3__CONTEXT": "65536"}
    entries = [{"id": name, "object": "model", "owned_by": "moonshot"} for name in names]
    server = serve()

    def says(*windows: int) -> None:
        data = [entry | {"context_length": n} for entry, n in zip(entries, windows, strict=True)]
        body = json.dumps({"object": "list", "data": data}).encode()
        server.overrides["GET /v1/models"] = Reply(status=200, body=body)

    def rows(**env: str) -> list[tuple[int, str, str]]:
        document = kimi("models", "--json", server=server, env=env).json()
        names = ("context", "context_source", "context_detail")
        return [tuple(row[name] for name in names) for row in document["models"]]

    mine = (100_000, "user", f"{file}:2")
    says(50_000, 50_000, 50_000)
    assert rows() == [mine, (50_000, "endpoint", ""), (50_000, "endpoint", "")]
    assert rows(**env)[1] == (65_536, "environment", "KIMI_MODELS__KIMI-K3__CONTEXT")
    says(0, 0, 0)
    assert rows() == [mine, (1_048_576, "catalogue", ""), (131_072, "default", "")]
    table = kimi("models", server=server).out.splitlines()
    assert re.search(r"^kimi-k2.5 \* +100,000 +your settings +some \| more ", table[1])
    assert re.search(r"^kimi-k3 +1,024k +the catalogue ", table[2])
    assert re.search(r"^somebody/else +128k +a guess ", table[3])


def test_models_for_people(kimi: Kimi, serve: Serve) -> None:
    long = "a/very-long-name-of-a-fine-tuned-model-that-is-kept-whole-in-the-table"
    server = serve(models=["kimi-k2.5", long])
    run = kimi("models", server=server)
    assert run.code == 0
    assert f"{long} " in run.out
    (row,) = [line for line in run.out.splitlines() if line.startswith("kimi-k2.5 *")]
    assert "256k" in row and "USD 0.6" in row


def test_models_of_an_endpoint_that_refuses(kimi: Kimi, serve: Serve) -> None:
    server = serve()
    wrong = kimi("models", server=server, env={"KIMI_API_KEY": "sk-wrong"})
    assert (wrong.code, wrong.out) == (30, "")
    server.overrides["GET /v1/models"] = http_error(404, "resource_not_found_error", "no list")
    assert kimi("models", server=server).code == 2
    closed = kimi("models", "--base-url", "http://127.0.0.1:9/v1")
    assert closed.code == 75
    assert len(closed.err.splitlines()) == 1


def test_flags_that_a_command_would_ignore(kimi: Kimi) -> None:
    run = kimi("--base-url", "http://127.0.0.1:9/v1", "models")
    assert run.code == 2
    assert "--base-url has no effect before the command 'models'" in run.err


def test_completion_for_bash(kimi: Kimi, tmp_path: Path) -> None:
    script = kimi(env={"_KIMI_COMPLETE": "source_bash"})
    assert "complete -o default -F _kimi_completion kimi" in script.out
    (tmp_path / "completion.sh").write_text(script.out)

    def complete(*words: str) -> set[str]:
        ask = (
            f'source "{tmp_path}/completion.sh"; COMP_WORDS=({" ".join(words)}); '
            f"COMP_CWORD={len(words) - 1}; _kimi_completion kimi; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        run = subprocess.run(
            ["bash", "-c", ask], env=kimi.environment(), capture_output=True, text=True, timeout=60
        )
        return set(run.stdout.split())

    assert complete("kimi", "--max-") == {"--max-steps", "--max-tokens", "--max-cost"}
    assert complete("kimi", "--output-format", "stream") == {"stream-json"}
    assert complete("kimi", "config", "s") == {"show", "set"}
