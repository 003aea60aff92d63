"""The first run: which endpoint, which key, which model; tried out for real, then kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from kimi_cli.frontends.doctor.servers import find_servers
from kimi_cli.frontends.doctor.trial import greet, listed, settings_for
from kimi_cli.frontends.plain import clean, seconds
from kimi_cli.frontends.terminal.dialog import Option, ask_text, choose, require_terminal
from kimi_cli.frontends.terminal.dialog_frame import columns
from kimi_cli.frontends.wrap import StreamWrap
from kimi_cli.model.catalogue import lookup
from kimi_cli.model.dialects import recognised
from kimi_cli.model.errors import REMEDIES, ConfigError
from kimi_cli.protocol.provider import ErrorClass, ModelError
from kimi_cli.settings import SettingsError
from kimi_cli.settings.credentials import FOLDER, keyring_name
from kimi_cli.settings.files import kimi_home
from kimi_cli.settings.layers import API_KEY, problems
from kimi_cli.settings.legacy import legacy_endpoints
from kimi_cli.settings.login import keep_login
from kimi_cli.settings.schema import Settings

MOONSHOT = "https://api.moonshot.ai/v1"
MOONSHOT_CN = "https://api.moonshot.cn/v1"
SUBSCRIPTION = "https://api.kimi.com/coding/v1"
REFUSED = (ErrorClass.AUTH, ErrorClass.PERMISSION)
_URL_HELP = "It usually ends in /v1, as in http://gpu-box:8000/v1"


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint to try. ``key`` None: the user is asked for it; "": none is sent unless the
    endpoint wants one. ``page`` is where a key comes from. ``models`` are those that the endpoint
    is known to have, best first."""

    base_url: str
    model: str = ""
    key: str | None = field(default=None, repr=False)
    page: str = ""
    models: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc


async def first_run(env: Mapping[str, str], home: Path, *, test: bool = True) -> bool:
    """Set up an endpoint, a key and a model together with the user; True when they are kept and
    will be used, False when the user left. ``env`` is the environment of the settings, ``home`` is
    KIMI_HOME; without ``test`` nothing is asked of the endpoint but its models.

    Raises NoTerminal where nobody can be asked, and SettingsError when what is there can't be
    read or nothing can be kept.
    """
    require_terminal()
    if kimi_home(env) != home:
        env = {**env, "KIMI_HOME": str(home)}
    while True:
        place = await _where(env)
        if place is None:
            return False
        if place.base_url == "":
            continue
        done = await _Connecting(env, home, place, test).run()
        if done:
            return True


async def _where(env: Mapping[str, str]) -> Place | None:
    """The endpoint that the user chooses; one without a URL where they thought better of it."""
    places: dict[str, Place] = {
        "international": Place(MOONSHOT, "", page="platform.moonshot.ai/console/api-keys"),
        "china": Place(MOONSHOT_CN, "", page="platform.moonshot.cn/console/api-keys"),
        "subscription": Place(SUBSCRIPTION, "kimi-for-coding", page="www.kimi.com/code"),
    }
    options = [
        Option("international", "Moonshot, international", "api.moonshot.ai"),
        Option("china", "Moonshot, China", "api.moonshot.cn"),
        Option("subscription", "Kimi subscription", "api.kimi.com/coding"),
        Option("other", "another endpoint", "any that speaks OpenAI's protocol"),
    ]
    for number, old in enumerate(legacy_endpoints(env)):
        key = f"legacy-{number}"
        places[key] = Place(old.base_url, old.model, old.key)
        shown = f"{old.model or 'its key'} at {places[key].host}"
        options.append(Option(key, f"as in {_short(old.file, env)}", shown))

    async def arriving() -> AsyncIterator[Option]:
        async for server in find_servers(env):
            port = urlsplit(server.base_url).port
            models = _best_first(server.models, Settings().model)
            places[server.base_url] = Place(server.base_url, "", server.key, models=models)
            more = f" and {len(models) - 1} more" if len(models) > 1 else ""
            label = f"this machine, {server.name} on port {port}"
            yield Option(server.base_url, label, f"{models[0]}{more}")

    chosen = await choose("Where is the model served?", options, arriving=arriving())
    if chosen == "other":
        url = await ask_text("URL", default="http://", check=_url_problem, body=[_URL_HELP])
        return Place((url or "").rstrip("/"), "")
    return places[chosen] if chosen else None


