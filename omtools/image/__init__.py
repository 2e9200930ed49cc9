"""What a process image is: taking it from a stopped process, building a process from it."""
