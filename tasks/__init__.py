"""One step each: what a flow does next, with retries, progress and artifacts."""
