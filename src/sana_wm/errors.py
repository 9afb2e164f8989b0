"""The one exception type for wrong input.

Everything a user can get wrong (a file, a flag, an array, a checkpoint) ends in an :class:`InputError` whose message is one
sentence that names the input, the value that was found and what would be right. The command line prints it and exits with 2.
"""

from __future__ import annotations


class InputError(ValueError):
    """Raised when something that came from outside is wrong."""
