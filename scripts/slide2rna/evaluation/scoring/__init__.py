"""Scoring: all models on the same folds, with a paired bootstrap over patients."""
