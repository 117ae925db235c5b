"""What can be wrong with an address."""

from model.errors import InputError


class BadSyntaxError(InputError):
    """The address does not follow the specification, or asks for what no picture has: 400."""


class UnknownIdentifierError(InputError):
    """The identifier names no picture: 404."""


class UnsupportedError(InputError):
    """The address follows the specification, but asks for what this service leaves out: 501."""
