"""StarCraft II micromanagement: SMAC's marine maps on an embedded, batched combat simulator."""
