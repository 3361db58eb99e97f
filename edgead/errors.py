"""The one root of edgead's own errors: the message tells a user what was found and what to do."""


class EdgeadError(ValueError):
    """Something that the user can mend; the command line prints the message without a traceback."""


class SettingsError(EdgeadError):
    """A setting, option or name that cannot be used."""
