"""From activation maps to regions and boxes."""
