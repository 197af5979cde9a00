"""Events to everybody who listens: each has a queue, and nobody waits for a slow one."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from examples.attendance.values import ChangeKind, LiveEvent

__all__ = ["Broadcast", "Queue"]

_LONGEST_QUEUE = 500


class Queue:
    """One listener's queue; see :class:`~examples.attendance.interface.Subscription`."""

    def __init__(self, owner: Broadcast) -> None:
        self._owner = owner
        self._events: deque[LiveEvent] = deque(maxlen=_LONGEST_QUEUE)
        self._changed = threading.Condition()
        self._missed = 0

    @property
    def missed(self) -> int:
        """How many events were dropped because nobody took them."""
        return self._missed

    def get(self, timeout_s: float) -> LiveEvent | None:
        """Return the next event, or None after ``timeout_s``."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events), timeout_s)
            return self._events.popleft() if self._events else None

    def put(self, event: LiveEvent) -> None:
        """Add an event; the oldest one is dropped from a full queue."""
        with self._changed:
            self._missed += len(self._events) == _LONGEST_QUEUE
            self._events.append(event)
            self._changed.notify()

    def close(self) -> None:
        """Leave; may be called twice."""
        self._owner.leave(self)

    def __enter__(self) -> Queue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Broadcast:
    """Gives every event to every listener."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: list[Queue] = []

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._queues)

    def subscribe(self) -> Queue:
        """Return a new queue."""
        queue = Queue(self)
        with self._lock:
            self._queues.append(queue)
        return queue

    def leave(self, queue: Queue) -> None:
        """Take a queue out; one that is out already stays out."""
        with self._lock:
            if queue in self._queues:
                self._queues.remove(queue)

    def tell(self, event: LiveEvent) -> None:
        """Give an event to everybody who listens."""
        with self._lock:
            queues = list(self._queues)
        for queue in queues:
            queue.put(event)
            if event.kind is ChangeKind.CLOSED:
                self.leave(queue)
