"""HTML pages, cards and charts."""
