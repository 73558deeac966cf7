"""A look at an input before anything is learned: what a new model would be made for."""
