"""The whole study: which runs there are, how they are run, and the report of their results."""
