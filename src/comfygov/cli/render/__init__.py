"""Results and errors for people and for programs: the only room that prints."""
