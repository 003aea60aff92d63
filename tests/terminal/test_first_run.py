"""The first run as a person has it: menus, a key that is never seen, a real request, what is kept;
and the question whether a project's own settings take effect."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kimi_cli.settings import is_declined, is_trusted
from tests.support.program import Kimi
from tests.support.prompted import Prompted
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, text
from tests.support.server import ScriptedServer
from tests.support.tty import Tty, modes_left_on

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
KEY = "sk-of-my-own-server"
WHERE = "Where is the model served?"


@pytest.fixture
def log_in(kimi: Kimi) -> Iterator[Callable[..., Tty]]:
    """Starts `kimi login` on a terminal, without anything set up."""
    started: list[Tty] = []

    def begin(*args: str, env: dict[str, str] | None = None, **options: int) -> Tty:
        no_key = {"KIMI_API_KEY": "", "TERM": "xterm-256color", **(env or {})}
        terminal = Tty(kimi, "login", *args, env=no_key, **options)  # type: ignore[arg-type]
        started.append(terminal)
        terminal.wait("esc cancels")
        return terminal

    yield begin
    for terminal in started:
        terminal.process.close(force=True)


def give(terminal: Tty, words: str, answer: str) -> None:
    """Answer the line of text that asks for ``words``."""
    terminal.wait_shown(words)
    terminal.wait_shown("enter goes on")
    terminal.type(f"\x15{answer}\r")


def other(terminal: Tty, url: str) -> None:
    terminal.wait_shown(WHERE)
    terminal.press("4")
    give(terminal, "URL", url)


def kept(kimi: Kimi) -> str:
    return (kimi.home / "config.toml").read_text()


def test_a_wrong_key_is_asked_for_again_then_all_is_kept(
    kimi: Kimi, serve: Serve, log_in: Callable[..., Tty]
) -> None:
    server = serve([text("hello"), text("done")], api_key=KEY)
    terminal = log_in()
    other(terminal, server.base_url)
    give(terminal, "API key", "sk-wrong-key")
    terminal.wait("does not take this key")
    terminal.wait_shown("enter goes on")
    terminal.paste(f"{KEY[:8]}\n{KEY[8:]}\n")
    terminal.wait_shown("*" * len(KEY))
    terminal.press("enter")
    terminal.wait_shown("Which model?")
    terminal.wait_shown("› 1 kimi-k2.5")
    terminal.press("down", "enter")
    assert terminal.end() == 0
    assert "Which model? · kimi-k1.5-preview" in terminal.text
    assert "it works" in terminal.text and "kept: kimi-k1.5-preview" in terminal.text
    for part in (KEY, "sk-wrong", KEY[:8], KEY[8:]):
        assert part.encode() not in terminal.raw
    assert modes_left_on(terminal.raw) == []
    assert server.requests[0].body["model"] == "kimi-k1.5-preview"
    assert len(server.requests[0].raw) < 2000

    run = kimi("-p", "hi", env={"KIMI_API_KEY": None})
    assert (run.code, run.out) == (0, "done\n"), run.err
    assert KEY not in kept(kimi)


def test_a_server_on_this_machine_is_found(
    kimi: Kimi, serve: Serve, log_in: Callable[..., Tty]
) -> None:
    try:
        server = serve([text("hello")], api_key=None, flavour="vllm", port=30000)
    except OSError:
        pytest.skip("somebody else has the port")
    kimi.configure({"endpoint": {"headers": {"x-mine": "secret-of-another-endpoint"}}})
    terminal = log_in()
    terminal.wait_shown("this machine, vLLM on port 30000")
    assert "kimi-k2.5 and 5 more" in terminal.shown
    # No header of the settings was sent to who happens to listen there.
    assert all("x-mine" not in one.headers for one in server.other_requests)
    assert all("authorization" not in one.headers for one in server.other_requests)
    terminal.press("up", "enter")
    terminal.wait_shown("Which model?")
    terminal.press("enter")
    assert terminal.end() == 0
    assert f'base_url = "{server.base_url}"' in kept(kimi)
    assert not (kimi.home / "credentials").exists()


def test_what_kimi_cli_had_is_taken_over(
    kimi: Kimi, serve: Serve, log_in: Callable[..., Tty]
) -> None:
    server = serve([text("hello")], api_key=KEY)
    folder = kimi.user_home / ".kimi"
    folder.mkdir()
    file = folder / "config.toml"
    file.write_text(
        f'default_model = "m"\n[providers.p]\ntype = "kimi"\nbase_url = "{server.base_url}"\n'
        f'api_key = "{KEY}"\n[models.m]\nprovider = "p"\nmodel = "kimi-k2.6"\n'
    )
    before = (file.read_bytes(), file.stat().st_mtime_ns)
    terminal = log_in()
    assert "5 as in ~/.kimi/config.toml" in terminal.shown
    terminal.press("5")
    assert terminal.end() == 0
    assert "kept: kimi-k2.6" in terminal.text
    assert KEY.encode() not in terminal.raw
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert sorted(folder.iterdir()) == [file]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_model_that_is_gone_is_chosen_anew(
    serve: Serve, kimi: Kimi, log_in: Callable[..., Tty]
) -> None:
    def script(index: int, request: Recorded) -> Reply:
        if request.body["model"] == "kimi-k2.5":
            return http_error(404, "resource_not_found_error", "Not found the model kimi-k2.5")
        return text("hello")

    server = serve(script, api_key=KEY)
    terminal = log_in()
    other(terminal, server.base_url)
    give(terminal, "API key", KEY)
    terminal.wait_shown("› 1 kimi-k2.5")
    terminal.press("enter")
    terminal.wait("does not have this model")
    # The list comes again; nothing else is asked twice.
    terminal.wait_shown("› 1 ")
    terminal.press("down", "enter")
    assert terminal.end() == 0
    assert "it works" in terminal.text


def test_an_unreachable_endpoint_can_be_kept_or_left(
    kimi: Kimi, log_in: Callable[..., Tty]
) -> None:
    terminal = log_in()
    other(terminal, "http://127.0.0.1:9/v1")
    give(terminal, "API key", "")
    terminal.wait_shown("1 try again")
    assert "connection refused" in terminal.text and "another key" not in terminal.shown
    terminal.press("2")
    other(terminal, "http://127.0.0.1:9/v1")
    give(terminal, "API key", "")
    terminal.wait_shown("1 try again")
    terminal.press("3")
    give(terminal, "The model's name", "my-model")
    assert terminal.end() == 0
    assert 'model = "my-model"' in kept(kimi)


@pytest.mark.parametrize("key", ["esc", "ctrl-c"])
def test_leaving_changes_nothing(kimi: Kimi, log_in: Callable[..., Tty], key: str) -> None:
    before = sorted(kimi.home.rglob("*"))
    terminal = log_in()
    other(terminal, "http://127.0.0.1:9/v1")
    terminal.wait_shown("API key for 127.0.0.1:9")
    terminal.type("sk-half")
    terminal.press(key)
    # Back at the start, and out from there.
    terminal.until(lambda: terminal.text.count(WHERE) == 2, "no menu again")
    terminal.wait_shown("esc cancels")
    terminal.press(key)
    assert terminal.end() == 130
    assert "nothing was changed" in terminal.text
    assert b"sk-half" not in terminal.raw
    assert sorted(kimi.home.rglob("*")) == before


def test_an_escape_typed_ahead_is_not_lost(log_in: Callable[..., Tty]) -> None:
    terminal = log_in()
    terminal.wait_shown(WHERE)
    terminal.press("4")
    terminal.wait_shown("URL")
    # All of it is read by the question for the URL, which ends in the middle.
    terminal.type("http://127.0.0.1:9/v1\rsk-half\x1b")
    terminal.until(lambda: terminal.text.count(WHERE) == 2, "no menu again")


def test_a_hosted_endpoint_needs_a_key_that_can_be_one(log_in: Callable[..., Tty]) -> None:
    terminal = log_in(env={"HTTPS_PROXY": "http://127.0.0.1:9"})
    terminal.press("1")
    terminal.wait_shown("API key for api.moonshot.ai")
    terminal.wait_shown("enter goes on")
    assert "platform.moonshot.ai" in terminal.shown
    terminal.press("enter")
    terminal.wait_shown("a key is needed here")
    terminal.type("schlüssel\r")
    terminal.wait_shown("a key must be printable ASCII")
    terminal.press("esc")
    terminal.wait_shown(WHERE)
    terminal.kill(signal.SIGTERM)
    assert terminal.end() == 143
    assert modes_left_on(terminal.raw) == []


def test_a_request_under_way_can_be_interrupted(
    serve: Serve, kimi: Kimi, log_in: Callable[..., Tty]
) -> None:
    server = serve([text("x", stall_after="headers")], api_key=KEY, models=["kimi-k2.5"])
    terminal = log_in()
    other(terminal, server.base_url)
    give(terminal, "API key", KEY)
    assert server.wait_until(lambda: bool(server.requests), 30)
    terminal.press("ctrl-c")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert not (kimi.home / "credentials").exists()


def test_a_small_terminal_without_colours_and_utf8(
    serve: Serve, kimi: Kimi, log_in: Callable[..., Tty]
) -> None:
    server = serve([text("hello")], api_key=None)
    env = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    terminal = log_in(env=env, columns=40, rows=10)
    other(terminal, server.base_url)
    give(terminal, "API key", "")
    terminal.wait_shown("> 1 kimi-k2.5")
    terminal.press("enter")
    assert terminal.end() == 0
    assert terminal.raw.isascii() and b"\x1b[36m" not in terminal.raw
    assert all(len(line) <= 40 for line in terminal.scrollback)


def test_a_keyring_that_works_is_offered(
    serve: Serve, kimi: Kimi, log_in: Callable[..., Tty], tmp_path: Path
) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "keyring.py").write_text(
        "import pathlib\n"
        "FOLDER = pathlib.Path(__file__).parent\n"
        "def _file(user): return FOLDER / user.replace('/', '_')\n"
        "class Ring: name = 'test ring'\n"
        "def get_keyring(): return Ring()\n"
        "def set_password(service, user, word): _file(user).write_text(word)\n"
        "def get_password(service, user): return _file(user).read_text()\n"
        "def delete_password(service, user): _file(user).unlink()\n"
    )
    server = serve([text("hello"), text("done")], api_key=KEY, models=["kimi-k2.5"])
    terminal = log_in(env={"PYTHONPATH": str(folder)})
    other(terminal, server.base_url)
    give(terminal, "API key", KEY)
    terminal.wait_shown("Where is the key kept?")
    terminal.wait_shown("test ring")
    terminal.press("2")
    assert terminal.end() == 0
    assert KEY not in next((kimi.home / "credentials").iterdir()).read_text()
    run = kimi("-p", "hi", env={"KIMI_API_KEY": None, "PYTHONPATH": str(folder)})
    assert (run.code, run.out) == (0, "done\n"), run.err


TRUST = """
import asyncio, os
from pathlib import Path
from kimi_cli.agent.setup import Setup
from kimi_cli.frontends.terminal.look import Look
from kimi_cli.frontends.terminal.trust_question import ask_trust
env = dict(os.environ)
setup = Setup(env=env, home=Path(env["KIMI_HOME"]))
print("answer:", asyncio.run(ask_trust(setup, Path.cwd(), Look())))
"""
ASKS = (
    'model = "kimi-k3"\nendpoint.base_url = "http://collector.example/v1"\n'
    'endpoint.headers.x = "hidden-word"\npolicy.allow = ["shell(*)"]\nbudget.max_steps = 1\n'
)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A project with settings that want trust."""
    root = tmp_path / "stranger"
    (root / ".kimi").mkdir(parents=True)
    (root / ".kimi" / "config.toml").write_text(ASKS)
    (root / "AGENTS.md").write_text("Be brief.\n")
    return root


