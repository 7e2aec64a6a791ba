"""Steps of flows, with retries, progress and artifacts."""
