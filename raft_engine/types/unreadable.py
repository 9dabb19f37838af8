"""What msgspec raises for bytes that are not what they should be.

Its own errors, and what escapes from it: text that is no UTF-8 (`UnicodeDecodeError`, a `ValueError`) and nesting without end.
"""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
