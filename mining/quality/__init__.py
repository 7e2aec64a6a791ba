"""How far mined boxes can be trusted: signals per box, and calibrated probabilities."""
