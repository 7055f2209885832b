"""From a lock to a container image: what goes into one, and the programs that build it. Imports no other room."""
