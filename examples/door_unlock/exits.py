"""Ways to tell a door that people went out, which anti-passback needs: see README.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeface.errors import InvalidInputError, MissingDependencyError

__all__ = ["ExitPin"]

# A contact chatters for some milliseconds when it closes.
_BOUNCE_S = 0.05


class ExitPin:
    """A contact between a GPIO pin and ground; ``on_closed`` is called each time that it closes."""

    def __init__(self, pin: int, on_closed: Callable[[], object]) -> None:
        """Listen to ``pin``, a BCM number.

        Raises:
            MissingDependencyError: gpiozero is not installed.
            InvalidInputError: The pin cannot be had.
        """
        try:
            from gpiozero import Button, GPIOZeroError
        except ImportError as exc:
            raise MissingDependencyError("gpiozero", extra="gpio") from exc
        try:
            self._button: Any = Button(pin, pull_up=True, bounce_time=_BOUNCE_S)
        except (GPIOZeroError, OSError) as exc:
            raise InvalidInputError(
                f"the exit contact at GPIO {pin} cannot be had ({exc}); check the pin's number and "
                "the rights of this user (group gpio)"
            ) from exc
        self._button.when_pressed = lambda *_: on_closed()

    def close(self) -> None:
        """Give the pin back; may be called twice."""
        self._button.close()
