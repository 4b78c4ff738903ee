"""Figures of the report: matplotlib files and interactive charts."""
