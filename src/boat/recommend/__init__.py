"""Models of the next products, and how they are evaluated."""
