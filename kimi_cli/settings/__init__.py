"""The settings: what can be set, where each value comes from, and which folders are trusted."""

from importlib import import_module
from typing import TYPE_CHECKING

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import kimi_home, user_home
from kimi_cli.settings.rules import KeptRule, drop_rule, keep_rule, kept_rules
from kimi_cli.settings.trust import (
    decline,
    declined_folders,
    distrust,
    is_declined,
    is_trusted,
    trust,
    trusted_folders,
)

if TYPE_CHECKING:
    from kimi_cli.settings.layers import Source
    from kimi_cli.settings.load import Loaded, load_settings
    from kimi_cli.settings.schema import Settings
else:
    # The model costs a third of the start of who only wants to know where KIMI_HOME is.
    _LATE = {"Loaded": "load", "Settings": "schema", "Source": "layers", "load_settings": "load"}

    def __getattr__(name: str) -> object:
        if name not in _LATE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


__all__ = [
    "KeptRule",
    "Loaded",
    "Settings",
    "SettingsError",
    "Source",
    "decline",
    "declined_folders",
    "distrust",
    "drop_rule",
    "is_declined",
    "is_trusted",
    "keep_rule",
    "kept_rules",
    "kimi_home",
    "load_settings",
    "trust",
    "trusted_folders",
    "user_home",
]
