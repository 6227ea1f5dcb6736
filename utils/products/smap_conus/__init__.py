"""Real SMAP L3 and its weather for 412 cells over the United States, as Fang et al. (2017) published them."""
