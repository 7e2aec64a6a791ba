"""Extract regions and boxes from activation maps."""
