"""Frozen data: every stored document and every result. No I/O, and nothing else of ours."""
