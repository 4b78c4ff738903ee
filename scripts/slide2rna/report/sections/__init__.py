"""Sections of the report: tables in, rows and sentences out."""
