"""Kept keys: bound to their endpoint, private, below every other source; what login keeps; and what
Moonshot's own programs have."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kimi_cli.settings import Loaded, SettingsError, load_settings
from kimi_cli.settings.credentials import (
    credentials_file,
    forget_key,
    keep_key,
    keyring_name,
    origin_of,
    stored_key,
    stored_keys,
)
from kimi_cli.settings.legacy import legacy_endpoints
from kimi_cli.settings.login import keep_login

KEY = "sk-abcdefghijklmnop1234"
URL = "https://api.moonshot.ai/v1"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "KIMI_HOME": str(tmp_path / "kimi")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "kimi"


def loaded(env: Mapping[str, str], root: Path | None = None, **flags: object) -> Loaded:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(env=env, project_root=root, flags=given, trusted=True)


def key_of(found: Loaded) -> str:
    return found.settings.endpoint.api_key.get_secret_value()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.moonshot.ai/v1", "https://api.moonshot.ai"),
        ("https://API.Moonshot.AI:443/other", "https://api.moonshot.ai"),
        ("https://api.moonshot.ai./v1", "https://api.moonshot.ai"),
        ("http://api.moonshot.ai/v1", "http://api.moonshot.ai"),
        ("http://h:80", "http://h"),
        ("https://h:80", "https://h:80"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["", "moonshot", "https://", "http://h:port/"])
def test_what_is_no_url_has_no_origin(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        origin_of(url)
    assert stored_key(tmp_path, url) is None


@given(key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_key_comes_back_for_its_own_endpoint_only(key: str, tmp_path: Path) -> None:
    keep_key(tmp_path, URL, key)
    found = stored_key(tmp_path, "https://API.moonshot.ai/v2")
    assert found is not None and found.key == key and not found.problem
    assert key not in repr(found) or key in "StoredKey(https://api.moonshot.ai)"
    for other in (
        "http://api.moonshot.ai/v1",
        "https://api.moonshot.ai:8443/v1",
        "https://api.moonshot.cn/v1",
        "https://api.moonshot.ai.evil.example/v1",
        "https://evil.example/api.moonshot.ai",
    ):
        assert stored_key(tmp_path, other) is None


def test_only_the_owner_can_read_it(home: Path) -> None:
    former = os.umask(0)
    try:
        path = keep_key(home, URL, KEY)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]
        # A folder that was made looser is made tight again.
        path.parent.chmod(0o755)
        keep_key(home, URL, KEY)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(former)


@pytest.mark.parametrize(("which", "mode"), [("file", 0o640), ("file", 0o604), ("folder", 0o750)])
def test_loosened_modes_are_warned_of(
    home: Path, env: dict[str, str], which: str, mode: int
) -> None:
    path = keep_key(home, URL, KEY)
    assert loaded(env).warnings == []
    place = path if which == "file" else path.parent
    place.chmod(mode)
    found = loaded(env)
    assert key_of(found) == KEY
    assert len(found.warnings) == 1
    assert str(place) in found.warnings[0] and "chmod" in found.warnings[0]
    assert KEY not in found.warnings[0]


def test_every_other_source_comes_first(home: Path, env: dict[str, str], tmp_path: Path) -> None:
    path = keep_key(home, URL, KEY)
    found = loaded(env)
    assert key_of(found) == KEY
    assert str(found.sources["endpoint.api_key"]) == f"stored {path}"

    assert key_of(loaded({**env, "KIMI_API_KEY": "sk-env"})) == "sk-env"
    assert key_of(loaded({**env, "MOONSHOT_API_KEY": "sk-shared"})) == "sk-shared"
    assert key_of(loaded(env, endpoint__api_key="sk-flag")) == "sk-flag"
    assert key_of(loaded(env, endpoint__api_key="")) == ""
    (home / "config.toml").write_text('endpoint.api_key = "sk-file"\n')
    assert key_of(loaded(env)) == "sk-file"
    # An empty one is as good as none.
    (home / "config.toml").write_text('endpoint.api_key = ""\n')
    assert key_of(loaded(env)) == KEY
    (home / "config.toml").write_text('endpoint.api_key_env = "MINE"\n')
    assert key_of(loaded({**env, "MINE": "sk-named"})) == "sk-named"
    (home / "config.toml").write_text('endpoint.headers.authorization = "Basic x"\n')
    assert key_of(loaded(env)) == ""


def test_it_goes_to_no_other_endpoint(home: Path, env: dict[str, str], tmp_path: Path) -> None:
    keep_key(home, URL, KEY)
    other = "https://collector.example/v1"
    assert key_of(loaded(env, endpoint__base_url=other)) == ""
    assert key_of(loaded({**env, "KIMI_BASE_URL": other})) == ""
    root = tmp_path / "project"
    (root / ".kimi").mkdir(parents=True)
    (root / ".kimi" / "config.toml").write_text(f'endpoint.base_url = "{other}"\n')
    assert key_of(loaded(env, root)) == ""
    # Nor by the file of one endpoint under the name of another.
    shutil.copy(credentials_file(home, URL), credentials_file(home, other))
    found = loaded(env, root)
    assert key_of(found) == "" and "is no key of https://collector.example" in found.warnings[0]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"endpoint": "https://api.moonshot.ai"}', b"\xff", b"1" * 2**21]
)
def test_a_broken_file_is_a_warning(home: Path, env: dict[str, str], content: bytes) -> None:
    path = keep_key(home, URL, KEY)
    path.write_bytes(content)
    found = loaded(env)
    assert key_of(found) == ""
    assert len(found.warnings) == 1 and str(path) in found.warnings[0]


def test_keys_are_listed_and_forgotten(home: Path) -> None:
    assert stored_keys(home) == []
    first = keep_key(home, URL, KEY)
    second = keep_key(home, "http://127.0.0.1:8000/v1", KEY)
    assert sorted(stored_keys(home)) == [
        ("http://127.0.0.1:8000", second),
        ("https://api.moonshot.ai", first),
    ]
    forget_key(first)
    assert stored_key(home, URL) is None
    assert [path for _, path in stored_keys(home)] == [second]
    forget_key(first)


# A package of this name with the functions of keyring that are used (its README, "API"), as the
# machine's own one would ask somebody.
RING = """
import json, pathlib, time
FILE = pathlib.Path(__file__).with_name("ring.json")
class Ring: name = "test ring"
def get_keyring(): return Ring()
def _all(): return json.loads(FILE.read_text()) if FILE.exists() else {}
def set_password(service, user, word):
    BEHAVIOUR
    FILE.write_text(json.dumps({**_all(), f"{service} {user}": word}))
