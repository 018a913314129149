"""Networks only: layers, mixers, and the two networks of individuality."""
