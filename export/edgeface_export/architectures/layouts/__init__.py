"""One small file for each layout; the table is in :mod:`edgeface_export.architectures`."""
