"""Storage: tables, tensors and folds in files whose checksums are compared when they are read."""