class _Connecting:
    """Gets one endpoint to work, or gives up."""

    def __init__(self, env: Mapping[str, str], home: Path, place: Place, test: bool) -> None:
        self._env = env
        self._home = home
        self._place = place
        self._test = test
        self._model = place.model
        self._listed: tuple[str, ...] | None = None

    async def run(self) -> bool:
        """True when the endpoint works, or the user wants it as it is, and it is kept."""
        while True:
            if not await self._have_key():
                return False
            _say(f"asking {self._place.host} for its models")
            try:
                error = await self._look()
                if error is None and not await self._have_model():
                    return False
                if error is None and self._test:
                    error = await self._try()
            except (ConfigError, SettingsError) as problem:
                error = ModelError(ErrorClass.REQUEST, str(problem))
            if error is None:
                return await self._keep()
            match await self._after(error):
                case "keep":
                    return (bool(self._model) or await self._have_model()) and await self._keep()
                case "back" | None:
                    return False
                case "key":
                    self._place = replace(self._place, key=None)
                case "model":
                    self._model = ""
                    self._place = replace(self._place, model="")

    @property
    def _settings(self) -> Settings:
        key = self._place.key or ""
        return settings_for(self._env, self._place.base_url, key, self._model)

    async def _have_key(self) -> bool:
        if self._place.key is not None:
            return True
        hosted = recognised(self._place.base_url) is not None
        body = [f"Keys are made at {self._place.page}"] if self._place.page else []
        if not hosted:
            body = ["Leave it empty where the server asks for none"]

        def check(text: str) -> str | None:
            if hosted and not text:
                return "a key is needed here"
            return key_problem(text)

        label = f"API key for {self._place.host}"
        key = await ask_text(label, secret=True, check=check, body=body)
        if key is None:
            return False
        self._place = replace(self._place, key=key)
        return True

    async def _look(self) -> ModelError | None:
        """Ask for the models; an endpoint that does not list them may be right all the same."""
        found = await listed(self._settings)
        if found.error is None:
            names = [model.id for model in found.models]
            self._listed = _best_first(names, self._settings.model)
            return None
        if found.error.kind in (*REFUSED, ErrorClass.NETWORK, ErrorClass.STALL):
            return found.error
        self._listed = ()
        return None

    async def _have_model(self) -> bool:
        known = self._listed or ()
        if self._model and (not known or self._model in known):
            return True
        if self._model:
            _say(f"{self._place.host} does not have {self._model}")
        if len(known) == 1:
            self._model = known[0]
            _say(f"the model is {self._model}")
            return True
        if known:
            options = [Option(name, name, _about(name)) for name in known]
            self._model = await choose("Which model?", options) or ""
        else:
            self._model = await ask_text("The model's name", check=_name_problem) or ""
        return bool(self._model)

    async def _try(self) -> ModelError | None:
        _say(f"asking {self._model} for an answer")
        outcome = await greet(self._settings)
        if isinstance(outcome, ModelError):
            return outcome
        took = seconds(outcome)
        _say(f"it works{': answered in ' + took if took else ''}")
        return None

    async def _after(self, error: ModelError) -> str | None:
        """What to do about a failure: again, key, model, keep or back."""
        for line in explained(error, self._place.host):
            _say(line)
        if error.kind is ErrorClass.AUTH:
            return "key"
        if error.kind is ErrorClass.MODEL_MISSING:
            if self._listed and self._model in self._listed:
                self._listed = tuple(name for name in self._listed if name != self._model)
            return "model"
        options = [
            Option("again", "try again"),
            Option("key", "give another key"),
            Option("model", "choose another model"),
            Option("back", "choose another endpoint"),
            Option("keep", "keep it as it is", "it may work later"),
        ]
        if error.kind in (ErrorClass.NETWORK, ErrorClass.STALL):
            options = [one for one in options if one.key not in ("key", "model")]
        return await choose("What now?", options)

    async def _keep(self) -> bool:
        key = self._place.key or ""
        ring = await self._ring() if key else False
        if ring is None:
            return False
        done, notes = keep_login(self._env, self._place.base_url, self._model, key, keyring=ring)
        for line in done:
            _say(f"kept: {line}")
        for line in notes:
            _say(f"note: {line}")
        return True

    async def _ring(self) -> bool | None:
        """Whether the key goes into the keyring; None when the user leaves."""
        name = await asyncio.to_thread(keyring_name)
        if name is None:
            return False
        options = [
            Option("file", "a file that only you can read", f"{self._home / FOLDER}"),
            Option("keyring", "the system's keyring", name),
        ]
        chosen = await choose("Where is the key kept?", options)
        return None if chosen is None else chosen == "keyring"


def explained(error: ModelError, host: str) -> list[str]:
    """A failed trial in plain words: what happened, and what to do."""
    what = {
        ErrorClass.AUTH: f"{host} does not take this key",
        ErrorClass.PERMISSION: f"{host} takes the key, but does not let it do this",
        ErrorClass.QUOTA: f"the key is right, but {host} says that its balance or plan is used up",
        ErrorClass.MODEL_MISSING: f"{host} does not have this model",
        ErrorClass.NETWORK: "",
    }.get(error.kind, f"{host} answered with an error")
    words = clean(error.message)
    return [f"{what}: {words}" if what else words, REMEDIES[error.kind].advice]


def key_problem(text: str) -> str | None:
    """What is wrong with a text as a key; the text is never in it."""
    for _, message in problems({API_KEY: text}):
        return f"a key {message}"
    return None


def _url_problem(text: str) -> str | None:
    for _, message in problems({("endpoint", "base_url"): text}):
        return f"this {message}"
    return None


def _name_problem(text: str) -> str | None:
    return None if text else "a name is needed"


def _best_first(models: Sequence[str], default: str) -> tuple[str, ...]:
    """The default model where it is there, then those we know, then the others."""
    known = sorted(models, key=lambda name: (name != default, not lookup(name).listed))
    return tuple(dict.fromkeys(known))


def _about(name: str) -> str:
    info = lookup(name)
    return f"{info.context // 1024}k context" if info.listed else ""


def _short(path: Path, env: Mapping[str, str]) -> str:
    home = env.get("HOME")
    return f"~/{path.relative_to(home)}" if home and path.is_relative_to(home) else str(path)


def _say(text: str) -> None:
    wrap = StreamWrap(columns() - 1, "  ")
    print(wrap.feed(clean(text)) + wrap.end(), flush=True)
