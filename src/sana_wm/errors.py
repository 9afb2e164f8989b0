"""The one exception type for wrong input.

Everything a user can get wrong (a file, a flag, an array, a checkpoint) ends in an :class:`InputError` whose message is
one sentence that names the input, the value that was found and what would be right. The command line prints it and
exits with 2.
"""

from __future__ import annotations


class InputError(ValueError):
    """Raised when something that came from outside is wrong."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, for use within a sentence of ours; its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
