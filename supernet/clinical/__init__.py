"""How well a classifier answers yes or no, as medical papers report it: numbers with intervals, on numpy alone.

Everything is about the images whose answer is known, and takes scores and answers as arrays: it knows nothing of
networks. What cannot be said, such as the area under a curve of a class that no test image has, is None.
"""