def get_password(service, user):
    BEHAVIOUR
    return _all().get(f"{service} {user}")
def delete_password(service, user):
    BEHAVIOUR
    FILE.write_text(json.dumps({k: v for k, v in _all().items() if k != f"{service} {user}"}))
"""


class Ring:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def behave(self, line: str) -> None:
        (self.folder / "keyring.py").write_text(RING.replace("BEHAVIOUR", line))
        sys.modules.pop("keyring", None)
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)

    def words(self) -> dict[str, str]:
        file = self.folder / "ring.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    folder = tmp_path / "packages"
    folder.mkdir()
    yield Ring(folder, monkeypatch)
    sys.modules.pop("keyring", None)


def test_a_keyring_that_works_keeps_the_key(ring: Ring, home: Path, env: dict[str, str]) -> None:
    ring.behave("pass")
    assert keyring_name() == "test ring"
    assert ring.words() == {}
    path = keep_key(home, URL, KEY, keyring=True)
    assert KEY not in path.read_text()
    assert ring.words() == {"kimi-cli https://api.moonshot.ai": KEY}
    found = loaded(env)
    assert key_of(found) == KEY and "keyring" in str(found.sources["endpoint.api_key"])
    forget_key(path)
    assert ring.words() == {} and stored_key(home, URL) is None


def test_a_keyring_that_refuses_or_hangs_is_none(
    ring: Ring, home: Path, env: dict[str, str]
) -> None:
    ring.behave("pass")
    path = keep_key(home, URL, KEY, keyring=True)
    ring.behave(f"raise RuntimeError({KEY!r})")
    assert keyring_name() is None
    found = loaded(env)
    assert key_of(found) == "" and "RuntimeError" in found.warnings[0]
    assert KEY not in found.warnings[0]
    with pytest.raises(SettingsError):
        forget_key(path)
    assert path.exists()
    ring.behave("time.sleep(60)")
    start = time.monotonic()
    assert keyring_name() is None
    assert time.monotonic() - start < 30


def test_without_the_package_there_is_no_keyring(ring: Ring, home: Path) -> None:
    (ring.folder / "keyring.py").write_text("raise ImportError('no backend')\n")
    assert keyring_name() is None
    with pytest.raises(SettingsError, match="not installed"):
        keep_key(home, URL, KEY, keyring=True)
    assert stored_key(home, URL) is None


def test_login_keeps_what_later_runs_use(home: Path, env: dict[str, str]) -> None:
    home.mkdir()
    (home / "config.toml").write_text("# mine\nbudget.max_steps = 7 # few\n")
    done, notes = keep_login(env, "http://127.0.0.1:8000/v1", "kimi-k3", KEY)
    assert notes == [] and not any(KEY in line for line in done)
    found = loaded(env)
    assert found.settings.endpoint.base_url == "http://127.0.0.1:8000/v1"
    assert found.settings.model == "kimi-k3" and key_of(found) == KEY
    text = (home / "config.toml").read_text()
    assert "# mine\nbudget.max_steps = 7 # few\n" in text and KEY not in text
    # Without a key the former one is no longer sent.
    keep_login(env, "http://127.0.0.1:8000/v1", "kimi-k3", "")
    assert key_of(loaded(env)) == ""
    above = {**env, "KIMI_MODEL": "kimi-k2.6", "KIMI_API_KEY": "sk-env"}
    _, notes = keep_login(above, URL, "kimi-k3", KEY)
    assert [note.split()[0] for note in notes] == ["KIMI_MODEL", "KIMI_API_KEY"]


def test_a_key_in_the_settings_file_does_not_follow_to_another_endpoint(
    home: Path, env: dict[str, str]
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(
        '[endpoint]\nbase_url = "https://old.example/v1"\napi_key = "sk-old"\ndialect = "vllm"\n'
        'headers.x-team = "blue"\n'
    )
    _, notes = keep_login(env, "http://127.0.0.1:8000/v1", "kimi-k3", "")
    found = loaded(env)
    assert key_of(found) == "" and found.settings.endpoint.dialect == "auto"
    assert any("x-team" in note for note in notes)
    back = loaded(env, endpoint__base_url="https://old.example/v1")
    assert key_of(back) == "sk-old"
    (home / "config.toml").write_text('[endpoint]\napi_key_env = "MINE"\n')
    keep_login({**env, "MINE": "sk-mine"}, "http://127.0.0.1:8000/v1", "kimi-k3", KEY)
    assert key_of(loaded({**env, "MINE": "sk-mine"})) == KEY


TOML = """
default_model = "k"
[providers.moon]
type = "kimi"
base_url = "https://api.moonshot.ai/v1/"
api_key = "sk-moon"
[providers.sub]
type = "kimi"
base_url = "https://api.kimi.com/coding/v1"
api_key = "sk-kimi-sub"
[providers.signed-in]
type = "kimi"
base_url = "https://api.kimi.com/coding/v1"
api_key = ""
oauth = { key = "x" }
[providers.claude]
type = "anthropic"
base_url = "https://api.anthropic.com"
api_key = "sk-ant"
[providers.broken]
type = "kimi"
base_url = "nowhere"
api_key = "sk-broken"
[models.z]
provider = "moon"
model = "kimi-k2.6"
max_context_size = 1
[models.k]
provider = "sub"
model = "kimi-for-coding"
max_context_size = 262144
"""


def test_legacy_configurations_are_read_and_left_alone(tmp_path: Path, env: dict[str, str]) -> None:
    assert legacy_endpoints(env) == []
    folder = tmp_path / ".kimi"
    folder.mkdir()
    file = folder / "config.toml"
    file.write_text(TOML)
    file.chmod(0o400)
    before = (file.stat().st_mtime_ns, sorted(folder.iterdir()))
    found = legacy_endpoints(env)
    assert [(one.base_url, one.model, one.key) for one in found] == [
        ("https://api.kimi.com/coding/v1", "kimi-for-coding", "sk-kimi-sub"),
        ("https://api.moonshot.ai/v1", "kimi-k2.6", "sk-moon"),
    ]
    assert "sk-moon" not in repr(found)
    assert before == (file.stat().st_mtime_ns, sorted(folder.iterdir()))

    other = tmp_path / "elsewhere"
    other.mkdir()
    document = {
        "default_model": "",
        "models": {},
        "providers": {
            "mine": {"type": "openai_legacy", "base_url": "http://gpu:8000/v1", "api_key": "x"}
        },
    }
    (other / "config.json").write_text(json.dumps(document))
    found = legacy_endpoints({**env, "KIMI_SHARE_DIR": str(other)})
    assert [(one.base_url, one.model) for one in found] == [("http://gpu:8000/v1", "")]


@pytest.mark.parametrize(
    "text", ["", "=", "providers = 3", "[providers]\nx = 1", "[models]\nm = 2\n[providers.p]\n"]
)
def test_a_broken_legacy_configuration_holds_nothing(
    tmp_path: Path, env: dict[str, str], text: str
) -> None:
    (tmp_path / ".kimi").mkdir()
    (tmp_path / ".kimi" / "config.toml").write_text(text)
    assert legacy_endpoints(env) == []
