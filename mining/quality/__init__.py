"""How far the boxes of a run can be trusted: draws for a person to judge, verdicts, and estimates from them."""
