"""Real machines without a disk boot from this one, in a house whose router gives out the addresses."""
