"""The evaluation of models on days that they have not seen."""
