"""The settings: what can be set, where each value comes from, and which folders are trusted."""

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import kimi_home
from kimi_cli.settings.layers import Source
from kimi_cli.settings.load import Loaded, load_settings
from kimi_cli.settings.schema import Settings
from kimi_cli.settings.trust import distrust, is_trusted, trust, trusted_folders

__all__ = [
    "Loaded",
    "Settings",
    "SettingsError",
    "Source",
    "distrust",
    "is_trusted",
    "kimi_home",
    "load_settings",
    "trust",
    "trusted_folders",
]
