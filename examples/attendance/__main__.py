"""``python -m examples.attendance``."""

from __future__ import annotations

from examples.attendance.cli import main

if __name__ == "__main__":
    main()
