"""Rules: their syntax, what they match, and what the policy makes of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.protocol.sandbox import NOTHING, Grant
from kimi_cli.safety.explain import explain
from kimi_cli.safety.path_rules import judge_path
from kimi_cli.safety.rules import Rule, RuleSet
from kimi_cli.safety.shell_policy import Judgement, Place, judge_shell


def rules(allow: str = "", ask: str = "", deny: str = "") -> RuleSet:
    """Each a list with ``;`` between."""

    def pairs(text: str) -> list[tuple[str, str]]:
        return [(each.strip(), "a test") for each in text.split(";") if each.strip()]

    return RuleSet.of(allow=pairs(allow), ask=pairs(ask), deny=pairs(deny))


def judge(
    command: str,
    found: RuleSet,
    *,
    confined: bool = False,
    yolo: bool = False,
    place: Place | None = None,
) -> Judgement:
    return judge_shell(
        command, found, confined=confined, yolo=yolo, mode="workspace-write", place=place
    )


# Syntax


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("shell", Rule("shell")),
        ("edit", Rule("write")),
        ("shell(git push)", Rule("shell", ("git", "push"))),
        ("shell( npm  run * )", Rule("shell", ("npm", "run", "*"))),
        ("shell(a 'b c' \"*\" \\*)", Rule("shell", ("a", "b c", "\\*", "\\*"))),
        ("shell(pip install) +network", Rule("shell", ("pip", "install"), None, Grant(True))),
        ("shell(a)+unsandboxed", Rule("shell", ("a",), None, Grant(unconfined=True))),
        (
            'shell(./t) +write:/opt/x +read:"/a b"',
            Rule("shell", ("./t",), None, Grant(False, ("/opt/x",), ("/a b",))),
        ),
        ("read(~/notes/**)", Rule("read", None, "~/notes/**")),
        ("write(a b/\\(c\\).txt)", Rule("write", None, "a b/(c).txt")),
    ],
)
def test_reading_a_rule(text: str, rule: Rule) -> None:
    assert Rule.parse(text, "here") == rule
    assert Rule.parse(text, "here").source == "here"
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with a tool"),
        ("git push", "no tool"),
        ("shell()", "empty"),
        ("read( )", "empty"),
        ("shell(git push", "not closed"),
        ("shell(git 'push)", "quote is not closed"),
        ("shell(git) push", "not understood"),
        ("shell(git) +netwrk", "+netwrk is not known"),
        ("shell(git) +network:x", "takes no value"),
        ("shell(git) +write", "needs a path"),
        ("shell(git) +write:x", "needs a path"),
        ("read(x) +network", "only a rule for shell"),
        ("shell(a (b))", "needs quotes"),
    ],
)
def test_a_wrong_rule_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        RuleSet.of(allow=[(text, "config.toml:3")])
    assert says in str(caught.value) and "config.toml:3" in str(caught.value)


def test_only_allow_rules_give() -> None:
    with pytest.raises(ValueError, match="only an allow rule"):
        rules(deny="shell(a) +network")


_TEXT = st.text(st.sampled_from("ab*-_/.'\"\\ ()\n$+:~é;"), min_size=1, max_size=8)
_PATHS = st.lists(_TEXT.map("/".__add__), max_size=2, unique=True).map(tuple)


def escaped(text: str) -> str:
    """A backslash in a pattern takes the meaning of a star or of itself."""
    return text.replace("\\", "\\\\")


@given(
    st.builds(
        Rule,
        st.just("shell"),
        st.none() | st.lists(_TEXT.map(escaped) | st.just(""), min_size=1, max_size=4).map(tuple),
        st.none(),
        st.builds(Grant, st.booleans(), _PATHS, _PATHS, st.booleans()),
    )
    | st.builds(
        Rule,
        st.sampled_from(["read", "write"]),
        st.none(),
        st.none() | _TEXT.map(lambda text: "/" + escaped(text).strip() + "x"),
    )
)
def test_a_rule_is_read_as_it_is_written(rule: Rule) -> None:
    assert Rule.parse(str(rule)) == rule


# What a rule matches


@pytest.mark.parametrize(
    ("rule", "command", "verdict"),
    [
        ("shell(git push)", "git push origin main", "allow"),
        ("shell(git push)", "/usr/bin/git push", "allow"),
        ("shell(git push)", "./git push", "ask"),
        ("shell(git push)", "/tmp/git push", "ask"),
        ("shell(git push)", "git -C x push", "ask"),
        ("shell(git push)", "git $X", "ask"),
        ("shell(git push)", "GIT_SSH_COMMAND=x git push", "ask"),
        ("shell(git push)", "LC_ALL=C git push", "allow"),
        ("shell(git push)", "git push && rm x", "ask"),
        ("shell(git push)", "git push && ls | head", "allow"),
        ("shell(git push)", "timeout 9 git push", "allow"),
        ("shell(git push)", "bash -c 'git push'", "allow"),
        ("shell(git push)", "sudo git push", "ask"),
        ("shell(git push)", "git push > /etc/passwd", "ask"),
        ("shell(git push)", "git push > log", "allow"),
        ("shell(git push)", "git push --force", "ask"),
        ("shell(git push --force)", "git push --force", "allow"),
        ("shell(git push **)", "git push -f", "allow"),
        ("shell(git push)", "git\\ push", "ask"),
        ("shell(npm run *)", "npm run build", "allow"),
        ("shell(npm run *)", "npm run", "ask"),
        ("shell(npm run *)", "npm run 'a b' c", "allow"),
        ("shell(npm run test-*)", "npm run test-unit", "allow"),
        ("shell(npm run test-*)", "npm run build", "ask"),
        ("shell(./run.sh)", "./run.sh x", "allow"),
        ("shell(./run.sh)", "run.sh x", "ask"),
        ("shell(./run.sh)", "x/./run.sh", "ask"),
        ("shell(run.sh)", "./run.sh", "ask"),
        ("shell(uv run pytest)", "uv run pytest -q", "allow"),
        ("shell(uv run)", "uv run pytest -q", "ask"),
        ("shell(sudo apt install)", "sudo apt install x", "allow"),
        ("shell(sudo)", "sudo apt install x", "ask"),
        ("shell(a ** z)", "a b c z", "allow"),
        ("shell(a ** z)", "a b c", "ask"),
        ("shell(make)", "make $(rm x)", "ask"),
        ("shell(make)", "make $TARGET", "allow"),
        ("shell", "$X; python -c y > /etc/passwd", "allow"),
        ("shell(python)", "python -c x", "allow"),
    ],
)
def test_an_allow_rule_is_read_strictly(rule: str, command: str, verdict: str) -> None:
    assert judge(command, rules(allow=rule)).verdict == verdict


@pytest.mark.parametrize(
    ("rule", "command", "verdict"),
    [
        ("shell(git push)", "git push", "deny"),
        ("shell(git push)", "git -C x --no-pager push y", "deny"),
        ("shell(git push)", "/opt/x/git push", "deny"),
        ("shell(git push)", "./git push", "deny"),
        ("shell(git push)", "GIT push", "deny"),
        ("shell(git push)", 'g"i"t pu\\sh', "deny"),
        ("shell(git push)", "ls; (git push) | cat", "deny"),
        ("shell(git push)", "echo $(git push)", "deny"),
        ("shell(git push)", "sudo -u x env A=1 git push", "deny"),
        ("shell(git push)", "bash -c 'eval \"git push\"'", "deny"),
        ("shell(git push)", "git -c alias.x=push x", "deny"),
        ("shell(git push)", "xargs git push", "deny"),
        ("shell(git push)", "ssh host git push", "deny"),
        ("shell(git push)", "find . -exec git push \\;", "deny"),
        ("shell(git push)", "A=1 git push > x", "deny"),
        ("shell(git push)", "git commit -m push", "allow"),
        ("shell(git push)", "git --no-pager commit -m push", "allow"),
        ("shell(git push)", "echo git push", "allow"),
        ("shell(git push)", "git $X", "ask"),
        ("shell(git push)", "xargs git", "ask"),
        ("shell(git push)", "$X", "ask"),
        ("shell(git push)", "curl x | sh", "ask"),
        ("shell(git push)", "python -c 'print(1)'", "allow"),
        ("shell(git push)", "python -c 'run([\"git\"])'", "ask"),
        ("shell(git push)", 'python -c \'run("g" + "it")\'', "ask"),
        ("shell(git push)", "make", "allow"),
        ("shell(git push --force)", "git push origin --force", "deny"),
        ("shell(git push --force)", "git push --forc", "deny"),
        ("shell(git push --force)", "git push origin", "allow"),
        ("shell(git push -f)", "git push -uf", "deny"),
        ("shell(rm -rf)", "rm -fr x", "deny"),
        ("shell(rm -rf)", "rm -r x", "allow"),
        ("shell(rm -r)", "rm x -vr", "deny"),
        ("shell(npm publish)", "npm --prefix x publish", "deny"),
        ("shell(npm publish)", "npm run publish", "allow"),
        ("shell(docker run ** --privileged)", "docker run x --privileged", "deny"),
        ("shell(curl)", "c''url x", "deny"),
        ("shell(curl)", "cu\\\nrl x", "deny"),
        ("shell(/usr/bin/x)", "x", "allow"),
        ("shell(*)", "ls", "deny"),
        ("shell", "ls", "deny"),
        ("write(secret/**)", "ls > secret/x", "deny"),
        ("read(**/.env)", "cat .env", "deny"),
        ("read(**/.env)", "curl --data=.env x", "deny"),
        ("read(**/.env)", "cat .envrc", "allow"),
        ("read(**/.env)", "grep x < sub/.env", "deny"),
    ],
)
def test_a_deny_rule_is_read_generously(
    rule: str, command: str, verdict: str, tmp_path: Path
) -> None:
    place = Place((tmp_path,), tmp_path)
    found = judge(command, rules(deny=rule), confined=True, place=place)
    assert found.verdict == verdict, found.reason
    if verdict == "deny":
        assert "a test" in found.reason
        also_allowed = rules(allow="shell", deny=rule)
        for yolo in (False, True):
            assert judge(command, also_allowed, yolo=yolo, place=place).verdict == "deny"
    if verdict == "ask":
        assert judge(command, rules(deny=rule), yolo=True, place=place).verdict == "deny"


def test_deny_wins_over_ask_over_allow() -> None:
    found = rules(allow="shell(make)", ask="shell(make deploy)", deny="shell(make clean)")
    verdicts = {"make": "allow", "make deploy": "ask", "make clean": "deny"}
    for command, verdict in verdicts.items():
        assert judge(command, found).verdict == verdict
        assert judge(command, found, confined=True).verdict == verdict
    assert judge("make deploy", found, yolo=True).verdict == "allow"
    assert judge("make deploy; make clean", found).verdict == "deny"


def test_what_cannot_be_parsed() -> None:
    command = "echo 'x"
    assert judge(command, rules(), confined=True).verdict == "ask"
    assert judge(command, rules(), yolo=True).verdict == "allow"
    denied = judge(command, rules(deny="shell(git push)"), yolo=True)
    assert denied.verdict == "deny" and "git push" in denied.reason
    assert judge(command, rules(allow="shell")).verdict == "allow"
    assert judge(command, rules(allow="shell", ask="shell(x)")).verdict == "ask"


# What a verdict brings with it


@pytest.mark.parametrize(
    ("command", "grant"),
    [
        ("pip install x", Grant(True)),
        ("cd y && pip install x 2>&1 | tail -3", Grant(True)),
        ("timeout 60 pip install x", Grant(True)),
        ("pip install x; make", NOTHING),
        ("pip install x && curl y", NOTHING),
        ("pip install x > log", Grant(True)),
        ("pip install $(evil)", NOTHING),
        ("./tool", Grant(write=("/opt/x",))),
        ("./tool; pip install x", NOTHING),
        ("both", Grant(True, ("/opt/x",))),
        ("both; pip install x", Grant(True)),
        ("deploy", Grant(unconfined=True)),
        ("cd x; deploy | tail -5", Grant(unconfined=True)),
        ("deploy; cat ~/.ssh/id_rsa", NOTHING),
        ("deploy $(cat x)", NOTHING),
        ("ls", NOTHING),
    ],
)
def test_a_grant_needs_every_part(command: str, grant: Grant) -> None:
    allow = (
        "shell(pip install) +network; shell(./tool) +write:/opt/x;"
        "shell(both) +network +write:/opt/x; shell(deploy) +unsandboxed"
    )
    found = judge(command, rules(allow=allow), confined=True)
    assert found.verdict == "allow"
    assert found.grant == grant
    assert grant or command == "ls" or "is not given" in found.withheld


def test_read_only_mode_and_home_in_grants() -> None:
    found = rules(allow="shell(a) +write:~/x +network")
    place = Place(home=Path("/home/u"))
    arguments = {"confined": True, "yolo": False, "place": place}
    granted = judge_shell("a", found, mode="workspace-write", **arguments).grant  # type: ignore[arg-type]
    assert granted == Grant(True, ("/home/u/x",))
    assert judge_shell("a", found, mode="read-only", **arguments).grant == Grant(True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "suggested"),
    [
        ("git push origin main", "shell(git push)"),
        ("ls && npm run build --x", "shell(npm run build)"),
        ("npm test", "shell(npm test)"),
        ("make", "shell(make)"),
        ("make -j4 x", None),
        ("python -m pytest -q", "shell(python -m pytest)"),
        ("python x.py --y", "shell(python x.py)"),
        ("./run.sh a", "shell(./run.sh)"),
        ("touch a b c", "shell(touch)"),
        ("timeout 5 git push", "shell(git push)"),
        ("git push && git push --tags", "shell(git push)"),
        ("git push && npm publish", None),
        ("git -C x push", None),
        ("git push --force", None),
        ("rm x", None),
        ("curl x", None),
        ("python -c x", None),
        ("$X", None),
        ("make > x", None),
        ("PATH=. make", None),
        ("ls", None),
    ],
)
def test_what_always_would_write(command: str, suggested: str | None) -> None:
    found = judge(command, rules())
    assert found.suggest == suggested
    if suggested:
        assert judge(command, rules(allow=suggested)).verdict == "allow"


def test_the_parts_that_need_a_decision_are_marked() -> None:
    command = "ls && touch x; cat y && make z"
    found = judge(command, rules())
    assert [command[start:end] for start, end in found.marks] == ["touch x", "make z"]
    assert found.suggestions == ("shell(touch)", "shell(make z)") and found.suggest is None
    assert [one.part.name for one in judge("cd x && make z | tail", rules()).active] == ["make"]
    assert len(judge("touch x; make z", rules()).active) == 2


def test_names_of_secrets_ask() -> None:
    def secret(name: str) -> bool:
        return name == ".env"

    found = judge_shell("cat a/.env", rules(), confined=True, yolo=False, secret=secret)
    assert found.verdict == "ask" and ".env" in found.reason
    allowed = rules(allow="shell(cat)")
    assert (
        judge_shell("cat .env", allowed, confined=True, yolo=False, secret=secret).verdict
        == "allow"
    )
    assert (
        judge_shell("cat a.env", rules(), confined=True, yolo=False, secret=secret).verdict
        == "allow"
    )


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("cp .env /tmp/x", "ask"),
        ("cp -t /tmp .env", "ask"),
        ("mv .env .env.bak", "ask"),
        ("curl -F f=@x --cert=.env example.com", "ask"),
        ("grep -r x . .env", "ask"),
        ("cat < .env", "ask"),
        # These show nothing of it.
        ("cp .env.example .env", "allow"),
        ("test -f .env || cp .env.example .env", "allow"),
        ("grep -rn x --exclude=.env .", "allow"),
        ("grep -rn x --exclude .env .", "allow"),
        ("openssl req -x509 -newkey rsa:2048 -keyout .env -out cert", "allow"),
        ("openssl rsa -in .env -text", "ask"),
        ("source .env && npm test", "allow"),
        # It is there, and git ignores it as a rule: undo would not bring it back.
        ("cp .env.example kept/.env", "ask"),
        ("mv new kept/.env", "ask"),
    ],
)
def test_only_what_shows_or_replaces_a_secret_asks(
    tmp_path: Path, command: str, verdict: str
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".env").write_text("KEY=1")
    place = Place((tmp_path,), tmp_path, tmp_path / "home")
    found = judge_shell(
        command,
        rules(),
        confined=True,
        yolo=False,
        place=place,
        secret=lambda name: name == ".env",
    )
    assert found.verdict == verdict, found


def test_removing_a_whole_folder_asks(tmp_path: Path) -> None:
    place = Place((tmp_path / "w",), tmp_path / "w", tmp_path / "home")
    for path, verdict in (
        (tmp_path / "w", "ask"),
        (tmp_path, "ask"),
        (tmp_path / "w/build", "allow"),
        (tmp_path / "home", "ask"),
        (f"{tmp_path}/w/./", "ask"),
        ("build", "allow"),
        ("../w", "ask"),
    ):
        found = judge(f"rm -rf {path}", rules(), confined=True, place=place)
        assert found.verdict == verdict, path
    assert judge("rm -rf .", rules(allow="shell(rm)"), confined=True, place=place).verdict == "ask"
    lifted = rules(allow="shell(rm -rf .)")
    assert judge("rm -rf .", lifted, confined=True, place=place).verdict == "allow"


# Files


@pytest.mark.parametrize(
    ("rule", "path", "allowed", "denied"),
    [
        ("write(src/**)", "/p/src/a/b", True, True),
        ("write(src)", "/p/src/a/b", True, True),
        ("write(./src)", "/p/src", True, True),
        ("write(src)", "/p/srcs", False, False),
        ("write(*.lock)", "/p/a.lock", True, True),
        ("write(*.lock)", "/p/a/b.lock", False, False),
        ("write(**/*.lock)", "/p/a/b.lock", True, True),
        ("write(**/*.lock)", "/p/b.lock", True, True),
        ("write(**/*.lock)", "/etc/b.lock", False, True),
        ("write(**/.env)", "/p/.ENV", False, True),
        ("write(~/notes/**)", "/h/notes/a", True, True),
        ("write(~)", "/h/notes/a", True, True),
        ("write(/opt/x/*.txt)", "/opt/x/a.txt", True, True),
        ("write(/opt/x/*.txt)", "/opt/x/y/a.txt", False, False),
        ("write(a/**/z)", "/p/a/z", True, True),
        ("write(a/**/z)", "/p/a/b/c/z", True, True),
        ("write(\\*)", "/p/x", False, False),
        ("write", "/anything", True, True),
        ("edit(src)", "/p/src/x", True, True),
        ("read(src)", "/p/src/x", False, False),
    ],
)
def test_paths(rule: str, path: str, allowed: bool, denied: bool) -> None:
    places = {"project": Path("/p"), "home": Path("/h")}
    for found, expected in (
        (
            judge_path("write", Path(path), rules(allow=rule), **places),
            "allow" if allowed else None,
        ),
        (judge_path("write", Path(path), rules(deny=rule), **places), "deny" if denied else None),
        (judge_path("write", Path(path), rules(ask=rule), **places), "ask" if denied else None),
    ):
        assert found.verdict == expected


def test_paths_through_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real = (tmp_path / "real/x").resolve()
    by_link = rules(deny=f"write({tmp_path}/link/**)")
    assert judge_path("write", real, by_link).verdict == "deny"
    by_name = rules(deny=f"write({tmp_path}/alias)")
    assert judge_path("write", real, by_name, named=tmp_path / "alias").verdict == "deny"


# Explaining


def test_an_explanation_names_the_rule_and_where_it_is() -> None:
    found = RuleSet.of(deny=[("shell(git push)", "user config.toml:12")])
    said = explain("ls && bash -c 'git push'", found, confined=True)
    assert str(said).startswith("deny: `git push` (run by bash)")
    assert "shell(git push) (user config.toml:12)" in str(said)
    data = said.as_json()
    assert data["verdict"] == "deny" and data["class"] == "network"
    assert data["rule"] == {"text": "shell(git push)", "source": "user config.toml:12"}
    assert [part["words"] for part in data["parts"]][-1] == ["git", "push"]
    assert "would allow it: shell(make)" in str(explain("make", rules(), confined=False))
    assert "can't be judged" in str(explain("a '", rules(), confined=True))


def test_the_parser_is_loaded_only_for_a_judgement() -> None:
    code = (
        "import sys; import kimi_cli.safety.shell_policy as p\n"
        "from kimi_cli.safety.rules import RuleSet\n"
        "assert not any('tree_sitter' in m for m in sys.modules)\n"
        "p.judge_shell('ls', RuleSet(), confined=True, yolo=False)\n"
        "assert 'tree_sitter' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
