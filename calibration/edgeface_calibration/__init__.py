"""edgeface_calibration."""
