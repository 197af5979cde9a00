"""Changes people's second factors so that the door's state and log know of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgeface.access.clock import DoorClocks
from edgeface.access.events import AccessEventKind
from edgeface.access.folder import is_in_use, require_private
from edgeface.access.keys import AccessKeys
from edgeface.access.memory import DoorMemory
from edgeface.access.second_factor import FactorStore, ScryptCost
from edgeface.errors import AccessStateError

__all__ = ["edit_factors"]


@contextmanager
def edit_factors(
    folder: Path,
    keys: AccessKeys,
    *,
    clocks: DoorClocks | None = None,
    anchor_folder: Path | None = None,
    cost: ScryptCost | None = None,
) -> Iterator[FactorStore]:
    """Give the second factors of the door in ``folder``, to be changed.

    Afterwards the door's state knows the new version, so that an older file that is put back is
    refused, and the log has a record. While a controller has the door open it does both itself, at
    its next decision. Ask people for their PINs before: no controller can start meanwhile.

    Raises:
        AccessStateError: State or second factors are missing, changed or older, or cannot be
            written.
        AuditError: The log is missing or changed, or cannot be written.
    """
    require_private(folder)
    if is_in_use(folder):
        yield FactorStore(folder, keys, cost=cost)
        return
    clocks = clocks or DoorClocks()
    with DoorMemory(
        folder, keys, clocks, anchor_folder=anchor_folder, keeps_anchor=False
    ) as memory:
        store = FactorStore(folder, keys, cost=cost)
        if store.version < memory.state.factors_version:
            raise AccessStateError(
                "the second factors of the door are an older copy; put the newest file back"
            )
        try:
            yield store
        finally:
            if store.version != memory.state.factors_version:
                state = replace(memory.state, factors_version=store.version)
                record = (AccessEventKind.FACTORS.value, {"version": store.version})
                memory.remember(state, record)
