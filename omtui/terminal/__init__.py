"""Real terminals inside of the application: the workshop's shell, and consoles of machines."""
