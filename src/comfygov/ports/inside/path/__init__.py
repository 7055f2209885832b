"""Put on the path of a trial's Python: what watches, and what stands in for installers."""
