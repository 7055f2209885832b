"""Programs for those who work on comfygov."""
