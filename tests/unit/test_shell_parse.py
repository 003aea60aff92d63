"""How command lines are taken apart; bash itself is asked what its words are."""

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kimi_cli.safety.classify import classify
from kimi_cli.safety.shell_parse import LONGEST, parse


def words(command: str) -> list[str]:
    parsed = parse(command)
    assert not parsed.trouble, parsed.trouble
    return [" ".join(part.words) for part in parsed.parts]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ls -l 'a b'; rm \"x\"y", ["ls -l a b", "rm xy"]),
        ("/usr/bin/git push", ["git push"]),
        ("a | b |& c && d || e & f", ["a", "b", "c", "d", "e", "f"]),
        ("a\nb # c\nd", ["a", "b", "d"]),
        ("echo $(a `b`) <(c)", ["echo $(a `b`) <(c)", "a `b`", "b", "c"]),
        ("sudo -u root env A=1 timeout -k 1 5 rm x", None),
        ("bash -c 'a; b \"c d\"'", ['bash -c a; b "c d"', "a", "b c d"]),
        ("bash <<'E'\na\nb\nE\nc", ["bash", "a", "b", "c"]),
        ("find . -exec a {} \\; -exec b {} +", None),
        ("xargs -0 -n 1 rm -f", ["xargs -0 -n 1 rm -f", "rm -f"]),
        ("ssh -p 22 h 'a b'", ["ssh -p 22 h a b", "a b"]),
        ("git -c alias.x='!a b' x", ["git -c alias.x=!a b x", "a b"]),
        ("git -c alias.x=push x y", ["git -c alias.x=push x y", "git push y"]),
        ("echo > f a b", ["echo a b"]),
        ("rm${IFS}-rf${IFS}x", ["rm -rf x"]),
        ("case x in a) b;; c) d;& *) e;; esac", ["b", "d", "e"]),
        ("f() { a; }; f", ["a", "f"]),
        ("for i in 1 2; do a; done < x", ["", "a", ""]),
        ("cat <<E | a\n$(b)\nE\nc", ["cat", "b", "a", "c"]),
        ('a <<< "$(b)"', ["a", "b"]),
        ("npx -y a b; uv run c; time d", ["npx -y a b", "a b", "uv run c", "c", "time d", "d"]),
    ],
)
def test_parts(command: str, expected: list[str] | None) -> None:
    if command.startswith("sudo"):
        parts = parse(command).parts
        assert [part.name for part in parts] == ["sudo", "env", "timeout", "rm"]
        assert parts[-1].via == ("sudo", "env", "timeout")
        assert (parts[-1].outer, parts[-1].at) == (2, 4)
    elif command.startswith("find"):
        assert words(command)[1:] == ["a {}", "b {}"]
    else:
        assert words(command) == expected


def test_what_a_part_tells() -> None:
    command = "é; A=1 B='x y' cmd \"$v\" *.py -- > 'o ut' 2>>err < in 2>&1 >/dev/null"
    part = parse(command).parts[1]
    assert command[part.start : part.end] == part.raw == command[3:]
    assert part.assignments == ("A=1", "B=x y")
    assert (part.writes, part.reads) == (("o ut", "err"), ("in",))
    assert part.words == ("cmd", "$v", "*.py", "--")
    assert [word.known for word in part.argv] == [True, False, False, True]
    assert [word.loose for word in part.argv] == [False, True, True, False]
    assert parse("./a/b c").parts[0].path == "./a/b"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("python3 -c 'print(1)'", "print(1)"),
        ("node --eval=x", "x"),
        ("python3 <<'E'\nx = 1\nE", "x = 1\n"),
        ("$X", None),
        ('bash -c "$X"', None),
        ("curl x | sh", None),
    ],
)
def test_opaque_parts(command: str, code: str | None) -> None:
    part = parse(command).parts[-1]
    assert part.opaque
    assert part.code == code if code is None else code in (part.code or "")


@pytest.mark.parametrize(
    "command",
    ["echo 'x", "a\0b", "echo \udc80", "x" * (LONGEST + 1), "{a,b}", "$(", "a &&", "echo $'\\cx'"],
)
def test_trouble(command: str) -> None:
    parsed = parse(command)
    assert parsed.trouble and parsed.parts == ()


