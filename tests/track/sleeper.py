"""A process that is told things and does nothing, for as long as it is let."""

from __future__ import annotations

import time

if __name__ == "__main__":
    time.sleep(600)
