"""Stain study: predictions from tiles that are stained, scanned or compressed differently."""
