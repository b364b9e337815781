"""The right-hand side of a wav.scp line: a path, or a command that writes audio and a ``|``."""


def command_of(entry: str) -> str | None:
    """The command of an entry, without the ``|``, which bash runs; None where it is a path.

    Who runs it and who warns of it ask here. Only spaces and tabs around it do not count, as in
    the tables: other white space belongs to the name of a file.
    """
    entry = path_of(entry)
    return path_of(entry[:-1]) if entry.endswith("|") else None


def path_of(entry: str) -> str:
    """The path of an entry that is no command."""
    return entry.strip(" \t")
