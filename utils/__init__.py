"""Everything the experiment scripts share: data, models, training, evaluation, maps."""
