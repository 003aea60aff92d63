"""Checks of this machine: folders, programs, the terminal, the sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kimi_cli.frontends.doctor.finding import Finding
from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.look import find_look
from kimi_cli.protocol.sandbox import SandboxMode
from kimi_cli.protocol.stops import StopReason

PROGRAM_SECONDS = 5.0
LITTLE_SPACE = 1 << 30
NO_SPACE = 50 << 20
NARROW, LOW = 60, 16
"""Columns and rows that the screen needs to be of use."""


def check_home(home: Path) -> Finding:
    """Whether kimi can write where it keeps its files."""
    folder = _nearest(home)
    try:
        # Asked for and not guessed: a read-only mount shows in no mode.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(
            "home",
            "fail",
            f"{home} can't be written: {error.strerror}",
            "Sessions, keys and rules can't be kept. Set KIMI_HOME to a folder that you can write.",
            StopReason.STORE_FAILED,
        )
    if folder != home:
        return Finding("home", "ok", f"{home}, made when it is needed")
    mode = home.stat().st_mode & 0o777
    if mode & 0o022:
        words = f"{home} can be changed by others (mode {mode:03o})"
        return Finding("home", "warn", words, f"chmod 700 {home}")
    return Finding("home", "ok", str(home))


def check_disk(home: Path) -> Finding:
    """Whether there is space for sessions and snapshots."""
    folder = _nearest(home)
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "warn", f"{folder}: {error.strerror}")
    words = f"{free / (1 << 30):.1f} GiB free where {home} is"
    advice = "Make room: sessions and snapshots are kept there."
    if free < NO_SPACE:
        return Finding("disk", "fail", words, advice, StopReason.STORE_FAILED)
    if free < LITTLE_SPACE:
        return Finding("disk", "warn", words, advice)
    return Finding("disk", "ok", words)


def check_terminal(env: Mapping[str, str]) -> Finding:
    """What the terminal can show."""
    stream = next((s for s in (sys.stdout, sys.stderr, sys.stdin) if s and s.isatty()), None)
    if stream is None:
        return Finding("terminal", "ok", "none here: headless runs need none")
    look = find_look(env, sys.stdout.encoding)
    try:
        size = os.get_terminal_size(stream.fileno())
        columns, rows = size.columns or 80, size.lines or 24
    except (OSError, ValueError):
        columns, rows = 80, 24
    kind = env.get("TERM", "")
    colours = "colours" if look.colour else "no colours"
    unicode = "UTF-8" if look.user == "›" else f"no UTF-8 ({sys.stdout.encoding})"
    words = f"{kind or 'TERM is not set'}, {columns}x{rows}, {colours}, {unicode}"
    if env.get("TMUX"):
        words += f", tmux ({_tmux(env)})"
    if kind in ("", "dumb"):
        advice = "Set TERM to what your terminal is, such as xterm-256color; `kimi -p` needs none."
        return Finding("terminal", "warn", words, advice)
    if columns < NARROW or rows < LOW:
        return Finding("terminal", "warn", words, f"Make it at least {NARROW}x{LOW}.")
    if look.user != "›":
        advice = "Set LANG to a UTF-8 locale, such as C.UTF-8, to see text in all languages."
        return Finding("terminal", "warn", words, advice)
    return Finding("terminal", "ok", words)


def check_git(env: Mapping[str, str]) -> Finding:
    """Whether there is git; kimi works without, but brings nothing back."""
    version, problem = _version("git", env)
    if version:
        return Finding("git", "ok", version)
    return Finding("git", "warn", problem, "Install git: undo keeps files with it.")


def check_ripgrep(env: Mapping[str, str]) -> Finding:
    """Whether the search tools have their program."""
    from kimi_cli.protocol.tools import ToolError
    from kimi_cli.tools.ripgrep import find

    try:
        program = find()
    except ToolError as error:
        return _no_ripgrep(str(error))
    version, problem = _version(program, env)
    return Finding("ripgrep", "ok", f"{version}, {program}") if version else _no_ripgrep(problem)


def check_tokenizer(model: str, configured: str, env: Mapping[str, str]) -> Finding:
    """How the tokens of the model are counted."""
    from kimi_cli.model.catalogue import lookup
    from kimi_cli.model.tokenizer import exact_counter, find_tokenizer, load_tokenizer

    path = find_tokenizer(model, lookup(model).repository, configured, env)
    if path is None:
        if configured:
            words = f"there is no tiktoken.model at {configured}"
            advice = f'Mend models."{model}".tokenizer, or take it out: tokens are estimated.'
            return Finding("tokenizer", "warn", words, advice)
        return Finding("tokenizer", "ok", f"none for {model} here: the server counts, or estimates")
    try:
        count = exact_counter(load_tokenizer(path))("one two three")
    except (OSError, ValueError) as error:
        words = f"{path} can't be used: {error}"
        return Finding(
            "tokenizer", "warn", words, "Fetch it again; until then tokens are estimated."
        )
    return Finding("tokenizer", "ok", f"{path}: {count} tokens in three words, exact")


async def check_sandbox(mode: SandboxMode, root: Path, env: Mapping[str, str]) -> Finding:
    """What confines commands here, found out by trying it."""
    if mode == "off":
        advice = "Commands can do all that you can. `kimi config set sandbox.mode workspace-write`"
        return Finding("sandbox", "warn", "off, by your settings", advice)
    from kimi_cli.workspace.processes import ProcessRunner

    with tempfile.TemporaryDirectory(prefix="kimi-doctor-", ignore_cleanup_errors=True) as folder:
        try:
            runner = ProcessRunner(Path(folder) / "outputs", env=env)
        except OSError as error:
            words = f"no process can be started: {error}"
            return Finding("sandbox", "fail", words, reason=StopReason.INTERNAL)
        try:
            probe = await runner.probe(root)
            if probe.way == "none":
                probe = await runner.probe()
        except OSError as error:
            words = f"it can't be tried out: {error}"
            return Finding("sandbox", "fail", words, reason=StopReason.INTERNAL)
        finally:
            runner.kill_now()
    if probe.way == "none":
        return Finding(
            "sandbox",
            "fail",
            f"none works here: {probe.why or 'nothing was found'}",
            "Allow unprivileged user namespaces, install bubblewrap, or use a kernel with Landlock;"
            " `--sandbox off` runs commands without one.",
        )
    if probe.lacks:
        why = f" ({probe.why})" if probe.why else ""
        words = f"{probe.way}, degraded{why}: it can't hold {', '.join(probe.lacks)}"
        return Finding("sandbox", "warn", words, "docs/sandbox.md says what each form needs.")
    return Finding("sandbox", "ok", f"{probe.way}, {mode}")


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest thing above it that there is."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def _no_ripgrep(problem: str) -> Finding:
    advice = "pip install ripgrep, into kimi's own environment."
    return Finding("ripgrep", "fail", problem, advice, StopReason.VERIFY_FAILED)


def _version(program: str, env: Mapping[str, str]) -> tuple[str, str]:
    """The first line of ``--version``, or why there is none."""
    found = shutil.which(program, path=env.get("PATH", os.defpath))
    if found is None:
        return "", f"{program} is not on PATH"
    try:
        run = subprocess.run(
            [found, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_SECONDS,
            env=dict(env),
        )
    except subprocess.TimeoutExpired:
        return "", f"{found} does not answer"
    except OSError as error:
        return "", f"{found}: {error.strerror}"
    text = run.stdout.decode("utf-8", "replace")
    line = clean(text.strip().partition("\n")[0])[:80]
    return (line, "") if run.returncode == 0 and line else ("", f"{found} fails")


def _tmux(env: Mapping[str, str]) -> str:
    """Whether tmux hands on what it does not know: notifications need it (tmux(1),
    ``allow-passthrough``)."""
    program = shutil.which("tmux", path=env.get("PATH", os.defpath))
    if program is None:
        return "not on PATH"
    try:
        run = subprocess.run(
            [program, "show-options", "-gv", "allow-passthrough"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_SECONDS,
            env=dict(env),
        )
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer"
    value = clean(run.stdout.decode("utf-8", "replace").strip())[:20]
    return f"allow-passthrough {value or 'off'}"
