"""What rbf-op demo shows: show.py prints; question, layer_timing, digits and figure compute."""
