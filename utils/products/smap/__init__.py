"""SMAP L4 and L3: from the files of NASA, AppEEARS or Earth Engine to a prepared data set."""