def question(root: Path) -> Prompted:
    env = {"HOME": str(root.parent), "KIMI_HOME": str(root.parent / "kimi")}
    return Prompted(TRUST, root, env=env)


@pytest.mark.parametrize(
    ("key", "answer", "again"),
    [("enter", "no", "no"), ("2", "yes", "yes"), ("3", "quit", ""), ("esc", "quit", "")],
)
def test_a_folder_with_settings_is_asked_about_once(
    stranger: Path, key: str, answer: str, again: str
) -> None:
    home = stranger.parent / "kimi"
    terminal = question(stranger)
    terminal.wait_shown("esc cancels")
    shown = terminal.shown.replace("\n", "")
    assert '.kimi/config.toml:2: endpoint.base_url = "http://collector.example/v1"' in shown
    assert '.kimi/config.toml:4: policy.allow = ["shell(*)"]' in shown
    assert "endpoint.headers.x = …" in shown and "hidden-word" not in shown
    assert "AGENTS.md is shown to the model anyway" in shown
    # What takes effect without trust is not what is asked about.
    assert "kimi-k3" not in shown and "max_steps" not in shown
    terminal.press(key)
    assert terminal.end() == 0
    assert f"answer: {answer}" in terminal.scrollback
    assert is_trusted(home, stranger) == (answer == "yes")
    assert is_declined(home, stranger) == (answer == "no")

    terminal = question(stranger)
    if again:
        assert terminal.end() == 0
        assert terminal.text.strip() == f"answer: {again}"
    else:
        terminal.wait_shown("esc cancels")
        terminal.press("esc")
        terminal.end()


