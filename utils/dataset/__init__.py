"""The prepared data set: its format and checks, reading in blocks, statistics, antecedent features and known weather."""
