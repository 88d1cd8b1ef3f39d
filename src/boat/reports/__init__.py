"""Reports for people, and the server that shows them."""
