"""SMAP L4: from NASA's granules to a prepared data set."""
