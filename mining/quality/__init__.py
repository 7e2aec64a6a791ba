"""How far the boxes of a run can be trusted: signals and calibration, draws for a person to judge, verdicts, estimates."""
