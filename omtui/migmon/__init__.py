"""The showpiece: nodes in a circle, processes that move between them."""
