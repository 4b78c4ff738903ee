"""HTTP: one client, resumable files, and many files at a time."""
