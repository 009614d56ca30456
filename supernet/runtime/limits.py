"""Numbers that may be infinite."""

from typing import Annotated

INFINITE = "inf: no limit"

Limit = Annotated[float, INFINITE]
"""A float that may be infinite, which then means no limit. A setting of any other annotation needs a finite number."""
