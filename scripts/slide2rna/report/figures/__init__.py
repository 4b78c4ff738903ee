"""Report figures: matplotlib files and interactive charts."""
