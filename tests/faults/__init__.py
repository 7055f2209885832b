"""Kills, full disks, missing file system features, clocks that jump: production is the old or the new state."""
