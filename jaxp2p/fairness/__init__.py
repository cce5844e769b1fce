"""Who gets what of a community's benefit: the game, its solutions, measures of a split, transfers.

On the host, in NumPy and SciPy: what a run did is given, and only money is looked at here.
"""
