"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell's background job, and so a CI that is one, is begun with Ctrl-C ignored, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
