"""Metrics: functions of arrays, independent of files and folds."""
