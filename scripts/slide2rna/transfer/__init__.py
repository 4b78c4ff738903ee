"""Downloads over HTTP: client, resumable files, and batches of files."""
