"""Storage: tables, tensors and folds with checksums, stamps of inputs, delimited text."""
