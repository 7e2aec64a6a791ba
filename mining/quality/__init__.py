"""How far boxes can be trusted: signals and calibration, samples for people to judge, verdicts, estimates."""
