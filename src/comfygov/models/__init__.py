"""Model files: what a spec wants, where it comes from, the store that holds one copy, and what is on disk."""
