"""Sampler study: solvers, step counts, and a one-step student."""
