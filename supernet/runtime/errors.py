"""The one error type for mistakes in what a person gave."""


class InputError(ValueError):
    """A mistake in what a person gave, in one line: what, the value, what is allowed, the way out."""
