"""Local servers as places of a session: which settings lead there, which one is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent.local import Ambiguous, local_flags, pick, place_of
from kimi_cli.agent.model_config import model_config
from kimi_cli.cli.optional_value import OPTIONAL, filled
from kimi_cli.model.build import build_provider
from kimi_cli.model.catalogue import lookup
from kimi_cli.serve import state
from kimi_cli.serve.running import Checked, Trouble
from kimi_cli.settings import load_settings
from tests.support.local_servers import KEY, LocalServer

Make = Callable[..., LocalServer]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda *args, **more: stack.enter_context(LocalServer(tmp_path, *args, **more))


def params(launch: dict[str, Any], thinking: str, tmp_path: Path, make: Make) -> dict[str, Any]:
    """What a session sends to a server of this launch, beside the messages."""
    make(18180, launch={"served_name": "mine", **launch})
    (server,) = state.list_servers(tmp_path)
    env = {"KIMI_HOME": str(tmp_path), "KIMI_API_KEY": "sk-of-another-endpoint"}
    flags = local_flags(server.state, server.key)
    settings = load_settings(env=env, project_root=None, flags=flags, trusted=False).settings
    assert settings.endpoint.api_key.get_secret_value() == KEY
    client = build_provider(model_config(settings, settings.model, thinking, ""))
    assert (client.model, client.dialect.name, client.window) == ("mine", "vllm", 40_960)
    return dict(client._chat._params)


KIMI = {"repo": "moonshotai/Kimi-K2.5", "thinking": "switchable"}
QWEN = {"repo": "Qwen/Qwen3.6-27B", "thinking": "switchable"}


@pytest.mark.parametrize(
    ("launch", "thinking", "sent"),
    [
        # A model that the catalogue knows, by whatever name it is served.
        (KIMI, "", {"temperature": 1.0, "top_p": 0.95, "chat_template_kwargs": {"thinking": True}}),
        (KIMI, "off", {"temperature": 0.6, "top_p": 0.95,
                       "chat_template_kwargs": {"thinking": False}}),
        ({"repo": "/models/Kimi-K2-Instruct"}, "", {"temperature": 0.6}),
        # Others go by what the launch says, and vLLM by their generation_config.
        (QWEN, "off", {"chat_template_kwargs": {"thinking": False, "enable_thinking": False}}),
        ({**QWEN, "served_name": "mine", "thinking": "none"}, "on", {}),
        ({"repo": "openai/gpt-oss-20b", "thinking": "effort"}, "high",
         {"reasoning_effort": "high"}),
        ({"repo": "openai/gpt-oss-20b", "thinking": "effort"}, "", {}),
    ],
)  # fmt: skip
def test_what_is_sent_goes_by_the_model_that_is_served(
    launch: dict[str, Any], thinking: str, sent: dict[str, Any], tmp_path: Path, make: Make
) -> None:
    assert params(launch, thinking, tmp_path, make) == sent


def test_a_name_of_the_catalogue_tells_nothing_of_another_model(tmp_path: Path, make: Make) -> None:
    assert lookup("kimi-k2.5").temperature is not None
    make(18180, launch={"served_name": "kimi-k2.5", "repo": "Tiny/Tiny-Coder"})
    (server,) = state.list_servers(tmp_path)
    flags = local_flags(server.state, server.key)
    settings = load_settings(env={}, project_root=None, flags=flags, trusted=False).settings
    client = build_provider(model_config(settings, settings.model, "", ""))
    assert client._chat._params == {}


def test_settings_of_another_endpoint_do_not_come_along(tmp_path: Path, make: Make) -> None:
    (tmp_path / "config.toml").write_text(
        'model = "kimi-k3"\n[endpoint]\nbase_url = "http://127.0.0.1:9/v1"\n'
        'api_key_env = "MY_KEY"\n[endpoint.headers]\nAuthorization = "Bearer sk-secret-header"\n'
        '[models.tiny]\ncontext = 1000\nmedia = ["video"]\n'
    )
    make(18180, launch={"inputs": ("text", "image")}, key="")
    (server,) = state.list_servers(tmp_path)
    env = {"KIMI_HOME": str(tmp_path), "MY_KEY": "sk-mine", "MOONSHOT_API_KEY": "sk-shared"}
    flags = local_flags(server.state, server.key)
    loaded = load_settings(env=env, project_root=None, flags=flags, trusted=False)
    endpoint = loaded.settings.endpoint
    assert endpoint.base_url == "http://127.0.0.1:18180/v1"
    assert endpoint.api_key.get_secret_value() == "" and not endpoint.headers
    assert loaded.key_variables == {"MY_KEY"}
    entry = loaded.settings.models["tiny"]
    assert (entry.context, entry.media) == (40_960, ("image",))
    assert loaded.sources["endpoint.api_key"].kind == "flag"


def test_the_key_is_in_no_words_about_a_place(tmp_path: Path, make: Make) -> None:
    make(18180)
    (server,) = state.list_servers(tmp_path)
    place = place_of(server)
    assert KEY not in repr(place) + repr(place.flags)


def test_which_server_is_meant(tmp_path: Path, make: Make) -> None:
    def meant(wanted: str, **how: Any) -> str | None:
        found = pick(state.list_servers(tmp_path), wanted, **how)
        return found.name if found else None

    assert meant("") is None
    make(18180, "older", started=1.0, launch={"repo": "moonshotai/Kimi-K2.5"})
    assert meant("") == "older"
    make(18181, "newer", started=2.0)
    make(18182, "loading", started=3.0, stage="load", launch={"served_name": "big"})
    make(18183, "gone", started=4.0).die()
    make(18184, "ending", started=5.0, stage="stopping")
    assert [meant(one) for one in ("older", "18181", "big")] == ["older", "newer", "loading"]
    with pytest.raises(Ambiguous, match="18182"):
        meant("tiny/tiny-coder")
    assert meant("kimi-k2.5") == meant("moonshotai/Kimi-K2.5") == "older"
    assert meant("gone") is None and meant("18183") is None
    with pytest.raises(Ambiguous) as several:
        meant("")
    assert "older" in str(several.value) and "18181" in str(several.value)
    assert "gone" not in str(several.value) and "ending" not in str(several.value)
    # One that answers, before one that does not yet.
    assert meant("", newest=True) == "newer"


def test_why_a_server_is_not_there_any_more(tmp_path: Path, make: Make) -> None:
    server = make(18180)
    place = place_of(state.list_servers(tmp_path)[0])
    assert place.trouble() == ""
    server.put("failed", trouble=Trouble("oom", "the GPU's memory is full", "take less context"))
    assert "tiny has ended: the GPU's memory is full. Take less context" in place.trouble()
    assert "`kimi serve restart tiny`" in place.trouble()
    server.put("ready", identity="another")
    assert place.trouble() == ""
    former = server.launch
    server.launch = replace(former, port=18181)
    server.put("ready", identity="another")
    assert "started anew since, and is tiny at http://127.0.0.1:18181/v1, ready" in place.trouble()
    server.launch = former
    server.put("ready", identity="another")
    (server.folder / state.KEY).write_text("kimi-another-key")
    assert "started anew since" in place.trouble()
    server.put("load", identity="another")
    assert "being started again" in place.trouble()
    server.put("ready")
    server.die()
    assert "was killed" in place.trouble() and place.trouble().count("kimi serve restart") == 1
    server.put("stopped")
    assert "tiny has ended: it was stopped. `kimi serve restart tiny`" in place.trouble()


def test_what_is_limited_is_told(tmp_path: Path, make: Make) -> None:
    make(18180, stage="limited", checks=(Checked("chat", True), Checked("tool call", False, "no")))
    (note,) = place_of(state.list_servers(tmp_path)[0]).notes
    assert note == "the local server tiny is limited: tool call: no"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--local"], ["--local", ""]),
        (["--local", "tiny"], ["--local", "tiny"]),
        (["--local", "-p", "hi"], ["--local", "", "-p", "hi"]),
        (["--local", "fix the bug"], ["--local", "", "fix the bug"]),
        (["--local", "tiny", "fix the bug"], ["--local", "tiny", "fix the bug"]),
        (["--local=", "fix the bug"], ["--local=", "fix the bug"]),
        (["-c", "--local"], ["-c", "--local", ""]),
    ],
)
def test_the_value_of_local_may_be_left_out(given: list[str], meant: list[str]) -> None:
    assert filled(given, {"-c"}, OPTIONAL) == meant
