"""The prepared data set: format and checks, reading in blocks, statistics, antecedent features, known weather."""
