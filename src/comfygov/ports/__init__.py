"""The only rooms that touch the world. Everything that waits has a deadline."""
