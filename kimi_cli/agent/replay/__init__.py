"""A stored session as a recording: taken apart, and carried out again without its model."""
