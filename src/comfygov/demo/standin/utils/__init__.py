"""Start-up helpers of the stand-in."""
