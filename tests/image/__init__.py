"""Images that are built and run: slow, and only where there is an engine."""
