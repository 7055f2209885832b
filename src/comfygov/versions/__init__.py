"""Versions: a state under a name, as one file that any machine can reproduce and prove."""
