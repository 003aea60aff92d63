"""`kimi serve` as a process where no vLLM is: what it refuses and says, and servers as they are
found on disk."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kimi_cli.serve.state import read, write
from tests.support import vllm_program
from tests.support.gpu_programs import __file__ as gpu_programs
from tests.support.kept import kept, mark, put
from tests.support.program import PROGRAM, Kimi, Run

STAND_IN = Path(gpu_programs).parent / "nvml"
START = ("kimi-k2.5", "--gpus", "8xH200", "--detach", "--no-wait", "--yes")
LISTENS = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    time.sleep(600)
"""
FIELDS = {
    *("name", "state", "alive", "url", "model", "repo", "context", "tokens", "key_file", "log"),
    *("pid", "vllm", "started", "ready", "ended", "progress", "checks", "repairs", "notes"),
    "error",
}


def serve(kimi: Kimi, *args: str, env: Mapping[str, str] | None = None) -> Run:
    """A run that finds neither vLLM nor a real GPU."""
    hermetic = {"PATH": "/nowhere", "PYTHONPATH": str(STAND_IN), "FAKE_NVML": "/nowhere"}
    return kimi("serve", *args, env={**hermetic, **(env or {})})


# --- what is refused ---


def test_without_vllm(kimi: Kimi) -> None:
    run = serve(kimi, "kimi-k2.5")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("kimi: vLLM is not installed on this computer, or not in PATH\n")
    document = serve(kimi, "kimi-k2.5", "--detach", "--json")
    assert document.code == 1
    found = document.json()
    assert found["state"] is None and found["error"]["kind"] == "no-vllm"
    assert found["error"]["todo"]
    # Nothing was started, and the port is free again.
    assert serve(kimi, "ps", "--all", "--json").json() == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("kimi-k2.5", "--no-wait"), "--no-wait goes with --detach"),
        (("kimi-k2.5", "--context", "12q"), "write 131072 or 128k"),
        (("kimi-k2.5", "--nodes", "3"), "they have to be named"),
        (("kimi-k2.5", "--nodes", "0"), "from 1 to 256"),
        (("kimi-k2.5", "--nodes", "a,b,a"), "names a computer twice"),
        (("kimi-k2.5", "--nodes", "192.0.2.1,b"), "192.0.2.1 is not this computer"),
        (("kimi-k2.55", "--gpus", "8xH200", "--nodes", "a,b", "--print"), "kimi-k2.55"),
        (("kimi-k2.5", "--gpus", "x", "--nodes", "a,b", "--print"), "x"),
        (("stop", "--all", "tiny"), "either a name or --all"),
        (("stop",), "no server was started yet"),
        (("logs",), "no server was started yet"),
        (("restart",), "no server was started yet"),
    ],
)
def test_usage(kimi: Kimi, args: Sequence[str], words: str) -> None:
    run = serve(kimi, *args)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith("kimi: ") and words in run.err
    assert "Traceback" not in run.err


def test_help_points_to_the_options_of_a_run(kimi: Kimi) -> None:
    assert "kimi serve run -h" in serve(kimi, "-h").out
    bare = serve(kimi)
    assert "kimi serve run -h" in bare.out + bare.err
    assert "--detach" in serve(kimi, "run", "-h").out


def test_json_has_one_object_in_the_end_only(kimi: Kimi) -> None:
    run = serve(kimi, "kimi-k2.5", "--json")
    assert (run.code, run.err) == (2, "")
    assert run.json()["error"]["message"] == "--json goes with --detach or --print"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("kimi-k2.5", "another"), "unexpected extra argument"),
        (("kimi-k2.5", "--max-num-seqs", "4"), "No such option: --max-num-seqs"),
        (("kimi-k2.5", "--port", "70000"), "65535"),
        (("stauts",), "is 'status' meant?"),
        (("--detach",), "MODEL"),
    ],
)
def test_usage_that_the_parser_refuses(kimi: Kimi, args: Sequence[str], words: str) -> None:
    run = serve(kimi, *args)
    assert (run.code, run.out) == (2, "")
    assert words in run.err and "Usage: kimi serve" in run.err


