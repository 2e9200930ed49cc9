"""The screens: openMosixview's and mosmon's, in the terminal. Clients of the command API and nothing else."""
