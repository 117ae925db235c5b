"""What can be wrong with a request beside its values. problems.py tells which status each becomes."""

from model.errors import InputError


class UnknownModelError(InputError):
    """The model that an address names is not served."""


class TooLargeError(InputError):
    """The picture is beyond the limit of what is rendered while a client waits."""


class UnavailableError(Exception):
    """The service cannot draw at present, and expects to be able to again.

    Attributes:
        checks: what is well and what is not, where that was asked.
    """

    def __init__(self, detail: str, checks: dict[str, bool] | None = None) -> None:
        super().__init__(detail)
        self.checks = checks


class BudgetExceededError(Exception):
    """A key has used up what it may ask for in a minute.

    Attributes:
        key_name: whose budget it is.
        retry_after: seconds, at least 1, after which it is worth asking again; None: it never is, for what was asked
            takes more than a minute's budget.
    """

    def __init__(self, key_name: str, detail: str, retry_after: int | None) -> None:
        super().__init__(detail)
        self.key_name = key_name
        self.retry_after = retry_after


class ClientGoneError(Exception):
    """The client closed its connection before its picture was ready."""