def test_a_port_that_is_taken(kimi: Kimi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run = serve(kimi, "kimi-k2.5", "--port", port)
    assert run.code == 1
    assert f"port {port} is in use" in run.err and "--port" in run.err


@pytest.mark.parametrize(
    "args", [("plan", "kimi-k2.5"), ("kimi-k2.5", "--nodes", "localhost,gpu2", "--print")]
)
def test_programs_of_the_project_are_not_run(kimi: Kimi, args: Sequence[str]) -> None:
    """A model may have put them there."""
    ran = kimi.user_home / "ran"
    for name in ("nvidia-smi", "amd-smi", "rocm-smi", "ssh", "ray"):
        planted = kimi.cwd / "bin" / name
        planted.parent.mkdir(exist_ok=True)
        planted.write_text(f"#!/bin/sh\necho {name} >>{ran}\n")
        planted.chmod(0o755)
    run = serve(kimi, *args, env={"PATH": f"{kimi.cwd}/bin:bin:/bin"})
    assert run.code == 1, run.err
    assert not ran.exists(), ran.read_text()


# --- commands to copy ---


def test_print_for_other_computers(kimi: Kimi) -> None:
    args = ("kimi-k2.5", "--print", "--gpus", "8xH200", "--nodes", "gpu1,gpu2")
    run = serve(kimi, *args)
    assert run.code == 0, run.err
    assert "# on gpu1\n" in run.out and "# on gpu2\n" in run.out
    # All of it is a script.
    syntax = subprocess.run(["sh", "-n"], input=run.out.encode(), capture_output=True)
    assert (syntax.returncode, syntax.stderr) == (0, b"")
    assert run.out.count("vllm serve ") == 2 and "--headless" in run.out
    document = serve(kimi, *args, "--json")
    commands = document.json()["commands"]
    assert [one["host"] for one in commands] == ["gpu1", "gpu2"]
    assert commands[0]["argv"][:2] == ["vllm", "serve"]
    assert all(
        var["value"] == "" for one in commands for var in one["environment"] if var["secret"]
    )


def test_options_of_vllm_come_after_two_dashes(kimi: Kimi) -> None:
    args = ("--print", "--gpus", "8xH200", "--nodes", "gpu1,gpu2", "kimi-k2.5", "--json", "--")
    argv = serve(kimi, *args, "--max-num-seqs", "7", "--no-x").json()["commands"][0]["argv"]
    assert argv[argv.index("--max-num-seqs") + 1] == "7" and "--no-x" in argv


def test_no_fit(kimi: Kimi) -> None:
    args = ("kimi-k3", "--print", "--gpus", "1xRTX 4090", "--nodes", "gpu1,gpu2")
    run = serve(kimi, *args)
    assert (run.code, run.out) == (1, "")
    assert "short by" in run.err and "what fits" in run.err
    assert "kimi serve plan kimi-k3 --gpus" in run.err and run.err.startswith("kimi serve Kimi")
    assert serve(kimi, *args, "--json").json()["error"]["kind"] == "no-fit"


def test_a_plan_as_a_file_for_a_cluster(kimi: Kimi) -> None:
    args = ("plan", "kimi-k2.5", "--gpus", "8xH200", "--nodes", "2", "--export")
    run = serve(kimi, *args, "slurm")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("#!/bin/bash\n#SBATCH ") and run.out.endswith("\n")
    assert serve(kimi, *args, "nomad").code == 2


# --- servers on disk ---


def test_no_servers(kimi: Kimi) -> None:
    run = serve(kimi, "ps")
    assert (run.code, run.out) == (0, "")
    assert run.err == "kimi: no server runs: kimi serve MODEL starts one\n"
    assert serve(kimi, "ps", "--json").json() == []
    assert serve(kimi, "status").code == 1
    assert serve(kimi, "stop", "--all").code == 0


def test_ps(kimi: Kimi) -> None:
    put(kimi.home, "failed", "old")
    with kept(put(kimi.home, "load", "tiny", port=18140)):
        run = serve(kimi, "ps")
        assert run.code == 0
        assert re.match(
            r"name +model +state +url +context +since +pid\ntiny +/models/tiny", run.out
        )
        assert "old" not in run.out and "http://127.0.0.1:18140/v1" in run.out
        both = serve(kimi, "ps", "--all", "--json").json()
    assert {one["name"]: one["alive"] for one in both} == {"old": False, "tiny": True}
    assert all(one.keys() == FIELDS for one in both)
    gone = serve(kimi, "ps")
    assert gone.out == "" and "--all lists those that have ended" in gone.err


def test_status_of_one_that_does_not_answer(kimi: Kimi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with kept(put(kimi.home, "ready", port=port)):
        run = serve(kimi, "status")
        document = serve(kimi, "status", "tiny", "--json")
    assert run.code == 1
    assert "tiny · ready · http" in run.out and "✗ does not answer: " in run.out
    assert document.code == 1
    found = document.json()
    assert found["answers"] is False and found["problem"] and found["metrics"] is None
    assert found.keys() >= FIELDS


def test_a_server_whose_keeper_was_killed(kimi: Kimi) -> None:
    put(kimi.home, "ready")
    run = serve(kimi, "status")
    assert run.code == 1
    assert "kimi serve restart" in run.out
    stop = serve(kimi, "stop", "--all")
    assert (stop.code, stop.out) == (0, "  tiny had ended before · no process of it is left\n")


@contextmanager
def left_of(name: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with the mark of a server that `put` makes, and the port at which it listens."""
    env = {**os.environ, "KIMI_SERVER_ID": mark(name)}
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], env=env, stdout=subprocess.PIPE, text=True
    ) as left:
        try:
            assert left.stdout
            yield left, int(left.stdout.readline())
        finally:
            left.kill()


def test_what_is_left_of_a_server_whose_keeper_was_killed(kimi: Kimi) -> None:
    # Other tests stop servers of theirs at the same time, and look for their marks.
    name = f"left-{os.getpid()}"
    put(kimi.home, "ready", "older")
    with left_of(name) as (left, port):
        put(kimi.home, "ready", name, port=port)
        run = serve(kimi, "ps")
        assert f"{name} is lost, vLLM may still run: kimi serve stop {name}" in run.out
        assert "older" not in run.out
        assert [one["name"] for one in serve(kimi, "ps", "--json").json()] == [name]
        run = serve(kimi, "kimi-k2.5", "--port", str(port))
        assert run.code == 1
        assert f"port {port} is in use by " in run.err and "--port" not in run.err
        assert run.err.endswith(f"  end it first\n    kimi serve stop {name}\n")
        stop = serve(kimi, "stop", name)
        assert stop.code == 0
        assert stop.out == (
            f"  {name} had lost its keeper · what was left of it was ended"
            " · no process of it is left\n"
        )
        assert left.wait(10) == -signal.SIGTERM
    assert "no server runs" in serve(kimi, "ps").err
    assert serve(kimi, "stop", name).out.startswith(f"  {name} had ended before · no process")


def test_a_name_of_which_vllm_still_runs_is_not_used_again(kimi: Kimi, tmp_path: Path) -> None:
    name = f"left-{os.getpid()}-again"
    env = {"KIMI_VLLM": str(vllm_program.install(tmp_path / "vllm"))}
    with left_of(name):
        put(kimi.home, "ready", name)
        run = serve(kimi, *START, "--name", name, env=env)
        assert run.code == 1
        assert f"kimi serve stop {name}" in run.err
        assert read(kimi.home / "servers" / name).progress.stage == "ready"


def test_a_second_server_of_a_model_says_so(kimi: Kimi, tmp_path: Path) -> None:
    env = {"KIMI_VLLM": str(vllm_program.install(tmp_path / "vllm"))}
    folder = put(kimi.home, "ready", "kimi-k2.5")
    first = read(folder)
    write(folder, replace(first, launch=replace(first.launch, repo="moonshotai/Kimi-K2.5")))
    with kept(folder):
        run = serve(kimi, *START, env=env)
        assert run.code == 0, run.err
        # It takes its time, and nothing can be drawn.
        assert run.err == "kimi: looks at vLLM 0.32.0 and this computer\n"
        lines = run.out.splitlines()
        assert lines[0].endswith(" · called kimi-k2.5-2")
        assert "! kimi-k2.5 runs this model already: kimi --local kimi-k2.5" in lines
        assert serve(kimi, "stop", "kimi-k2.5-2", "--now").code == 0


def test_restart_asks_for_the_same_again(kimi: Kimi) -> None:
    put(kimi.home, "failed")
    run = serve(kimi, "restart")
    assert run.code == 1
    assert run.out == "  tiny had ended before · no process of it is left\n"
    assert "vLLM is not installed" in run.err


def test_stop(kimi: Kimi) -> None:
    folder = put(kimi.home, "ready")
    with kept(folder):
        run = serve(kimi, "stop")
    assert run.code == 0
    assert re.fullmatch(
        r"  stopping tiny: requests in work finish first, at most 30 s\n"
        r"  tiny stopped after .* · no process of it is left\n",
        run.out,
    )
    assert read(folder).progress.stage == "stopped"


def test_logs(kimi: Kimi) -> None:
    log = b"".join(b"line %d\n" % number for number in range(300))
    put(kimi.home, "failed", log=log + b"\rload:  1%\rload: 99%\n\x1b[31mred\x1b[0m \xff\nlast")
    run = serve(kimi, "logs")
    assert run.code == 0 and "\x1b" not in run.out
    lines = run.out.splitlines()
    assert len(lines) == 100
    assert lines[-4:] == ["line 299", "load: 99%", "red �", "last"]
    assert serve(kimi, "logs", "tiny", "-n", "2").out.splitlines() == ["red �", "last"]
    assert serve(kimi, "logs", "-n", "0").out == ""
    # One that has ended is followed to its end.
    assert serve(kimi, "logs", "-f", "-n", "1").out.splitlines() == ["red �", "last"]
    assert serve(kimi, "logs", "other").code == 2


def test_logs_of_one_that_printed_nothing(kimi: Kimi) -> None:
    with kept(put(kimi.home, "starting")):
        run = serve(kimi, "logs")
    assert (run.code, run.out, run.err) == (0, "", "kimi: vLLM printed nothing yet\n")


def test_logs_are_followed_until_the_server_ends(kimi: Kimi) -> None:
    folder = put(kimi.home, "load", log=b"one\n")
    with kept(folder):
        running = kimi.start("serve", "logs", "-f")
        running.until(lambda: running.out == "one\n", "first line")
        with (folder / "vllm.log").open("ab") as log:
            log.write(b"two\n")
        running.until(lambda: running.out == "one\ntwo\n", "second line")
    assert running.end().code == 0


def test_what_a_look_at_servers_loads(kimi: Kimi) -> None:
    """Nothing heavy, and no model layer: a list must come at once."""
    code = (
        "import sys, json\nsys.argv = ['kimi', 'serve', 'ps', '--json']\n"
        "from kimi_cli.cli.app import run\nrun(sys.argv[1:])\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=kimi.environment(), cwd=kimi.cwd, capture_output=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    for heavy in ("openai", "vllm", "torch", "prompt_toolkit", "kimi_cli.agent", "kimi_cli.model"):
        assert heavy not in loaded, heavy


def test_without_utf8_and_where_the_reader_leaves(kimi: Kimi) -> None:
    env = {**kimi.environment(), "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    put(kimi.home, "failed")
    done = subprocess.run([PROGRAM, "serve", "status"], env=env, cwd=kimi.cwd, capture_output=True)
    assert done.returncode == 1 and b"x the server ended" in done.stdout
    left = subprocess.run(
        f"{PROGRAM} serve logs -n 100 | true",
        shell=True,
        env=env,
        cwd=kimi.cwd,
        capture_output=True,
    )
    assert b"Traceback" not in left.stderr
