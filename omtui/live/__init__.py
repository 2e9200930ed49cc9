"""What happens at this moment."""
