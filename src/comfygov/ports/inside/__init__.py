"""What runs in a trial beside the packs: on its own Python (3.10 to 3.13), with the standard library alone."""
