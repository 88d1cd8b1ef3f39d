"""Models: trained from a snapshot, exported as a `model.tar.gz` that any TensorFlow Serving answers with."""
