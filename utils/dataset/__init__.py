"""The prepared data set: format, checks, blocks, statistics, predictors by name, antecedent features, known weather."""
