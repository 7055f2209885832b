"""From what packs ask for to what the resolver gets, and from its words back to reasons."""