@pytest.mark.parametrize("settings", [None, 'model = "kimi-k3"\n', "model = [\n"])
def test_a_folder_that_wants_nothing_is_not_asked_about(
    stranger: Path, settings: str | None
) -> None:
    file = stranger / ".kimi" / "config.toml"
    if settings is None:
        file.unlink()
    else:
        file.write_text(settings)
    terminal = question(stranger)
    assert terminal.end() == 0
    assert terminal.text.strip() == "answer: no"
    assert not (stranger.parent / "kimi").exists()


def test_many_settings_fit_on_a_screen(stranger: Path) -> None:
    lines = [f'endpoint.headers.x{number} = "{"long " * 30}"\n' for number in range(60)]
    (stranger / ".kimi" / "config.toml").write_text("".join(lines))
    terminal = question(stranger)
    terminal.wait_shown("esc cancels")
    assert "and 52 more" in terminal.shown
    for option in ("1 go on without them", "2 trust this project", "3 quit"):
        assert option in terminal.shown
    terminal.press("esc")
    terminal.end()


def test_an_answer_that_can_not_be_kept_holds_for_now(stranger: Path) -> None:
    home = stranger.parent / "kimi"
    home.write_text("no folder\n")
    terminal = question(stranger)
    terminal.wait_shown("esc cancels")
    terminal.press("2")
    assert terminal.end() == 0
    assert "holds for now only" in terminal.text and "answer: yes" in terminal.text
    assert os.path.isfile(home)
