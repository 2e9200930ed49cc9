"""The kernel's interfaces, typed, one file each: nothing here decides anything."""
