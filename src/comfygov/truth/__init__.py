"""What the state is declared and locked to be, and how it is committed and brought to disk."""
