"""Reads checkpoints that other people trained into named arrays, without running anything in them.

The content decides the format, never the file's ending. Nothing is unpickled and nothing is
imported: a pickle is walked by a small stack machine that builds containers, scalars and tensor
descriptions, and keeps every other class as an inert record.
"""

from edgeface_export.checkpoints.reader import read_checkpoint
from edgeface_export.checkpoints.values import (
    Checkpoint,
    CheckpointFormat,
    CheckpointTensor,
    ReadLimits,
)

__all__ = [
    "Checkpoint",
    "CheckpointFormat",
    "CheckpointTensor",
    "ReadLimits",
    "read_checkpoint",
]
