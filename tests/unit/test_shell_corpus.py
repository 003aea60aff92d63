"""What the policy makes of command lines: a corpus, and commands made up from its pieces."""

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.safety.rules import RuleSet
from kimi_cli.safety.shell_policy import Judgement, judge_shell
from tests.unit.shell_corpus import CORPUS


def judge(command: str, *, confined: bool = True, yolo: bool = False) -> Judgement:
    return judge_shell(command, RuleSet(), confined=confined, yolo=yolo, mode="workspace-write")


def test_the_corpus_is_judged_as_written() -> None:
    assert len(CORPUS) > 600 and len({command for _, _, command in CORPUS}) == len(CORPUS)
    wrong: list[tuple[str, ...]] = []
    for kind, verdict, command in CORPUS:
        found = judge(command)
        if (found.kind, found.verdict) != (kind, verdict):
            wrong.append((command, found.kind, found.verdict, found.reason))
        alone = judge(command, confined=False).verdict
        if alone != ("allow" if kind == "read-only" else "ask"):
            wrong.append((command, alone))
        if judge(command, yolo=True).verdict != "allow":
            wrong.append((command, "yolo"))
    assert wrong == []


# Nothing that writes or reaches the network may pass as reading, however it is dressed up.

WRITING = [
    *("rm x", "touch x", "mkdir d", "sort -o x y", "sed -i s/a/b/ x", "git branch new", "tee x"),
    *("find . -delete", "git push", "curl http://127.0.0.1:9", "cp x y", "tar xf x", "./ls"),
    *("git diff --output=x", "uniq x y", "xxd x y", "awk '{print > \"x\"}' x", "echo a > x"),
    *("cat y >> x", "LD_PRELOAD=./x ls", 'python3 -c \'open("x","w")\'', "ls &> x", ": > x"),
    *("rg --pre ./x y", "date -s 1", "git -c core.pager=./x log", "sed 's/a/b/w x' y", "$X x"),
]
WRAPPERS = [
    *("{}", "command {}", "env {}", "env A=1 {}", "nice {}", "timeout 5 {}", "time {}", "nohup {}"),
    *("xargs {}", "xargs -n 1 {}", "sudo {}", "exec {}", "stdbuf -oL {}", "find . -exec {} \\;"),
    *("setsid {}", "eval {}", "busybox {}", "nice -n 3 timeout 5 {}", "coproc {}", "builtin {}"),
]
SHELLS = [
    "bash -c {}",
    "sh -c {}",
    "eval {}",
    "bash -ec {}",
    "env -S {}",
    "bash <<< {}",
    "trap {} 0",
]
PLACES = [
    *("{}", "ls; {}", "ls\n{}", "ls & {}", "ls && {}", "ls || {}", "ls | {}", "({})", "{{ {}; }}"),
    *("! {}", "echo $({})", 'echo "$({})"', "if true; then {}; fi", "while {}; do ls; done"),
    *("cat <({})", "x=$({})", "f() {{ {}; }}; f", "case a in a) {};; esac", "ls # c\n{}"),
    *("cat <<E\n$({})\nE", "cat <<'E'\nls\nE\n{}", "[[ -n $({}) ]]", "a=($({}))", "ls \\\n; {}"),
    *(
        "echo ${{x:-$({})}}",
        "for i in $({}); do ls; done",
        "ls 'a' \"b\" && {} && ls",
        "echo a#b; {}",
    ),
]


def in_quotes(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@st.composite
def dressed_up(draw: st.DrawFn) -> str:
    command = draw(st.sampled_from(WRITING))
    simple = not any(char in command for char in "=>&:$")
    if simple and draw(st.booleans()):
        program, _, rest = command.partition(" ")
        command = f"{draw(requoted(program))} {rest}"
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.integers(0, 2))
        if kind == 0 and simple:
            command = draw(st.sampled_from(WRAPPERS)).format(command)
        elif kind == 1:
            command = draw(st.sampled_from(SHELLS)).format(in_quotes(command))
            simple = False
        else:
            command = draw(st.sampled_from(PLACES)).format(command)
            simple = False
    return command


def requoted(word: str) -> st.SearchStrategy[str]:
    """The word in another quoting that bash reads as the same."""

    def piece(char: str) -> st.SearchStrategy[str]:
        forms = [char, "\\" + char, f"'{char}'", f'"{char}"', f"$'\\x{ord(char):02x}'", char + "''"]
        return st.sampled_from(forms)

    return st.tuples(*(piece(char) for char in word)).map("".join)


@settings(max_examples=300, deadline=None)
@given(dressed_up())
def test_what_writes_is_never_taken_for_reading(command: str) -> None:
    found = judge(command, confined=False)
    assert found.verdict == "ask" and found.kind != "read-only", command


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("rm x'\"\\$`(){}<>|&;\n#=-*~!E"), max_size=14))
def test_any_text_is_judged_without_a_fault(text: str) -> None:
    assert judge(text, confined=False).verdict in ("allow", "ask")


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path} {path.lstat().st_mode}".encode())
        if path.is_file() and not path.is_symlink():
            found.update(path.read_bytes())
    return found.hexdigest()


@pytest.mark.skipif(sys.platform != "linux", reason="the corpus knows the tools of Linux")
def test_what_is_judged_to_read_changes_nothing(tmp_path: Path) -> None:
    """Really run, in a repository with files to spoil."""
    work, home = tmp_path / "work", tmp_path / "home"
    home.mkdir()
    (work / "src").mkdir(parents=True)
    for name in ("x", "y", "a", "b", "a.txt", "b.txt", "in.txt", "x.py", "list", "README.md"):
        (work / name).write_text(f"{name}\nb\na\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C",
        # status may refresh the stat data that git keeps of files: that is no change of theirs.
        "GIT_OPTIONAL_LOCKS": "0",
    }
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "m"]):
        subprocess.run(["git", *arguments], cwd=work, env=environment, check=True)
    commands = [command for kind, _, command in CORPUS if kind == "read-only"]
    before = digest(tmp_path)

    def run(command: str) -> None:
        subprocess.run(
            [shutil.which("bash") or "bash", "-c", command],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, commands))
    assert digest(tmp_path) == before
    run("rm x")
    assert digest(tmp_path) != before
