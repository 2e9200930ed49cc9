"""System calls as data: every x86-64 call's class and the shapes of its arguments, and how they travel."""
