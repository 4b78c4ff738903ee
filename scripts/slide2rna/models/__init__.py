"""Models by name: null models, ridge, published networks, and their folders."""
