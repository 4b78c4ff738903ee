"""Uncertainty: calibration, conformal intervals, pathway intervals, sharpness, co-expression."""