def test_shells_in_shells_end_somewhere() -> None:
    command = "eval " * 12 + "rm x"
    parts = parse(command).parts
    assert parts and parts[-1].opaque and not classify(parts[-1]).read_only
    assert parse("echo " + "$(" * 3000 + "a" + ")" * 3000).trouble


_CHARS = "ab-=/{},.~#!%*?[]\\'\"$ \t\n;&|<>()é"


@st.composite
def quoted_text(draw: st.DrawFn) -> str:
    """A word that bash reads as one, or by braces as several, without asking anything else."""
    pieces = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 5))
        text = draw(st.text(st.sampled_from(_CHARS), min_size=1, max_size=5))
        if kind == 0:
            pieces.append("'" + text.replace("'", "") + "'")
        elif kind == 1:
            pieces.append('"' + "".join("\\" + c if c in '"$`\\' else c for c in text) + '"')
        elif kind == 2:
            pieces.append("".join("\\" + c for c in text if c != "\n"))
        elif kind == 3:
            escapes = {
                "\n": "\\n",
                "\t": "\\t",
                "'": "\\'",
                "\\": "\\\\",
                "a": "\\x61",
                "b": "\\142",
            }
            escapes["é"] = "\\u00e9"
            pieces.append("$'" + "".join(escapes.get(c, c) for c in text) + "'")
        elif kind == 4:
            pieces.append(
                draw(st.sampled_from(["a", "b-", "é", "x=y", "a\\\nb", "/", "{", "}", ","]))
            )
        else:
            pieces.append(
                draw(st.sampled_from(["{a,b}", "{1..3}", "{a,{b,'c'}}", "{03..1}", "{c..a}"]))
            )
    return "".join(pieces)


@settings(max_examples=80, deadline=None)
@given(st.lists(quoted_text(), min_size=1, max_size=4))
@example(["{a,b}{1..2}", "'a'\\''b'"])
@example(["$'a\\0b'c", "a{b", "}"])
@example(["{a,b}}", "{{a,b}", "{a}", "{,a}", "x{a,}y"])
def test_words_are_those_of_bash(texts: list[str]) -> None:
    command = "printf '%s\\0' " + " ".join(texts)
    parsed = parse(command)
    if parsed.trouble:
        # Refusing is always safe, but plain quoting has to be understood.
        assert any(c in command for c in "{}") or "$'" in command or "\\" in command, command
        return
    ran = subprocess.run(["bash", "-c", command], capture_output=True, cwd="/", timeout=60)
    found = [word.text.encode("utf-8", "surrogateescape") for word in parsed.parts[0].argv[2:]]
    assert all(word.known for word in parsed.parts[0].argv)
    assert found == ran.stdout.split(b"\0")[:-1], command


_FRAGMENTS = [
    *("ls", "touch z", "rm x", " ", ";", "\n", "'", '"', "\\", "\\\n", "$(", "`", ")", "#", " #"),
    *(
        "<<E\n",
        "<<'E'\n",
        "\nE\n",
        "E",
        "&&",
        "|",
        "{",
        "}",
        "$'",
        "echo ",
        "[ ",
        "]",
        "[[ ",
        " ]]",
    ),
    *("x=", "(", "case a in a)", ";;", " esac", "if ", "; then ", "; fi", "f() ", "\t", "\r", "&"),
    *("<<<", "2>&1", "\\\\", "${x:-", "$((", "))", "*", "\x0b", "\u00a0", "for i in ", "; do "),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_FRAGMENTS), min_size=2, max_size=9).map("".join))
@example("echo x\\ #y; rm x")
@example("echo a\\\n#b; rm x")
@example("ls <<E\nE\nrm x\nE")
@example("ls <<E\nE\\\n\nrm x\nE")
@example("echo $'a\\\\' ; rm x ; 'b'")
def test_no_command_hides_from_the_parser(
    tmp_path_factory: pytest.TempPathFactory, command: str
) -> None:
    """What seems to be made of reading parts alone is run; bash finds no other part in it."""
    parsed = parse(command)
    if parsed.trouble or not all(classify(part).read_only for part in parsed.parts):
        return
    folder = tmp_path_factory.mktemp("run")
    (folder / "x").touch()
    # The fragments name no path outside of the folder.
    subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
    assert [path.name for path in folder.iterdir()] == ["x"]
