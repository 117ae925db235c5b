"""The exception for invalid input of callers."""


class InputError(ValueError):
    """An invalid value of ``field``.

    The HTTP API answers it with a 4xx problem that names the field, the command line with one line on stderr.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        return type(self), (self.field, self.message)  # makes it picklable, for worker processes
