"""What can be wrong with an object of the API server."""

__all__ = ["BadObject", "OperatorError"]


class OperatorError(Exception):
    """Root of everything the operator and ``kubectl carp`` raise on purpose; the text is for the user."""


class BadObject(OperatorError):
    """An object that the schema should have refused; the text says which field and why."""
