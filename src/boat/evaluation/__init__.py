"""How good a model is on the days it has not seen."""
