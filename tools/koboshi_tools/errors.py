"""Errors, sorted by who must act on them.

`ToolError` is read by the model, which goes on. `KoboshiError` and its children are read by the operator: the message
says what failed and the value seen, `hint` says the way out, and the CLI prints both and exits with `exit_code`.
Anything else that is raised is a bug of ours and crashes.
"""


class ToolError(Exception):
    """Raised by a tool for the model to read: it becomes the call's result, and the run goes on."""


class KoboshiError(Exception):
    """Something the operator must know; `hint` is the way out, printed on a line of its own."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(KoboshiError):
    """Wrong usage or bad input; nothing was done."""

    exit_code = 2


class NoSandboxError(KoboshiError):
    """No sandbox here can hold the call, which was not made; the message names what is missing."""


class RefusedError(KoboshiError):
    """A gate or a policy said no."""

    exit_code = 3
