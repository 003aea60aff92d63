"""What loading settings can raise."""


class SettingsError(Exception):
    """A setting that can't be used; the message is for people and names where it stands. Never
    contains the value of a key or header."""
