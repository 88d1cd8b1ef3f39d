"""The kinds of models: `recommend` ranks the next products, `intent` estimates the chance of a purchase."""

from typing import Literal

Kind = Literal["recommend", "intent"]
RECOMMEND = "boat-recommend"
INTENT = "boat-intent"
ENDPOINT_OF = {"recommend": RECOMMEND, "intent": INTENT}
"""Endpoint, and registered model, of each kind of model."""
