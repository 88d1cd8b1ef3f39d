"""Models of purchase intent, and how they are evaluated."""
