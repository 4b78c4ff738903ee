"""Uncertainty: calibration, conformal intervals, pathway intervals, co-expression."""
