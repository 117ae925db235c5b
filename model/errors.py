"""The one exception for what a caller can mend."""


class InputError(ValueError):
    """A value that cannot be used, named by its field.

    The HTTP interface turns it into a 4xx problem that names ``field``; the command line into one line on stderr.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        return type(self), (self.field, self.message)  # so that it can come out of a worker process
