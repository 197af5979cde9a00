"""``python -m edgeface``."""

from edgeface.cli import main

if __name__ == "__main__":
    main()
