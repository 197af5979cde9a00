"""edgeface_export."""
