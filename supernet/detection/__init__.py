"""Objects and their boxes: the head that finds them, what it learns from, and how it is judged."""
