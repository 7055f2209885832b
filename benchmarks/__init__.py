"""Programs that measure comfygov against the bare tools, in turn and in the same run."""
