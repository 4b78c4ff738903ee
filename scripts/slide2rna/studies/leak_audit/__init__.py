"""Leak audit: the same models under the clean and the published fold pairing."""
