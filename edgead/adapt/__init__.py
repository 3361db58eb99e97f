"""What changes a finished model: final calibration, thresholds, commissioning and teaching on the device."""
