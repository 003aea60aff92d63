"""What is volatile in the output of a command, and above all what is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.agent.replay.normalise import normalise

HEX = "0123456789abcdef"
WORDS = st.text(alphabet=st.sampled_from("abc xyz.:;=()[]{}-_/\\'\"\n\t"), max_size=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ran 4 tests in 0.012s", "Ran 4 tests in <duration>"),
        ("== 5 passed, 1 skipped in 12.34s ==", "== 5 passed, 1 skipped in <duration> =="),
        ("ok  \tpkg/x\t0.003s", "ok  \tpkg/x\t<duration>"),
        ("--- PASS: TestX (0.00s)", "--- PASS: TestX (<duration>)"),
        ("3 passing (8ms)", "3 passing (<duration>)"),
        ("Time:        1.25 s", "Time:        <duration>"),
        ("real\t0m0.003s\nuser\t0m1.2s", "real\t<duration>\nuser\t<duration>"),
        ("0.00user 0.01system 0:00.02elapsed", "<duration>user <duration>system <duration>elapsed"),
        ("took 3 seconds", "took <duration>"),
        ("built in 2m 13s", "built in <duration>"),
        ("3 minutes ago", "<duration> ago"),
        ("1.5 MB/s", "<rate>"),
        ("2026-11-22", "<date>"),
        ("2026-11-22T07:23:27.123456+00:00 up", "<date> up"),
        ("[2026-11-22 07:23:27,123] INFO", "[<date>] INFO"),
        ("Sun Nov 22 07:23:27 UTC 2026", "<date>"),
        ("Date:   Sun Nov 22 07:23:27 2026 +0000", "Date:   <date>"),
        ("Sun, 22 Nov 2026 07:23:27 GMT", "<date>"),
        ("22/Nov/2026:07:23:27 +0000", "<date>"),
        ("07:23:27 started", "<time> started"),
        ("pid 123, PID: 456", "pid <pid>, PID: <pid>"),
        ("==123== HEAP SUMMARY", "==<pid>== HEAP SUMMARY"),
        ("(node:123) Warning", "(node:<pid>) Warning"),
        ("[1] 12345", "[1] <pid>"),
        ("bash: line 1:   123 Killed   sleep 9", "bash: line 1:   <pid> Killed   sleep 9"),
        ("/tmp/tmpab12/x.py", "<temp>/x.py"),
        ("in '/tmp/tmp.Ab12'", "in '<temp>'"),
        ("/private/var/folders/ab/cd_12/T/x1/y", "<temp>/y"),
        ("/tmp/pytest-of-me/pytest-31/test_x0", "<temp>/test_x0"),
        ("<object at 0x7f12ab34cd56>", "<object at <address>>"),
        ("0xc000012345", "<address>"),
        ("12345678-abcd-4bcd-8bcd-1234567890ab", "<uuid>"),
        ("http://127.0.0.1:45123/x", "http://127.0.0.1:<port>/x"),
        (
            "total 8\n-rw-r--r-- 1 me us 12 Nov 22 07:23 a.py",
            "total <blocks>\n-rw-r--r-- <owner> 12 <date> a.py",
        ),
        ("drwxr-xr-x 2 me us 4096 Nov 22  2025 src", "drwxr-xr-x <owner> <date> src"),
    ],
)
def test_what_is_volatile(text: str, expected: str) -> None:
    assert normalise(text, "make") == expected


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3, v0.10.12-rc.1, 2026.11, python3.11",
        "exit status 3",
        "[exit status 137]",
        "12 passed, 3 failed, 1 warning",
        "1,234 items in 56 files",
        "total 42",
        "  20001 total",
        "1234567 data.csv",
        "sha256:0123456789abcdef0123456789abcdef",
        "0xdeadbeef 0x1F",
        "calc.py:12:10: E501 line too long (101 > 100)",
        "ratio 16:9, 12:30",
        "assert 1620 != 1800",
        "port 8080, localhost:8000",
        "10.0.0.1 and 192.168.100.200",
        "/usr/lib/tmp/x /home/me/tmp/y /var/lib/x",
        "s3 5min.txt h264 a1b2c3d",
        "timed out after 30 s",
        "index 83db48f..bf269f4 100644",
        "May 5 items",
        "process 12 of 30",
    ],
)
def test_what_is_not(text: str) -> None:
    assert normalise(text, "make") == text
    assert normalise(text, None) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[main abc1234] fix", "[main <commit>] fix"),
        ("[main (root-commit) abc1234] x", "[main (root-commit) <commit>] x"),
        ("1234567 fix\n89abcde start", "<commit> fix\n<commit> start"),
        ("* abc1234 (HEAD -> main) x", "* <commit> (HEAD -> main) x"),
        ("commit " + HEX * 2 + HEX[:8], "commit <commit>"),
        (HEX * 2 + HEX[:8], "<commit>"),
        ("HEAD is now at abc1234 x", "HEAD is now at <commit> x"),
        ("Updating abc1234..def5678", "Updating <commit>..<commit>"),
        ("index 83db48f..bf269f4 100644", "index 83db48f..bf269f4 100644"),
    ],
)
def test_commits_are_named_by_their_time(text: str, expected: str) -> None:
    assert normalise(text, "cd x && git log") == expected


def test_results_of_other_tools_are_left_alone_but_for_our_own_words() -> None:
    text = "took 1.5s, pid 12, 2026-11-22, /tmp/tmpabc/x"
    assert normalise(text, None) == text
    ours = "[... 12,345 lines (1,234,567 bytes) left out; the whole output is in {} ...]"
    here = normalise(ours.format("/home/me/.kimi-cli/sessions/p-1/0ab/outputs/t3.txt"), None)
    there = normalise(ours.format("/tmp/kimi-xy/outputs/t12.txt").replace("12,3", "12,4"), None)
    assert here == there
    assert normalise('task t3 (task="t3"), test t3', None) == 'task <task> (task="<task>"), test t3'
    assert normalise("data/outputs/run.txt", None) == "data/outputs/run.txt"


DATES = st.integers(0, 2**31 - 1).map(time.gmtime)
SAME: dict[str, st.SearchStrategy[str]] = {
    "date": DATES.map(lambda t: time.strftime("%Y-%m-%d %H:%M:%S", t)),
    "iso": DATES.map(lambda t: time.strftime("%Y-%m-%dT%H:%M:%SZ", t)),
    "ctime": DATES.map(time.asctime),
    "git date": DATES.map(lambda t: time.strftime("%a %b %e %H:%M:%S %Y +0200", t)),
    "http": DATES.map(lambda t: time.strftime("%a, %d %b %Y %H:%M:%S GMT", t)),
    "ls": DATES.map(lambda t: time.strftime("%b %e %H:%M", t)),
    "clock": DATES.map(lambda t: time.strftime("%H:%M:%S", t)),
    "seconds": st.floats(0, 1e5).map(lambda x: f"{x:.3f}s"),
    "milliseconds": st.integers(0, 10**6).map(lambda x: f"{x} ms"),
    "took": st.integers(0, 10**4).map(lambda x: f"took {x} s"),
    "pid": st.integers(1, 2**22).map(lambda x: f"pid={x}"),
    "temp": st.text("abcxyz0123_", min_size=1).map(lambda x: f"/tmp/{x}/file.txt"),
    "address": st.integers(2**33, 2**48 - 1).map(lambda x: f"at {x:#x}"),
    "uuid": st.uuids().map(str),
}


@pytest.mark.parametrize("kind", SAME)
@given(data=st.data(), before=WORDS, after=WORDS)
def test_two_values_of_a_kind_look_the_same(
    kind: str, data: st.DataObject, before: str, after: str
) -> None:
    one, two = (normalise(f"{before} {data.draw(SAME[kind])} {after}", "make") for _ in range(2))
    assert one == two


DIFFERENT: dict[str, Callable[[int], str]] = {
    "count": lambda n: f"{n} passed",
    "exit status": lambda n: f"[exit status {n}]",
    "version": lambda n: f"version 1.{n}.0",
    "line": lambda n: f"calc.py:{n}: error",
    "size": lambda n: f"-rw-r--r-- 1 me me {n} Nov 22 07:23 a.py",
    "short constant": lambda n: f"{n:#x}",
    "bytes": lambda n: f"{n} bytes",
    "assertion": lambda n: f"assert {n} == 7.5",
}


@pytest.mark.parametrize("kind", DIFFERENT)
@given(one=st.integers(0, 10**6), two=st.integers(0, 10**6), git=st.booleans())
def test_what_counts_is_never_eaten(kind: str, one: int, two: int, git: bool) -> None:
    command = "git status" if git else "make"
    first, second = (normalise(DIFFERENT[kind](n), command) for n in (one, two))
    assert (first == second) == (one == two)


@given(st.text())
def test_it_is_a_fixed_point_and_keeps_the_lines(text: str) -> None:
    once = normalise(text, "git")
    assert normalise(once, "git") == once
    assert once.count("\n") == text.count("\n")


def test_long_lines_take_no_long_time() -> None:
    """Each rule goes over the text once: ten times the text, about ten times the work."""
    parts = ["1" * 50, "a/b" * 20, "12:", "/tmp/", "Nov ", "0x", " " * 50, "d rwx", "<", "task "]

    def work(count: int) -> float:
        text = "".join(parts * count)
        begun = time.process_time()
        normalise(text, "git")
        return time.process_time() - begun

    work(10)
    small = min(work(100) for _ in range(3))
    assert work(1000) < 100 * small + 1


def test_a_real_command_twice() -> None:
    code = (
        "import os, tempfile, time; print(time.ctime(), os.getpid() and f'pid {os.getpid()}', "
        "object(), tempfile.mkdtemp(), f'{time.perf_counter():.6f} s')"
    )
    outputs = {
        normalise(
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True, text=True, check=True,
                env={"PATH": os.environ["PATH"], "TMPDIR": "/tmp"},
            ).stdout,
            "python",
        )
        for _ in range(2)
    }  # fmt: skip
    assert len(outputs) == 1
